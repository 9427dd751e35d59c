"""Records in the background what changes were confirmed by, where clients held credentials.

Mechanism: the event of a change is recorded in its transaction, before anybody can confirm it. When the
change is answered, a second event in the same chain names the first one, and says how many clients held
credentials and how long the answer waited. There is a transaction for each owner, so that no owner waits long
for the chain of another. Changes while no client holds anything leave no second event.

Bound: `MAX_PENDING` events for each worker, which are written every few seconds. Further ones are dropped and
counted.

Failure: what could not be written is kept and written with the next events. An event that the database
refuses is dropped. A crash loses those of the last seconds; the events of the changes themselves are not
concerned.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from authsvc.audit.owner_writer import write_by_owner
from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.store import audit as audit_store
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.lock_wait import LockWait
from authsvc.store.pool import Database

MAX_PENDING = 1000


class Confirmations:
    """Collects what changes were confirmed by, and records it."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock
        self._pending: list[AuditEvent] = []
        self._events = BatchWriter("an event", self._write, lambda event: event.target_id)
        #: How many events were not kept, for lack of room.
        self.dropped = 0

    def note(self, caller: Caller) -> None:
        """Note what the change of a caller was confirmed by. This only touches memory."""
        confirmation = caller.confirmation
        if confirmation is None or not confirmation.holders or confirmation.seconds is None:
            return
        details = {
            "holders": str(confirmation.holders),
            "wait_ms": f"{1000 * confirmation.seconds:.1f}",
            "unconfirmed": str(confirmation.unconfirmed or ""),
        }
        recorded = confirmation.recorded[: MAX_PENDING - len(self._pending)]
        self.dropped += len(confirmation.recorded) - len(recorded)
        self._pending += AuditEvent.of_each(
            caller._replace(confirmation=None),
            Action.CHANGE_CONFIRMED,
            at=self._clock(),
            targets=[
                (each.target_id, each.owner_id, {"event_id": each.event_id, **details}) for each in recorded
            ],
        )

    async def flush(self) -> None:
        """Write all events, by owner; keep those that could not be written, and raise the error."""
        events, self._pending = self._pending, []
        unwritten = {event.event_id: event for event in events}

        def settle(rows: Sequence[AuditEvent]) -> None:
            for event in rows:
                del unwritten[event.event_id]

        try:
            await write_by_owner(self._events, events, lambda event: event.owner_id, settle)
        finally:
            kept = [*unwritten.values(), *self._pending]
            self._pending = kept[:MAX_PENDING]
            self.dropped += len(kept) - len(self._pending)

    @property
    def refused(self) -> int:
        """How many events were refused by the database, and dropped."""
        return self._events.refused

    async def _write(self, events: Sequence[AuditEvent]) -> None:
        async with self._database.transaction(lock_wait=LockWait.SHORT) as connection:
            await audit_store.record(connection, events)
