"""The answer to a revocation is lost; the retry gives the same guarantee."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from tests.e2e.process import on_linux
from tests.faults.conftest import Scene
from tests.faults.history import Ending, Outcome

pytestmark = on_linux


@pytest.mark.parametrize("how", ["the deadline is short", "the client goes away"])
async def test_a_retry_waits_for_whoever_has_not_confirmed(scene: Scene, volume: int, how: str) -> None:
    """After DEADLINE_EXCEEDED or no answer, …_ALREADY_REVOKED once no worker can answer VALID any more."""
    async with scene(workers=3, lease=5) as (on, load):
        stopped, first, second = on.workers
        load.revokers = [first, second]

        async def lose_an_answer() -> None:
            keys = await asyncio.gather(*(load.make() for _ in range(3)))
            await stopped.stop()
            asked = [load.verify_soon(key, stopped, timeout=10) for key in keys]
            if how == "the deadline is short":
                for answer in await asyncio.gather(*(load.revoke(key, first, timeout=4) for key in keys)):
                    assert (answer.ending, answer.reason) == (Ending.UNKNOWN, "WORKERS_UNCONFIRMED")
                    assert answer.message.startswith("durably revoked, 1 worker")
            else:
                lost = [load.revoke_soon(key, first) for key in keys]
                # Until all are durable, which the other workers show.
                for key in keys:
                    await load.until_told(partial(load.verify, key, second), Outcome.REVOKED)
                assert not any(task.done() for task in lost)
                for task in lost:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
            retries = await asyncio.gather(*(load.revoke(key, second) for key in keys))
            asked += [load.verify_soon(key, stopped, timeout=10) for key in keys]
            stopped.go_on()
            for retry in retries:
                assert retry.ending is Ending.ALREADY
                # The rest of a lease that the stopped worker might have held.
                assert retry.seconds > 0.2 * on.lease
            for key in keys:
                assert Outcome.VALID not in await load.verify_everywhere(key)
            assert set(await asyncio.gather(*asked)) <= {Outcome.REVOKED, Outcome.UNAVAILABLE}
            await load.recovered(stopped)

        await lose_an_answer()
        await load.reach(volume, lose_an_answer)
