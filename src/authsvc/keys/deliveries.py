"""Records in the background whether new key strings were sent to their callers.

Mechanism: a key that is created by a call with a `request_id` is inserted as PENDING. When gRPC has sent the
answer or given up the call, that is noted here, and written at once in batches.

Bound: `limit` notes, one for each key. Further ones are dropped and counted.

Failure: what could not be written is kept and tried again. A note that the database refuses is dropped. A
crash loses the notes. So a key that is PENDING for longer than any call takes counts as not delivered, unless
it was used.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from authsvc.model.errors import RetryableError
from authsvc.store import keys as key_store
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)
_MAX_BATCH_NOTES = 1000


class Deliveries:
    """Collects whether answers were sent, and writes it."""

    def __init__(self, database: Database, *, limit: int = 10_000) -> None:
        self._database = database
        self._limit = limit
        self._pending: dict[str, bool] = {}
        self._noted = asyncio.Event()
        self._has_failed = False
        self._notes = BatchWriter("the delivery status", self._write, lambda note: note[0])
        # Keys whose call ended before its answer was sent; notes for which there was no room.
        self.lost = self.dropped = 0

    def note(self, key_id: str, sent: bool) -> None:
        """Note whether the answer with a key's string was sent. This only touches memory."""
        if key_id not in self._pending and len(self._pending) >= self._limit:
            self.dropped += 1
            return
        self._pending[key_id] = sent
        self._noted.set()

    @contextmanager
    def lost_on_failure(self, key_id: str) -> Iterator[None]:
        """Note that a key string was not sent if the block is cut short; it may have committed the key."""
        try:
            yield
        except (asyncio.CancelledError, RetryableError):
            self.note(key_id, sent=False)
            raise

    async def flush(self) -> None:
        """Write all notes; on an error, keep those that were not written, and raise it."""
        while self._pending:
            batch = dict(list(self._pending.items())[:_MAX_BATCH_NOTES])
            for key_id in batch:
                del self._pending[key_id]

            def settle(notes: Sequence[tuple[str, bool]], batch: dict[str, bool] = batch) -> None:
                for key_id, _ in notes:
                    del batch[key_id]

            try:
                await self._notes.write(list(batch.items()), settled=settle)
            except BaseException:
                self._pending = {**batch, **self._pending}
                self._has_failed = True
                self._noted.set()
                raise

    @property
    def refused(self) -> int:
        """How many notes were refused by the database, and dropped."""
        return self._notes.refused

    async def _write(self, notes: Sequence[tuple[str, bool]]) -> None:
        async with self._database.connection() as connection:
            self.lost += await key_store.record_answers(connection, dict(notes))

    async def due(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Wait until there is something to write; after a failure, not before a pause."""
        if self._has_failed:
            await pause()
            self._has_failed = False
        await self._noted.wait()
        self._noted.clear()
