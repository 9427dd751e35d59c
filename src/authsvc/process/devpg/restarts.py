"""A server that is started again when it ends, for instance by a crash or when memory runs out."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authsvc.process.devpg.error import DevPostgresError
from authsvc.process.devpg.server import DevPostgres

_log = logging.getLogger(__name__)

# The next start of a server that ended earlier than this is delayed.
_STABLE_SECONDS = 10.0
_DELAY_SECONDS = 1.0


@asynccontextmanager
async def kept_running(postgres: DevPostgres) -> AsyncIterator[None]:
    """Start the server again whenever it ends while the block runs, at the same URL.

    When it cannot be started again, the block is cancelled, and DevPostgresError is raised.
    """
    block = asyncio.current_task()
    assert block is not None  # noqa: S101 - a coroutine that runs has a task
    keeping = asyncio.create_task(_keep(postgres))

    def give_up(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            block.cancel()

    keeping.add_done_callback(give_up)
    try:
        yield
    except asyncio.CancelledError:
        if keeping.done():
            block.uncancel()
            await keeping  # which raises
        raise
    finally:
        keeping.remove_done_callback(give_up)
        keeping.cancel()
        await asyncio.wait([keeping])


async def _keep(postgres: DevPostgres) -> None:
    url = postgres.url
    while True:
        started = time.monotonic()
        _log.error("PostgreSQL has ended (%s) and is started again", _end(await postgres.wait()))
        if time.monotonic() - started < _STABLE_SECONDS:
            await asyncio.sleep(_DELAY_SECONDS)
        await postgres.start()
        if postgres.url != url:
            raise DevPostgresError(
                "PostgreSQL has ended, and another program has taken its port since; start authsvc again"
            )
        _log.info("PostgreSQL runs again")


def _end(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
