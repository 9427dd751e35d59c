"""Work that runs for as long as a process lives, beside the requests of a worker."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from authsvc.model.errors import RetryableError

_log = logging.getLogger(__name__)

Step = Callable[[], Awaitable[object]]


def each(seconds: float) -> Step:
    """Return a tick of this length."""
    return partial(asyncio.sleep, seconds)


async def run_forever(step: Step, tick: Step, what: str, *, level: int = logging.DEBUG) -> None:
    """Run a step after each tick. A step that fails is logged and run again at the next tick.

    `what` names the work in the log, as in "writing last uses". Of errors that pass, such as a database out
    of reach, the first in a row is logged, at `level`; a fault is logged each time, with its traceback.
    """
    failing = False
    while True:
        await tick()
        try:
            await step()
        except RetryableError as error:
            if not failing:
                _log.log(level, "%s failed and will be retried: %s", what, error.message)
            failing = True
        except Exception:  # noqa: BLE001 - a fault must not end the work
            _log.exception("unexpected error in %s; it will be retried", what)
        else:
            failing = False


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine while the block runs."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def flush_at_end(flush: Step, what: str) -> None:
    """Write what was to be written behind, at the end; log what is lost."""
    try:
        await flush()
    except RetryableError as error:
        _log.warning("the %s are lost: %s", what, error.message)
    except Exception:  # noqa: BLE001 - the rest is to be drained all the same
        _log.exception("the %s are lost", what)
