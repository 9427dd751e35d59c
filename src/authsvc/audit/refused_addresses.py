"""Records in the background that somebody showed the right secret of a key at an address that is not allowed.

It is the best sign of a leak that there is, so contacts and webhooks are told (`key.address_refused`).

Mechanism: verifications that end in ADDRESS_NOT_ALLOWED are counted by key, if their address is known. Every
few seconds, and when the worker stops, each count becomes one KEY_ADDRESS_REFUSED event with the last
address, unless there was one for this key within the hour. The database decides that, so it holds for all
workers of all replicas.

Bound: each worker has counts for at most `MAX_KEYS` keys, and for half as many of one owner. Others are
counted as dropped.

Failure: what could not be written is kept, and written with the next events. A crash loses the counts of the
last seconds.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from authsvc.audit.owner_writer import write_by_owner
from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.credential import Credential
from authsvc.store import audit as audit_store
from authsvc.store import key_uses
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.lock_wait import LockWait
from authsvc.store.pool import Database

MAX_KEYS = 1000
#: How often contacts are told of one key at most.
PERIOD = timedelta(hours=1)


@dataclass(slots=True)
class _Refused:
    credential: Credential
    client_ip: str  # of the last
    last_time: datetime
    count: int


class RefusedAddresses:
    """Counts refusals by address, and records them as events."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._pending: dict[str, _Refused] = {}
        self._of_owner: Counter[str] = Counter()
        self._events = BatchWriter("an event", self._write, lambda each: each.credential.credential_id)
        self.dropped = 0

    def note(self, credential: Credential, client_ip: str, now: datetime) -> None:
        """Count a refusal, unless the address is not known: that says nothing of the client.

        This only touches memory.
        """
        if not client_ip:
            return
        if (known := self._pending.get(credential.credential_id)) is not None:
            known.client_ip, known.last_time = client_ip, now
            known.count += 1
        else:
            self._add(_Refused(credential, client_ip, now, 1))

    def _add(self, refused: _Refused) -> None:
        owner_id = refused.credential.owner_id
        if len(self._pending) >= MAX_KEYS or self._of_owner[owner_id] >= MAX_KEYS // 2:
            self.dropped += refused.count
            return
        self._of_owner[owner_id] += 1
        self._pending[refused.credential.credential_id] = refused

    async def flush(self) -> None:
        """Write all events; keep those that could not be written, and raise the error."""
        unwritten, self._pending, self._of_owner = self._pending, {}, Counter()

        def settle(written: Sequence[_Refused]) -> None:
            for each in written:
                del unwritten[each.credential.credential_id]

        try:
            rows = list(unwritten.values())
            await write_by_owner(self._events, rows, lambda each: each.credential.owner_id, settle)
        finally:
            for each in unwritten.values():
                self._keep(each)

    @property
    def refused(self) -> int:
        """How many events were refused by the database, and dropped."""
        return self._events.refused

    def _keep(self, unwritten: _Refused) -> None:
        if (later := self._pending.get(unwritten.credential.credential_id)) is not None:
            later.count += unwritten.count
        else:
            self._add(unwritten)

    async def _write(self, refused: Sequence[_Refused]) -> None:
        by_id = {each.credential.credential_id: each for each in refused}
        now = self._clock()
        async with self._database.transaction(lock_wait=LockWait.SHORT) as connection:
            due = await key_uses.due_to_be_told(connection, sorted(by_id), now=now, since=now - PERIOD)
            if due:
                await audit_store.record(connection, [_event(by_id[key_id]) for key_id in due])


def _event(refused: _Refused) -> AuditEvent:
    """Return the event. Its actor is the key: whoever has it."""
    credential = refused.credential
    actor = Caller(
        credential.credential_id,
        credential.owner_id,
        credential.scopes,
        credential.kind,
        client_ip=refused.client_ip,
    )
    return AuditEvent.of(
        actor,
        Action.KEY_ADDRESS_REFUSED,
        at=refused.last_time,
        target_id=credential.credential_id,
        owner_id=credential.owner_id,
        details={"address": refused.client_ip, "count": str(refused.count)},
    )
