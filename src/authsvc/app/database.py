"""Opens the database, and checks its schema."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authsvc.config.settings import ConfigError, Settings
from authsvc.model.errors import Unavailable
from authsvc.store.migrate import MigrationError, pending
from authsvc.store.pool import Database


@asynccontextmanager
async def served_database(settings: Settings) -> AsyncIterator[tuple[Database, str]]:
    """Yield the database, reachable and with the schema of this version, and its URL."""
    if settings.database_url is None:
        raise ConfigError("AUTHSVC_DATABASE_URL: set it, or use `authsvc dev` for a database of its own")
    url, pooler = settings.database_url.get_secret_value(), settings.feed == "poll"
    async with Database.open(url, size=settings.database_pool_size, pooler=pooler) as database:
        await _check_schema(database)
        yield database, url


async def _check_schema(database: Database) -> None:
    try:
        missing = await pending(database)
    except Unavailable as error:
        cause = str(error if error.reason == "DATABASE_POOLED" else error.__cause__ or error)
        if "startup parameter" in cause:
            cause += (
                " (pgbouncer: set AUTHSVC_FEED=poll, or session mode and ignore_startup_parameters = jit)"
            )
        raise ConfigError(f"AUTHSVC_DATABASE_URL: cannot use the database: {cause}") from error
    except ValueError:
        # The driver's own words may hold a part of the password.
        raise ConfigError("AUTHSVC_DATABASE_URL: the driver cannot read it; check its options") from None
    except MigrationError as error:
        raise ConfigError(str(error)) from error
    if missing:
        raise ConfigError(f"the database lacks {', '.join(missing)}: run `authsvc migrate` first")
