"""Workers start while keys are revoked; a key is revoked while it is looked up; clocks are wrong."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.faults.conftest import Scene
from tests.faults.history import Ending, Outcome
from tests.faults.load import KEY, Key
from tests.faults.workers import Fleet, Worker

# How far a worker's reading of the database's time, and the test's reading, may be off.
_BLUR = 0.3


async def test_twenty_workers_start_in_a_storm_of_revocations(scene: Scene) -> None:
    """A worker that starts while keys are revoked knows it, or is waited for."""
    options = {"changers": 4, "verifiers": 1, "keys": 40}
    async with scene(workers=2, lease=2, load=options, database_pool_size=2) as (on, load):
        new = [on.add() for _ in range(18)]
        load.revokers = on.workers[:2]
        for worker in new:
            worker.launch()

        async def join(worker: Worker) -> None:
            await worker.ready()
            load.add_verifiers(worker)
            await load.see(20, worker)

        revoked = len(load.history.changes)
        await asyncio.gather(*map(join, new))
        await load.see_changes(20)
        assert len(on.serving) == 20
        assert len(load.history.changes) > revoked


@pytest.mark.parametrize("hold", ["hold-read", "hold-proof"])
async def test_a_look_up_under_way_does_not_bring_a_revoked_key_back(
    scene: Scene, volume: int, hold: str
) -> None:
    """Paused with the old row read, or before the proof, while the revocation is answered.

    Sessions are paused only with the row read: they have no proof to wait for.
    """
    kind = KEY if hold == "hold-proof" else None
    async with scene(workers=2, lease=2) as (on, load):
        slow, quick = on.workers
        load.revokers = [quick]

        async def hold_up() -> None:
            keys = await asyncio.gather(*(load.make(kind=kind, warm=False) for _ in range(5)))
            slow.order(hold)
            held = len(slow.held)
            asked = [load.verify_soon(key, slow) for key in keys]
            await load.until(lambda: len(slow.held) >= held + len(keys))
            for key in keys:
                answer = await load.revoke(key, quick)
                assert answer.ending is Ending.OK
            later = [load.verify_soon(key, slow) for key in keys]
            slow.order(hold, on=False)
            await asyncio.gather(*asked)
            assert set(await asyncio.gather(*later)) == {Outcome.REVOKED}
            for key in keys:
                assert await load.verify(key, slow) is Outcome.REVOKED

        await hold_up()
        await load.reach(volume, hold_up)


async def test_the_wall_clock_of_a_worker_decides_nothing(scene: Scene, volume: int) -> None:
    """An hour slow or fast, it lets keys live and die at the right time, and its lease end in time."""

    def confuse(on: Fleet) -> None:
        for worker, seconds in zip(on.workers, (0, 3600, -3600), strict=True):
            worker.wall_clock = seconds

    async with scene(workers=3, arrange=confuse) as (on, load):
        for worker in on.workers:
            wrong = (datetime.fromisoformat(worker.believed_time) - datetime.now(UTC)).total_seconds()
            assert abs(wrong - worker.wall_clock) < 120

        async def watch(key: Key, worker: Worker, expiry: float) -> None:
            """Verify until well after the end; each verdict has to be right within the tolerance."""
            invoked, outcome = 0.0, Outcome.UNAVAILABLE
            # The last one is from then; one that was delayed in between shows nothing yet.
            while outcome is not Outcome.EXPIRED or invoked < expiry + 2 * _BLUR:
                invoked = time.time()
                outcome = await load.verify(key, worker)
                answered = time.time()
                if answered < expiry - _BLUR:
                    assert outcome in (Outcome.VALID, Outcome.UNAVAILABLE), f"on {worker.name}"
                if invoked > expiry + _BLUR:
                    assert outcome in (Outcome.EXPIRED, Outcome.UNAVAILABLE), f"on {worker.name}"
                await asyncio.sleep(0.01)
                assert invoked < expiry + 60, f"{worker.name} never says EXPIRED"

        async def let_expire() -> None:
            long = [
                await load.make(worker=worker, kind=KEY, ttl=Duration(seconds=1800), warm=False)
                for worker in on.workers
            ]
            short = [
                await load.make(worker=worker, kind=KEY, ttl=Duration(seconds=2), warm=False)
                for worker in on.workers
            ]
            for key in long:
                assert set(await load.verify_everywhere(key)) == {Outcome.VALID}
            await asyncio.gather(*(watch(key, worker, key.expiry) for key in short for worker in on.workers))
            for key in long:
                assert set(await load.verify_everywhere(key)) == {Outcome.VALID}

        async def stop_the_fast_one() -> None:
            """Its lease also ends by the stopwatch."""
            _, fast, slow = on.workers
            for victim, other in ((fast, slow), (slow, fast)):
                key = await load.make()
                await victim.stop()
                answer = await load.revoke(key, other)
                victim.go_on()
                assert answer.ending is Ending.OK
                await load.recovered(victim)

        load.revokers = on.workers[:1]
        await let_expire()
        await stop_the_fast_one()
        await load.reach(volume, let_expire)
