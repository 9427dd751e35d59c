"""ReportLeakedKeys: what was found where others can read it is revoked, whoever reports it.

Mechanism: memory and the tag say of most strings that they are nothing, without the database. The others are
proved, and what they belong to is revoked in transactions of up to `_BATCH` credentials, through the barrier.
What is revoked already, or deleted, takes the same way, so that a repeated report waits for workers that
have not confirmed (R7). The service revokes in its own name, since a reporter has no authority; the reporter
is named as who has done it.

Bound: `MAX_REPORTS` reports at a time, and `_PROOFS` proofs of all of them together, so that verification
finds room in the queues of argon2 and of the database.

Failure: a string that cannot be proved because its stored hash is damaged is left out. Any other error ends
the search; what was found until then is revoked, and the error is raised. A transaction that fails does not
keep the others from being made. The report can be repeated.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from authsvc import audit
from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import LEAK_REPORT, Caller
from authsvc.model.confirmation import Confirmation
from authsvc.model.credential import Credential
from authsvc.model.errors import Overloaded, RetryableError, Unavailable
from authsvc.model.key import Key, KeyState
from authsvc.model.key_string import KeyMint, KeyString
from authsvc.model.leak import Leak
from authsvc.model.session import Session, SessionState
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier, Change
from authsvc.store import keys as key_store
from authsvc.store import sessions as session_store
from authsvc.verify.verifier import Verifier

_log = logging.getLogger(__name__)

#: Reports at a time. Each has a message of up to a megabyte.
MAX_REPORTS = 16
_PROOFS = 2
_BATCH = 100
# Strings that are looked at before other tasks run.
_STRINGS_AT_A_TIME = 50
CAUSE = "LEAKED"


class _Found(NamedTuple):
    """What a report is about."""

    # How credentials have leaked, by their ids.
    leaks: Mapping[str, Leak]
    # The prefixes of strings that belong to nothing any more: to deleted keys.
    gone: Collection[str]
    # The strings that belong to something.
    texts: Collection[str]
    # The error that ended the search.
    error: RetryableError | None


class Leaks:
    """Revokes what was reported as leaked."""

    def __init__(
        self,
        verifier: Verifier,
        mint: KeyMint,
        barrier: Barrier,
        clock: Callable[[], datetime],
        *,
        max_reports: int = MAX_REPORTS,
    ) -> None:
        self._verifier, self._mint, self._barrier, self._clock = verifier, mint, barrier, clock
        self._max_reports = max_reports
        self._reports = 0
        self._proofs = asyncio.Semaphore(_PROOFS)
        #: How many strings were reported, and how many keys and sessions were revoked for it.
        self.reported = self.revoked = 0

    def is_known(self, text: str) -> bool:
        """Return whether a string was minted by this service; the database is not asked.

        Of strings that were made elsewhere, `report` returns those that belong to something.
        """
        # Memory has strings whose tag key was retired.
        return self._mint.parse(text) is not None or isinstance(self._verifier.prove(text), Credential)

    async def report(self, reporter: Caller, leaks: Sequence[Leak]) -> Collection[str]:
        """Revoke what the strings belong to; return when no worker accepts any of them (R6).

        Returns the strings that belong to something, in any state. Only who signs as a secret scanner is
        told.

        Nothing tells what there was. Strings that belong to nothing, keys that were revoked, and sessions
        that have ended are no error. No policy forbids it, and the last administrator key is revoked, too.

        Raises:
            Overloaded: LEAK_REPORTS_FULL, if too many reports are being worked on.
            RetryableError: what `Verifier.identify` and `Barrier.change` raise.
        """
        if self._reports >= self._max_reports:
            raise Overloaded(
                "too many reports of leaked keys are being worked on; retry",
                reason="LEAK_REPORTS_FULL",
                retry_after=1,
            )
        self._reports += 1
        self.reported += len(leaks)
        try:
            found, gone, known, error = await self._find(leaks)
            ids = sorted(found)
            for start in range(0, max(len(ids), bool(gone)), _BATCH):
                batch = {each: found[each] for each in ids[start : start + _BATCH]}
                try:
                    await self._revoke(reporter, batch, () if start else gone)
                except RetryableError as failure:  # for instance a lock that somebody holds
                    error = error or failure
        finally:
            self._reports -= 1
        if error is not None:
            raise error
        return known

    async def _find(self, leaks: Sequence[Leak]) -> _Found:
        found: dict[str, Leak] = {}
        gone: set[str] = set()
        texts: set[str] = set()
        for number, leak in enumerate(leaks):
            if number % _STRINGS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            try:
                credential = await self._identify(leak.text)
            except Unavailable as error:
                if error.reason != "PROOF_UNREADABLE":
                    return _Found(found, gone, texts, error)
                _log.warning("a key that was reported as leaked cannot be proved: its hash is damaged")
                continue
            except RetryableError as error:
                return _Found(found, gone, texts, error)
            if credential is not None:
                texts.add(leak.text)
                known = found.setdefault(credential.credential_id, leak)
                if not known.place:
                    found[credential.credential_id] = leak
            elif (parsed := self._mint.parse(leak.text)) is not None:
                gone.add(parsed.prefix)
            elif digest := self._verifier.imported_digest(leak.text):
                gone.add(digest)
        return _Found(found, gone, texts, None)

    async def _identify(self, text: str) -> Credential | None:
        proved = self._verifier.prove(text)
        if not isinstance(proved, KeyString):
            return proved
        async with self._proofs:
            return await self._verifier.identify(text)

    async def _revoke(self, reporter: Caller, found: Mapping[str, Leak], gone: Collection[str]) -> None:
        # A confirmation of its own: the trailers of the answer must not tell that something was revoked.
        confirmation = Confirmation()
        reporter = reporter._replace(confirmation=confirmation)
        service = LEAK_REPORT._replace(
            deadline=reporter.deadline, request_id=reporter.request_id, confirmation=confirmation
        )
        claim = Claim(changes=list(found), revokes=True)
        async with self._barrier.change(service, claim, done="revoked") as change:
            keys = await key_store.find(change.connection, list(found))
            sessions = await session_store.find(change.connection, list(found), owner_id=None)
            change.key_prefixes.update(gone)
            change.key_prefixes.update(key.key_prefix for key in keys.values())
            change.key_prefixes.update(session.key_prefix for session in sessions.values())
            count = await self._write(change, reporter, found, keys.values(), sessions.values())
        self.revoked += count

    async def _write(
        self,
        change: Change,
        reporter: Caller,
        found: Mapping[str, Leak],
        keys: Iterable[Key],
        sessions: Iterable[Session],
    ) -> int:
        """Write revocations and their events; return how many there are."""
        now, by = self._clock(), reporter.credential_id
        # An expired key as well: a later expiry would make it work again.
        ended = [
            key.leaked(now, by=by, reason=found[key.key_id].reason)
            for key in keys
            if key.state(now) is not KeyState.REVOKED
        ]
        over = [
            session.revoked(now, by=by)
            for session in sessions
            if session.state(now) is not SessionState.REVOKED
        ]
        for session in over:
            await session_store.update_revocation(change.connection, session)
        events = _events(
            reporter, Action.SESSION_REVOKED, now, found, {s.session_id: s.owner_id for s in over}
        )
        events += _events(
            reporter, Action.KEY_REVOKED, now, found, {key.key_id: key.owner_id for key in ended}
        )
        if ended:
            await key_store.revoke_leaked(change.connection, ended, events)
        else:
            await audit.record_many(change.connection, events)
        return len(ended) + len(over)


def _events(
    reporter: Caller, action: Action, at: datetime, found: Mapping[str, Leak], owners: Mapping[str, str]
) -> list[AuditEvent]:
    """Return an event for each of these keys or sessions, given with their owners."""
    targets = [
        (
            target_id,
            owner_id,
            {
                "revoke_time": at.isoformat() if action is Action.KEY_REVOKED else "",
                "reason": found[target_id].reason,
                "cause": CAUSE,
                "place": found[target_id].place,
            },
        )
        for target_id, owner_id in owners.items()
    ]
    return AuditEvent.of_each(reporter, action, at=at, targets=targets)
