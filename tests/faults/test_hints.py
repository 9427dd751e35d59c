"""Hints are lost: revocations take longer, and are just as reliable."""

import asyncio

from tests.faults.conftest import Scene
from tests.faults.history import Ending


async def test_without_any_hint_the_next_renewal_tells(scene: Scene) -> None:
    """Workers that wait for hints and receive none read the feed ten times per lease."""
    async with scene(workers=3, lease=2) as (on, load):
        for worker in on.workers:
            worker.order("deaf")
        keys = [await load.make() for _ in range(20)]
        for key, worker in zip(keys, on.workers * 7, strict=False):
            answer = await load.revoke(key, worker)
            assert answer.ending is Ending.OK
            assert answer.within(on.lease / 10)


async def test_the_listening_sessions_are_ended_again_and_again(scene: Scene, volume: int) -> None:
    """Workers reconnect, read the feed, and keep their registration."""
    async with scene(workers=3, lease=5) as (on, load):
        before = [worker.registrations for worker in on.workers]

        async def end_all() -> None:
            ended = {worker: worker.feed_pid for worker in on.workers}
            await on.sql("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid", list(ended.values()))
            keys = await asyncio.gather(*(load.make() for _ in range(3)))
            for key, worker in zip(keys, on.workers, strict=True):
                answer = await load.revoke(key, worker)
                assert answer.ending is Ending.OK
                assert answer.seconds < on.lease
            await load.until(lambda: all(worker.feed_pid != pid for worker, pid in ended.items()))

        for _ in range(5):
            await end_all()
        await load.reach(volume, end_all)
        assert [worker.registrations for worker in on.workers] == before
