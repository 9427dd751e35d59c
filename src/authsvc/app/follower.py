"""The follower of a replica: in a process of its own, or in the only worker."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from authsvc.app.background import in_background
from authsvc.app.database import Wait, served_database
from authsvc.config.settings import ConfigError, Settings
from authsvc.model.errors import RetryableError
from authsvc.net.lent_leases import LentLeases
from authsvc.net.private_listener import PrivateListener
from authsvc.revocation.follower import Follower
from authsvc.revocation.predecessors import Predecessors
from authsvc.revocation.remote_holders import RemoteHolders
from authsvc.store.feed import FeedConnection
from authsvc.store.pool import Database
from authsvc.verify.clock import Stopwatch, boottime


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How a replica registers: whom it succeeds, and whom it tells each id that it registers under."""

    predecessors: Predecessors = field(default_factory=Predecessors)
    # Until when clients of the replica's workers may answer.
    lent: LentLeases = field(default_factory=LentLeases)
    on_register: Callable[[UUID], object] = lambda _: None


def follower_of(
    settings: Settings,
    url: str,
    registration: Registration,
    stopwatch: Stopwatch,
    on_turn: Callable[[], object] = lambda: None,
) -> tuple[Follower, FeedConnection]:
    """Return a follower, and the connection that it follows the feed on."""
    lease = settings.lease.total_seconds()
    connection = FeedConnection(
        url, lease=lease, listen=settings.feed == "listen", on_connect=lambda: follower.note_reconnected()
    )
    follower = Follower(
        connection,
        seconds=lease,
        poll_interval=settings.feed_poll_interval.total_seconds(),
        stopwatch=stopwatch,
        predecessors=registration.predecessors,
        lent_until=registration.lent.of,
        on_register=registration.on_register,
        on_turn=on_turn,
    )
    connection.on_hint(follower.hint)
    return follower, connection


async def join(
    follower: Follower, connection: FeedConnection, database: Database, settings: Settings
) -> None:
    """Register, and take the lease. Raises ConfigError when that is not possible, or hints do not arrive."""
    try:
        await follower.start()
        has_hints = settings.feed == "poll" or await connection.hears_from(database)
    except RetryableError as error:
        raise ConfigError(f"AUTHSVC_DATABASE_URL: cannot register this worker: {error}") from error
    if not has_hints:
        raise ConfigError(
            "AUTHSVC_DATABASE_URL: hints of changes (LISTEN, NOTIFY) do not arrive. Behind a pooler "
            "in transaction mode, or if the database does not support them, set AUTHSVC_FEED=poll"
        )


@asynccontextmanager
async def following(
    settings: Settings,
    registration: Registration,
    listener: PrivateListener,
    on_turn: Callable[[], object],
) -> AsyncIterator[Follower]:
    """Follow the feed for the workers that attach by the `listener`, while the block runs or one is left.

    `on_turn` is called every few seconds as long as it does.

    Raises ConfigError when the database cannot be used.
    """
    # One connection, for the checks of the start.
    one = settings.model_copy(update={"database_pool_size": 1})
    # The first worker says what is waited for.
    wait = Wait(settings.wait_for_database, logging.DEBUG)
    async with served_database(one, wait) as (database, url):
        follower, connection = follower_of(settings, url, registration, boottime, on_turn)
        with RemoteHolders(follower, listener):
            try:
                await join(follower, connection, database, settings)
                async with in_background(follower.run()):
                    yield follower
                    # Workers that drain have their leases until then, also if their supervisor is gone.
                    await follower.holders.emptied()
            finally:
                await follower.stop()
