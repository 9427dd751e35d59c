"""The feed of changes and the registrations of workers.

`FeedConnection` is the dedicated connection of a follower. Hints (LISTEN) need a session of their own, and
following the feed must not wait for a connection of the pool. The functions below it use the pool, to look at
the workers. `publication` publishes changes.
"""

import asyncio
import logging
import math
import os
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg

from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry, Place, Renewal
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.model.worker import Worker
from authsvc.store.connect import connect
from authsvc.store.connect_error import ConnectError
from authsvc.store.driver_errors import raise_on_warning, translate_errors
from authsvc.store.pool import Connection, Database
from authsvc.store.queries import load_queries

_log = logging.getLogger(__name__)

_SQL = load_queries("feed.sql")
_CHANNEL = "authsvc_feed"
_MAX_WAIT_SECONDS = 5.0
# The part of the time of an operation in which a connection has to be open. In the rest, it can be used.
_CONNECTING = 0.8
# How many uncommitted beats are remembered.
_MAX_BEATS = 100


class FeedConnection:
    """The connection of one follower, opened when first used, and again after any error.

    Implements `WorkerFeed` of `revocation`. Bound: a quarter of the lease, and at most 5 s, for each
    operation, so that there is time for another attempt.
    """

    def __init__(
        self,
        url: str,
        *,
        lease: float,
        listen: bool,
        on_connect: Callable[[], object] = lambda: None,
    ) -> None:
        self._url = url
        self._timeout_seconds = min(_MAX_WAIT_SECONDS, lease / 4)
        self._listen = listen
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._heard = False
        self._warned = False
        self._told = ""
        self._awaited = ""
        self._arrived = asyncio.Event()
        # The last beat that was surely committed, and later ones that may have been.
        self._beats: list[UUID] = []
        self._on_connect = on_connect
        self._on_hint: Callable[[FeedEntry | None], object] = lambda _: None

    @property
    def hears(self) -> bool:
        """Whether hints arrive: one that this connection sent to itself has."""
        return self._heard and self._connection is not None and not self._connection.is_closed()

    def on_hint(self, call: Callable[[FeedEntry | None], object]) -> None:
        """Call `call` for each hint, with the entry if the hint contains it."""
        self._on_hint = call

    async def hears_from(self, database: Database) -> bool:
        """Return whether a hint from another connection arrives, which a pooler may prevent."""
        self._awaited, self._arrived = f"probe {uuid4()}", asyncio.Event()
        with translate_errors():
            async with database.connection() as connection:
                await connection.execute(_SQL["notify"], self._awaited)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), _MAX_WAIT_SECONDS)
        return self._arrived.is_set()

    async def register(self, worker_id: UUID, lease: float) -> FeedEntry:
        """Commit the registration; then return the end of the feed (R1)."""
        beat = uuid4()
        async with self._asking() as connection:
            await connection.execute(_SQL["remove_foreign"])
            await connection.execute(
                _SQL["register"], worker_id, math.ceil(lease * 1000), socket.gethostname(), os.getpid(), beat
            )
        self._beats = [beat]
        async with self._asking() as connection:
            [row] = await connection.fetch(_SQL["find_head"])
        return FeedEntry(Place(row["seq"], row["nonce"]), (), None, tag_keys=_tag_keys(row))

    async def renew(
        self,
        worker_id: UUID,
        place: Place,
        applied_seq: int,
        pids: Sequence[int],
        unconfirmed_pids: Sequence[int],
    ) -> Renewal | None:
        """Prove registration, place and primary; return the entries after the place (R2)."""
        async with self._asking() as connection:
            before, beat = self._beats, uuid4()
            self._beats = [*before[-_MAX_BEATS:], beat]
            rows = await connection.fetch(
                _SQL["renew"], worker_id, *place, beat, before, applied_seq, pids, unconfirmed_pids
            )
        self._beats = [beat]
        if self._listen and not self._heard and not self._warned:
            self._warned = True
            _log.warning(
                "hints of changes do not arrive, so the feed is polled: if a pooler uses transaction "
                "pooling, set AUTHSVC_FEED=poll"
            )
        return Renewal(rows[0]["now"], _entries(rows)) if rows else None

    async def read(self, place: Place) -> Sequence[FeedEntry] | None:
        """Return the entries after a place; None when the place is unknown (R3)."""
        async with self._asking() as connection:
            rows = await connection.fetch(_SQL["read_feed"], *place)
        return _entries(rows) if rows else None

    async def acknowledge(self, worker_id: UUID, place: Place, before: Place | None = None) -> bool:
        """Record that all entries up to a place were applied (R3)."""
        async with self._asking() as connection:
            return bool(
                await connection.fetchval(_SQL["acknowledge"], worker_id, *place, *(before or (None, None)))
            )

    async def remove(self, worker_ids: Collection[UUID]) -> None:
        """Delete earlier registrations (R11)."""
        async with self._asking() as connection:
            await connection.execute(_SQL["leave"], list(worker_ids))

    async def leave(self, worker_id: UUID) -> None:
        """Delete the registration (R8), and close the connection."""
        async with self._asking() as connection:
            await connection.execute(_SQL["leave"], [worker_id])
        self._drop()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """Lend the connection for one operation. Any error, and any warning of PostgreSQL, closes it."""
        try:
            with translate_errors():
                async with asyncio.timeout(self._timeout_seconds):
                    connection = await self._connected()
                    with raise_on_warning(connection):
                        yield connection
        except BaseException:
            self._drop()
            raise

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            self._heard = False
            try:
                self._connection = await connect(
                    self._url, timeout=self._timeout_seconds * _CONNECTING, pooler=not self._listen
                )
            except ConnectError as error:
                if self._told != str(error):
                    _log.warning("no host of the database can be used: %s", error)
                self._told = str(error)
                raise
            self._told = ""
            # The last one was lost, or its node is no longer the primary. Others may be affected, too.
            self._on_connect()
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


