"""Opens the database, and checks that it can be served from."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from authsvc.config.duration import format_duration
from authsvc.config.settings import ConfigError, Settings
from authsvc.model.errors import Unavailable
from authsvc.store import feed
from authsvc.store.hosts import InvalidUrlError
from authsvc.store.migrate import MigrationError, NotGrantedError, pending
from authsvc.store.pool import Database
from authsvc.store.requirements import check_database
from authsvc.verify.clock import DatabaseClock, boottime

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0


class _NotReadyError(ConfigError):
    """The database is out of reach or not migrated, which may change."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait for the database, and the level at which to log what is waited for."""

    length: timedelta = timedelta(0)
    level: int = logging.INFO


#: Not to wait.
AT_ONCE = Wait()


@asynccontextmanager
async def served_database(settings: Settings, wait: Wait = AT_ONCE) -> AsyncIterator[tuple[Database, str]]:
    """Yield the database, reachable and with the schema of this version, and its URL.

    Raises an OperatorError when it is not, and did not become so while we waited.
    """
    if settings.database_url is None:
        raise ConfigError("AUTHSVC_DATABASE_URL: set it, or use `authsvc dev` for a database of its own")
    url, pooler = settings.database_url.get_secret_value(), settings.feed == "poll"
    async with Database.open(url, size=settings.database_pool_size, pooler=pooler) as database:
        await _wait_for(database, pooler, wait)
        yield database, url


async def read_time(database: Database, clock: DatabaseClock) -> None:
    """Set a clock to the time of the database."""
    async with database.connection() as connection:
        asked = boottime()
        clock.set(await feed.now(connection), asked, boottime())


async def _wait_for(database: Database, pooler: bool, wait: Wait) -> None:
    loop = asyncio.get_running_loop()
    until, length, told = loop.time() + wait.length.total_seconds(), format_duration(wait.length), ""
    while True:
        try:
            await _check(database, pooler)
        except _NotReadyError as error:
            left = until - loop.time()
            if not wait.length:
                raise
            if left <= 0:
                raise ConfigError(f"{error} (after a wait of {length}: AUTHSVC_WAIT_FOR_DATABASE)") from error
            if str(error) != told:
                _log.log(wait.level, "waiting up to %s for the database: %s", length, error)
                told = str(error)
            await asyncio.sleep(min(_PAUSE_SECONDS, left))
        else:
            if told:
                _log.log(wait.level, "the database is ready")
            return


async def _check(database: Database, pooler: bool) -> None:
    try:
        async with database.connection() as connection:
            await check_database(connection, pooler=pooler)
        missing = await pending(database)
    except Unavailable as error:
        cause = error if error.reason == "DATABASE_POOLED" else error.__cause__
        # Some errors of the driver have no text.
        told = str(cause) or str(error)
        raise _NotReadyError(f"AUTHSVC_DATABASE_URL: cannot use the database: {told}") from error
    except InvalidUrlError as error:
        raise ConfigError(f"AUTHSVC_DATABASE_URL: {error}") from error
    except NotGrantedError as error:
        raise _NotReadyError(str(error)) from error
    except MigrationError as error:
        raise ConfigError(str(error)) from error
    if missing:
        raise _NotReadyError(f"the database lacks {', '.join(missing)}: run `authsvc migrate` first")
