"""Work that is not cancelled with its caller, who is cancelled after it, however it ends."""

import asyncio
from collections.abc import Callable

import pytest

from authsvc.model.errors import Unavailable
from authsvc.store.uncancelled import uncancelled

_ERRORS = [Unavailable("cut off", reason="COMMIT_UNCERTAIN", retry_after=1), OSError("broken")]

with_each_outcome = pytest.mark.parametrize("error", [None, *_ERRORS])


def _current() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def _work(error: Exception | None, ready: Callable[[], object]) -> str:
    """Work until `ready`, and then fail or succeed."""
    while not ready():  # noqa: ASYNC110 - there is no event of a cancellation
        await asyncio.sleep(0)
    if error is not None:
        raise error
    return "done"


async def test_a_caller_that_stays_gets_the_result_or_the_error() -> None:
    assert await uncancelled(_work(None, lambda: True)) == "done"
    for error in _ERRORS:
        with pytest.raises(type(error)) as caught:
            await uncancelled(_work(error, lambda: True))
        assert caught.value is error


@with_each_outcome
@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_caller_is_cancelled_after_the_work(error: Exception | None, times: int) -> None:
    """However often it is cancelled. The error does not stand in for the cancellation, and is its cause."""
    ready, ended = asyncio.Event(), list[BaseException]()

    async def call() -> None:
        try:
            await uncancelled(_work(error, ready.is_set))
        except BaseException as end:
            ended.append(end)
            raise

    calling = asyncio.create_task(call())
    for _ in range(times):
        await asyncio.sleep(0)
        calling.cancel()
        await asyncio.sleep(0)
    assert not calling.done()
    ready.set()
    await asyncio.wait((calling,))
    assert calling.cancelled()
    [end] = ended
    assert end.__cause__ is error


@with_each_outcome
async def test_a_caller_that_is_cancelled_as_the_work_ends(error: Exception | None) -> None:
    """It has not seen yet how that ended."""

    async def call() -> None:
        caller = _current()
        await uncancelled(_work(error, caller.cancel))

    calling = asyncio.create_task(call())
    await asyncio.wait((calling,))
    assert calling.cancelled()


@with_each_outcome
async def test_a_caller_whose_time_is_over_gets_a_timeout(error: Exception | None) -> None:
    """After the work. It goes on, and is not cancelled any more."""
    caller = _current()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await uncancelled(_work(error, caller.cancelling))
    assert not caller.cancelling()


@with_each_outcome
async def test_a_caller_that_is_cancelled_before_its_time_is_over(error: Exception | None) -> None:
    """That is no timeout, also if the time is over before the work is."""

    async def call() -> None:
        caller = _current()
        async with asyncio.timeout(None) as limit:
            caller.cancel()
            limit.reschedule(0)
            await uncancelled(_work(error, lambda: limit.expired() or caller.cancelling() == 2))

    calling = asyncio.create_task(call())
    await asyncio.wait((calling,))
    assert calling.cancelled()


async def test_work_that_is_cancelled_itself() -> None:
    """As all tasks are when the event loop ends."""

    async def work() -> None:
        _current().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await uncancelled(work())
    assert not _current().cancelling()