async def find_behind(database: Database, places: Sequence[Place]) -> list[dict[UUID, float] | None]:
    """Return for each entry the workers that have not applied it, with their leases in seconds.

    None for an entry that the node does not have: it is a primary that was replaced.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(_SQL["find_behind"], *map(list, zip(*places, strict=True)))
    behind: dict[Place, dict[UUID, float]] = {}
    for row in rows:
        workers = behind.setdefault(Place(row["seq"], row["nonce"]), {})
        if row["worker_id"] is not None:
            workers[row["worker_id"]] = row["lease_ms"] / 1000
    return [behind.get(place) for place in places]


async def find_workers(database: Database) -> tuple[list[Worker], int, datetime]:
    """Return all workers, the `seq` at the end of the feed, and the time of the database."""
    async with database.connection() as connection:
        rows = await connection.fetch(_SQL["find_workers"])
    workers = [
        Worker(
            worker_id=row["worker_id"],
            host=row["host"],
            pid=row["pid"],
            worker_pids=row["worker_pids"],
            unconfirmed_pids=row["unconfirmed_pids"],
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
    """Delete the registration of a worker unless it was renewed since `worker` was read (R8)."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_SQL["reap"], worker.worker_id, worker.beat))


async def trim(database: Database) -> None:
    """Delete entries that all workers applied an hour ago or earlier."""
    async with database.connection() as connection:
        await connection.execute(_SQL["trim"])


async def now(connection: Connection) -> datetime:
    """Return the time of the database."""
    found: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return found


def _entries(rows: Sequence[asyncpg.Record]) -> list[FeedEntry]:
    """Return the entries in rows. A single row without `seq` means that there are none."""
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


def _from_payload(payload: str) -> FeedEntry | None:
    """Return the entry in a hint; None for a hint without one, and for any other text."""
    try:
        seq, nonce, *prefixes = payload.split()
        return FeedEntry(Place(int(seq), UUID(nonce)), prefixes, None)
    except ValueError:
        return None
