"""The composition root: builds the parts, runs them, drains them.

The only package that knows every part. `verification` and `use_cases` put together those of a kind, and
`parts` all of them, before any runs. `serving` runs a worker, `entrance` is what its calls pass, `background`
runs what is done beside requests, and `gauges` shows what the parts count. `follower` and `notifier` are the
processes that work for the workers of a replica.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authsvc.app.connection_limits import check_open_files
from authsvc.app.database import read_time, served_database
from authsvc.app.defaults import default_policy_of
from authsvc.app.drain import DrainPauses
from authsvc.app.follower import Registration, following
from authsvc.app.notifier import notifying
from authsvc.app.parts import App, composed
from authsvc.app.serving import running
from authsvc.app.transport import transport
from authsvc.config.settings import Settings
from authsvc.keys import Keys
from authsvc.keys.tag_keys import TagKeys
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.store.policies import PolicyStore
from authsvc.verify.clock import DatabaseClock

__all__ = [
    "App",
    "DrainPauses",
    "Registration",
    "administering",
    "check_open_files",
    "following",
    "looking_after_tag_keys",
    "notifying",
    "running",
    "served_database",
    "transport",
]


@asynccontextmanager
async def administering(settings: Settings) -> AsyncIterator[Keys]:
    """Yield the use cases of keys without serving, for what comes before the first worker."""
    # One connection for who mints the first key, and one that keeps others from doing so, too.
    size = max(2, settings.database_pool_size)
    async with composed(settings.model_copy(update={"database_pool_size": size})) as app:
        await read_time(app.database, app.database_clock)
        yield app.keys


@asynccontextmanager
async def looking_after_tag_keys(settings: Settings) -> AsyncIterator[TagKeys]:
    """Yield the use cases of tag keys, as the role that owns the schema if there are two."""
    url = settings.migration_database_url or settings.database_url
    async with served_database(settings.model_copy(update={"database_url": url})) as (database, _):
        authority = Authority(database, PolicyStore(default_policy_of(settings)), DatabaseClock())
        yield TagKeys(database, Barrier(database, authority))
