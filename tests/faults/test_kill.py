"""Workers die under load, and their registrations are not removed."""

import random

from authsvc.verify.lease import certainly_over
from tests.faults.conftest import Scene
from tests.faults.history import Ending


async def test_without_a_fault_nothing_is_wrong(scene: Scene) -> None:
    """The load itself: no violation, and no verification without a verdict."""
    async with scene(workers=2, lease=20) as (_, load):
        await load.see_changes(20)
    assert not load.refusals["LEASE_OVER"]


async def test_random_workers_are_killed_and_come_back(scene: Scene, volume: int) -> None:
    """Revocations wait for the lease of the dead worker and then answer, repeatedly."""
    dice = random.Random(7)  # noqa: S311
    async with scene(workers=3) as (on, load):

        async def lose_one() -> None:
            victim = dice.choice(on.workers)
            survivor = next(worker for worker in on.workers if worker is not victim)
            key = await load.make()
            await victim.kill()
            answer = await load.revoke(key, survivor)
            assert answer.ending is Ending.OK
            assert answer.within(certainly_over(on.lease))
            await load.see(50, survivor)
            await victim.start()
            await load.see(50, victim)

        await lose_one()
        await load.reach(volume, lose_one)


async def test_a_dead_worker_is_waited_for_once(scene: Scene) -> None:
    """A revocation takes as long as the lease and no longer; once the worker is reaped, none waits."""
    async with scene(workers=3, lease=3) as (on, load):
        victim, survivor, _ = on.workers
        first, second = [await load.make() for _ in range(2)]
        [dead] = victim.registrations
        await victim.kill()
        answer = await load.revoke(first, survivor)
        assert answer.ending is Ending.OK
        # Reapers count from its last renewal, so some of the time may be over when this begins.
        assert on.lease / 2 < answer.seconds
        assert answer.within(certainly_over(on.lease))
        await on.gone(dead)
        assert (await load.revoke(second, survivor)).within(0)


async def test_whoever_knows_its_predecessor_to_be_dead_frees_those_who_wait(scene: Scene) -> None:
    """A worker that is started in place of a dead one removes the old registration at once."""
    async with scene(workers=3, lease=20) as (on, load):
        victim, survivor, _ = on.workers
        before, after = [await load.make() for _ in range(2)]
        dead = tuple(victim.registrations)
        await victim.kill()
        waiting = load.revoke_soon(before, survivor)
        await load.see(50, survivor)
        assert not waiting.done()
        await victim.start(predecessors=dead)
        answer = await waiting
        assert answer.ending is Ending.OK
        assert answer.seconds < on.lease / 2
        assert (await load.revoke(after, survivor)).within(0)
