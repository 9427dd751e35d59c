"""The feed and the registrations of workers, as rows.

`FeedConnection` is a worker's own connection: hints (LISTEN) need one that no
pool takes back, and following the feed must not wait for a place in a pool. The
functions below it are for those who publish and those who look.
"""

import asyncio
import logging
import math
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg

from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry, Place, Renewal
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.model.worker import Worker
from authsvc.store.driver_errors import raise_on_warning, translate_errors
from authsvc.store.pool import Connection, Database, connect_options
from authsvc.store.queries import load_queries

_log = logging.getLogger(__name__)

_SQL = load_queries("feed.sql")
_CHANNEL = "authsvc_feed"
_PATIENCE = 5.0
_MAX_BEATS = 100
# How many keys a hint names at most; it has 8,000 bytes.
_MAX_TOLD = 100


class FeedConnection:
    """One worker's connection; made when first needed, and made anew after any trouble.

    Implements WorkerFeed of `revocation`. Bound: a quarter of the lease for
    each operation, so that there is time for another try.
    """

    def __init__(
        self,
        url: str,
        *,
        lease: float,
        listen: bool,
        on_connect: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._url = url
        self._patience = min(_PATIENCE, lease / 4)
        self._listen = listen
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._heard = False
        self._warned = False
        self._awaited = ""
        self._arrived = asyncio.Event()
        # The last beat that is known to be committed, and those that may be.
        self._beats: list[UUID] = []
        self._on_connect = on_connect
        self._on_hint: Callable[[FeedEntry | None], object] = lambda _: None

    @property
    def hears(self) -> bool:
        """Whether hints arrive: one that we sent to ourselves did."""
        return self._heard and self._connection is not None and not self._connection.is_closed()

    def on_hint(self, call: Callable[[FeedEntry | None], object]) -> None:
        """Have `call` called when there may be news, with the entry if the hint has it."""
        self._on_hint = call

    async def hears_from(self, database: Database) -> bool:
        """Say whether a hint from another connection arrives, which a pooler may prevent."""
        self._awaited, self._arrived = f"probe {uuid4()}", asyncio.Event()
        with translate_errors():
            async with database.connection() as connection:
                await connection.execute(_SQL["notify"], self._awaited)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), _PATIENCE)
        return self._arrived.is_set()

    async def register(self, worker_id: UUID, lease: float, predecessors: Collection[UUID]) -> FeedEntry:
        """Make this worker known in a transaction of its own; then return the feed's end (R1)."""
        beat = uuid4()
        async with self._asking() as connection:
            if predecessors:
                await connection.execute(_SQL["leave"], list(predecessors))
            await connection.execute(
                _SQL["register"], worker_id, math.ceil(lease * 1000), socket.gethostname(), os.getpid(), beat
            )
        self._beats = [beat]
        async with self._asking() as connection:
            [row] = await connection.fetch(_SQL["find_head"])
        return FeedEntry(Place(row["seq"], row["nonce"]), (), None, tag_keys=_tag_keys(row))

    async def renew(self, worker_id: UUID, place: Place) -> Renewal | None:
        """Prove registration, place and primary (R2)."""
        async with self._asking() as connection:
            before, beat = self._beats, uuid4()
            self._beats = [*before[-_MAX_BEATS:], beat]
            rows = await connection.fetch(_SQL["renew"], worker_id, *place, beat, before)
        self._beats = [beat]
        if self._listen and not self._heard and not self._warned:
            self._warned = True
            _log.warning(
                "hints of changes do not arrive, so the feed is polled: if a pooler lends connections for "
                "a transaction only, set AUTHSVC_FEED=poll"
            )
        return Renewal(rows[0]["now"], _entries(rows)) if rows else None

    async def read(self, place: Place) -> Sequence[FeedEntry] | None:
        """Return the entries after a place; None when it is not in this feed (R3)."""
        async with self._asking() as connection:
            rows = await connection.fetch(_SQL["read_feed"], *place)
        return _entries(rows) if rows else None

    async def acknowledge(self, worker_id: UUID, place: Place, before: Place | None = None) -> bool:
        """Say up to where entries were applied (R3)."""
        async with self._asking() as connection:
            return bool(
                await connection.fetchval(_SQL["acknowledge"], worker_id, *place, *(before or (None, None)))
            )

    async def leave(self, worker_id: UUID) -> None:
        """Take the registration back (R8), and close."""
        async with self._asking() as connection:
            await connection.execute(_SQL["leave"], [worker_id])
        self._drop()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """Lend the connection for one operation. What goes wrong in any way, a warning included, ends it."""
        try:
            with translate_errors():
                async with asyncio.timeout(self._patience):
                    connection = await self._connected()
                    with raise_on_warning(connection):
                        yield connection
        except BaseException:
            self._drop()
            raise

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            self._heard = False
            self._connection = await asyncpg.connect(self._url, **connect_options(pooler=not self._listen))
            if self._on_connect is not None:
                # The last one was lost, or led to a node that is the primary no longer; others may, too.
                await self._on_connect()
            if self._listen:
                self._connection.add_termination_listener(self._note_end)
                await self._connection.add_listener(_CHANNEL, self._hear)
                await self._connection.execute(_SQL["notify"], "")
        return self._connection

    def _note_end(self, _: object) -> None:
        self._on_hint(None)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._heard = True
        if payload == self._awaited:
            self._arrived.set()
        self._on_hint(_from_payload(str(payload)))

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(Exception):
                self._connection.terminate()
        self._connection = None


