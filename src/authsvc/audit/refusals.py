"""Records refused attempts of known callers in the background, in the audit log of the caller's owner.

Mechanism: calls that end in PERMISSION_DENIED or NOT_FOUND, or whose credential was revoked, has expired or
is disabled, are counted by caller, method, reason and the owner that was asked for. Every minute, and when
the worker stops, each count becomes one REFUSED event. There is a transaction for each owner, so that no
owner waits long for the chain of another. Calls whose credential was never valid belong to no owner, so only
the metrics count them.

Bound: each worker writes at most `MAX_EVENTS_PER_FLUSH` events a minute, at most `MAX_EVENTS_PER_CALLER` of
them for one caller, and `MAX_EVENTS_PER_OWNER` for the callers of one owner, however many calls there are. So
a flood neither fills the disk nor hides what others try. The other calls are counted as dropped.

Failure: what could not be written is kept and written with the next events. An event that the database
refuses is dropped. A crash loses the counts of the last minute.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from authsvc.audit.owner_writer import write_by_owner
from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.errors import (
    AuthsvcError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from authsvc.store import audit as audit_store
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.lock_wait import LockWait
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)

MAX_EVENTS_PER_FLUSH = 200
MAX_EVENTS_PER_CALLER = 10
# Besides the limit for a caller: by creating sessions, one can act as any number of callers.
MAX_EVENTS_PER_OWNER = 50


class _Kind(NamedTuple):
    """Calls with the same values are counted together."""

    credential_id: str
    method: str
    reason: str
    owner_id: str  # The owner that was asked for.


@dataclass(slots=True)
class _Attempts:
    caller: Caller  # As in the last call.
    last_time: datetime
    asked_for: str  # The ids that the last call asked for.
    count: int


class Refusals:
    """Counts refused attempts and records them as events."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._pending: dict[_Kind, _Attempts] = {}
        self._of_caller: Counter[str] = Counter()
        self._of_owner: Counter[str] = Counter()
        self._events = BatchWriter("an event", self._write, lambda row: row[0].credential_id)
        self.dropped = 0

    def note(self, caller: Caller, method: str, error: AuthsvcError) -> None:
        """Count a refused attempt of a known caller; ignore other errors. This only touches memory."""
        if not isinstance(error, PermissionDenied | NotFound | Unauthenticated) or not caller.owner_id:
            return
        kind = _Kind(caller.credential_id, method, error.reason, error.metadata.get("owner_id", ""))
        metadata = error.metadata
        asked_for = metadata.get("key_ids") or metadata.get("key_id") or metadata.get("session_id", "")
        attempts = self._pending.get(kind)
        if attempts is not None:
            attempts.caller, attempts.last_time, attempts.asked_for = caller, self._clock(), asked_for
            attempts.count += 1
        else:
            self._add(kind, _Attempts(caller, self._clock(), asked_for, 1))

    def _add(self, kind: _Kind, attempts: _Attempts) -> None:
        owner_id = attempts.caller.owner_id
        if (
            len(self._pending) >= MAX_EVENTS_PER_FLUSH
            or self._of_caller[kind.credential_id] >= MAX_EVENTS_PER_CALLER
            or self._of_owner[owner_id] >= MAX_EVENTS_PER_OWNER
        ):
            self.dropped += attempts.count
            return
        self._of_caller[kind.credential_id] += 1
        self._of_owner[owner_id] += 1
        self._pending[kind] = attempts

    async def flush(self) -> None:
        """Write all events, by owner; keep those that could not be written, and raise the error."""
        unwritten, self._pending = self._pending, {}
        self._of_caller, self._of_owner = Counter(), Counter()

        def settle(rows: Sequence[tuple[_Kind, _Attempts]]) -> None:
            for kind, _ in rows:
                del unwritten[kind]

        try:
            rows = list(unwritten.items())
            await write_by_owner(self._events, rows, lambda row: row[1].caller.owner_id, settle)
        finally:
            if unwritten:
                self._keep(unwritten)

    @property
    def refused(self) -> int:
        """How many events were refused by the database, and dropped."""
        return self._events.refused

    async def _write(self, rows: Sequence[tuple[_Kind, _Attempts]]) -> None:
        async with self._database.transaction(lock_wait=LockWait.SHORT) as connection:
            await audit_store.record(connection, [_event(kind, attempts) for kind, attempts in rows])

    def _keep(self, unwritten: dict[_Kind, _Attempts]) -> None:
        later, self._pending = self._pending, unwritten
        self._of_caller = Counter(kind.credential_id for kind in unwritten)
        self._of_owner = Counter(attempts.caller.owner_id for attempts in unwritten.values())
        for kind, attempts in later.items():
            if (known := self._pending.get(kind)) is not None:
                attempts.count += known.count
                self._pending[kind] = attempts
            else:
                self._add(kind, attempts)


def _event(kind: _Kind, attempts: _Attempts) -> AuditEvent:
    return AuditEvent.of(
        attempts.caller,
        Action.REFUSED,
        at=attempts.last_time,
        target_id=kind.owner_id,
        owner_id=attempts.caller.owner_id,
        details={
            "method": kind.method,
            "reason": kind.reason,
            "count": str(attempts.count),
            "asked_for": attempts.asked_for,
        },
    )
