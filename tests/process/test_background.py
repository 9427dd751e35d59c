"""Work beside requests: it goes on after errors, and ends when it is told to."""

import asyncio
from contextlib import suppress

import pytest

from authsvc.app.background import in_background, run_forever
from authsvc.model.errors import Unavailable
from authsvc.store.uncancelled import uncancelled


@pytest.mark.parametrize(
    "error", [Unavailable("cut off", reason="COMMIT_UNCERTAIN", retry_after=1), OSError("broken")]
)
async def test_work_whose_commit_fails_ends_when_it_is_cancelled(error: Exception) -> None:
    """The commit is waited for. Its error does not stand in for the cancellation."""
    begun, cut_off = asyncio.Event(), asyncio.Event()

    async def commit() -> None:
        begun.set()
        await cut_off.wait()
        raise error

    async def tick() -> None: ...

    work = run_forever(lambda: uncancelled(commit()), tick, "committing")
    async with asyncio.timeout(10):
        async with in_background(work):
            await begun.wait()
            asyncio.get_running_loop().call_later(0.01, cut_off.set)


async def test_work_goes_on_after_errors() -> None:
    """Those that pass, and faults."""
    steps = iter([Unavailable("away", reason="DATABASE_UNAVAILABLE", retry_after=1), OSError("broken"), None])
    done = asyncio.Event()

    async def step() -> None:
        with suppress(StopIteration):
            if (error := next(steps)) is not None:
                raise error
            done.set()

    async def tick() -> None:
        await asyncio.sleep(0)

    async with in_background(run_forever(step, tick, "stepping")):
        await asyncio.wait_for(done.wait(), 10)