async def publish(
    connection: Connection,
    key_prefixes: Collection[str],
    owner_id: str | None,
    kind: CredentialKind | None = None,
    about_tag_keys: bool = False,
) -> FeedEntry:
    """Append an entry and return it. The last statement of a transaction (R6)."""
    prefixes = sorted(key_prefixes)
    [row] = await connection.fetch(_SQL["publish"], prefixes, owner_id, kind and kind.value, about_tag_keys)
    return FeedEntry(Place(row["seq"], row["nonce"]), prefixes, owner_id, kind, _tag_keys(row))


async def notify(database: Database, entry: FeedEntry) -> None:
    """Hint at news to all who listen."""
    async with database.connection() as connection:
        await connection.execute(_SQL["notify"], _payload(entry))


async def find_behind(database: Database, place: Place) -> dict[UUID, float] | None:
    """Return the workers that have not applied an entry, with their leases in seconds.

    None when the node that answers does not know the entry: a primary that was replaced.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(_SQL["find_behind"], *place)
    if not rows:
        return None
    return {row["worker_id"]: row["lease_ms"] / 1000 for row in rows if row["worker_id"] is not None}


async def find_workers(database: Database) -> tuple[list[Worker], int, datetime]:
    """Return all workers, the feed's end, and the database's time."""
    async with database.connection() as connection:
        rows = await connection.fetch(_SQL["find_workers"])
    workers = [
        Worker(
            worker_id=row["worker_id"],
            host=row["host"],
            pid=row["pid"],
            lease=row["lease_ms"] / 1000,
            beat=row["beat"],
            applied=row["applied"],
            register_time=row["register_time"],
            beat_time=row["beat_time"],
            behind_since=row["behind_since"],
        )
        for row in rows
        if row["worker_id"] is not None
    ]
    return workers, rows[0]["head_seq"], rows[0]["now"]


async def reap(database: Database, worker: Worker) -> bool:
    """Take back the registration of a worker that has not renewed since it was read (R8)."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_SQL["reap"], worker.worker_id, worker.beat))


async def trim(database: Database) -> None:
    """Delete entries that all have applied long ago."""
    async with database.connection() as connection:
        await connection.execute(_SQL["trim"])


async def now(database: Database) -> datetime:
    """Return the database's time."""
    async with database.connection() as connection:
        found: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return found


def _entries(rows: Sequence[asyncpg.Record]) -> list[FeedEntry]:
    """Return the entries of rows, of which a lone one without `seq` says that there are none."""
    return [
        FeedEntry(
            Place(row["seq"], row["nonce"]),
            row["key_prefixes"],
            row["owner_id"],
            row["kind"] and CredentialKind(row["kind"]),
            _tag_keys(row),
        )
        for row in rows
        if row["seq"] is not None
    ]


def _tag_keys(row: asyncpg.Record) -> AcceptedTagKeys | None:
    return None if row["tag_keys"] is None else AcceptedTagKeys(tuple(row["tag_keys"]))


def _payload(entry: FeedEntry) -> str:
    """Return a hint's text: the entry itself when it is small, else nothing."""
    if entry.owner_id is not None or entry.tag_keys is not None or len(entry.key_prefixes) > _MAX_TOLD:
        return ""
    return " ".join((str(entry.place.seq), str(entry.place.nonce), *entry.key_prefixes))


def _from_payload(payload: str) -> FeedEntry | None:
    """Return the entry of a hint; None for one without, and for what anybody else may have sent."""
    try:
        seq, nonce, *prefixes = payload.split()
        return FeedEntry(Place(int(seq), UUID(nonce)), prefixes, None)
    except ValueError:
        return None
