"""Writes down in which trace a notification was caused, so that deliveries to webhooks continue it.

Mechanism: a traced call notes the events that it has recorded when it is answered. They are written at once,
behind the call. A notification is sent some tenths of a second later.

Bound: `MAX_PENDING` notes; further ones are dropped, and so are those that cannot be written.

Failure: a notification without a trace is delivered all the same, and begins a trace of its own.
"""

import asyncio
from collections.abc import Sequence

from authsvc.store import notifications as notification_store
from authsvc.store.pool import Database

MAX_PENDING = 1000


class TraceParents:
    """Collects them, and writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: dict[str, str] = {}
        self._noted = asyncio.Event()

    def note(self, notification_ids: Sequence[str], trace_parent: str) -> None:
        """Note the trace of some notifications. This only touches memory."""
        room = MAX_PENDING - len(self._pending)
        self._pending.update(dict.fromkeys(notification_ids[:room], trace_parent))
        self._noted.set()

    async def due(self) -> None:
        """Wait until something is noted."""
        await self._noted.wait()
        self._noted.clear()

    async def flush(self) -> None:
        """Write what is noted; raise RetryableError, with that dropped."""
        pending, self._pending = self._pending, {}
        if pending:
            async with self._database.connection() as connection:
                await notification_store.insert_trace_parents(connection, pending)
