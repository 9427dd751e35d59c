"""A worker is stopped (SIGSTOP) for longer than its lease, and continues as if nothing had happened."""

import asyncio

import pytest

from authsvc.verify.lease import certainly_over
from tests.e2e.process import on_linux
from tests.faults.conftest import Scene
from tests.faults.history import Ending, Outcome
from tests.faults.load import Load
from tests.faults.proxy import Proxy
from tests.faults.worker import STAGES
from tests.faults.workers import Fleet

pytestmark = on_linux


@pytest.mark.parametrize("stage", STAGES)
async def test_a_worker_that_was_stopped_tells_the_truth_or_nothing(
    scene: Scene, database_url: str, volume: int, stage: str
) -> None:
    """At any point: in turn until the revocations were answered and until it was reaped.

    In the first case the database is also unreachable for a while, so that only
    its stopwatch shows the worker that its lease is over.
    """
    async with Proxy(database_url) as proxy:

        def arrange(on: Fleet) -> None:
            on.workers[0].use_database(proxy.url)

        async with scene(workers=3, arrange=arrange) as (on, load):
            load.revokers = on.workers[1:]

            async def stop_twice() -> None:
                await stop(on, load, stage, proxy)
                await stop(on, load, stage)

            await stop_twice()
            await load.reach(volume, stop_twice)


async def stop(on: Fleet, load: Load, stage: str, way: Proxy | None = None) -> None:
    """Stop the first worker at a stage, revoke, and let it continue, with its database proxy cut if given.

    If none is given, it continues when its registration was removed.
    """
    victim, other, _ = on.workers
    keys = await asyncio.gather(*(load.make() for _ in range(4)))
    registration = victim.registrations[-1]
    victim.stop_at(stage)
    # Its hint names no keys, so the feed is read.
    revoking = asyncio.create_task(load.revoke_owner())
    await victim.stopped()
    # These wait in its queue, and are answered when it continues.
    asked = [load.verify_soon(key, victim) for key in keys]
    answers = await asyncio.gather(*(load.revoke(key, other) for key in keys))
    for answer in answers:
        assert answer.ending is Ending.OK
        assert answer.within(certainly_over(on.lease))
    asked += [load.verify_soon(key, victim) for key in keys]
    if way is None:
        await on.gone(registration)
        victim.go_on()
        await asyncio.gather(*asked)
    else:
        way.cut()
        victim.go_on()
        await asyncio.gather(*asked)
        for key in keys:
            assert await load.verify(key, victim) is Outcome.UNAVAILABLE
        way.heal()
    await revoking
    await load.recovered(victim)
    assert way is not None or victim.registrations[-1] != registration


@pytest.mark.parametrize("stage", ["before-renewal", "renewal-sent"])
async def test_reapers_and_slow_renewals_race(scene: Scene, volume: int, stage: str) -> None:
    """Two of four stop around a renewal for about as long as reapers wait; both recover, reaped or not."""
    async with scene(workers=4) as (on, load):
        *victims, _, _ = on.workers
        load.revokers = on.workers[2:]
        reaped = 0

        async def race(seconds: float) -> None:
            nonlocal reaped
            before = [victim.registrations[-1] for victim in victims]
            for victim in victims:
                victim.stop_at(stage)
            await asyncio.gather(*(victim.stopped() for victim in victims))
            key = await load.make(warm=False)
            # The fault itself: reapers check five times a lease, and so somewhat before or after this.
            await asyncio.sleep(seconds)
            for victim in victims:
                victim.go_on()
            await load.revoke(key, on.workers[2])
            await asyncio.gather(*(load.recovered(victim) for victim in victims))
            reaped += sum(
                victim.registrations[-1] != registration
                for victim, registration in zip(victims, before, strict=True)
            )

        async def races() -> None:
            for part in (0.0, 0.25, 0.5):
                await race(certainly_over(on.lease) + part * on.lease)

        await races()
        await load.reach(volume, races)
        print(f"{reaped} registrations were reaped")  # noqa: T201
