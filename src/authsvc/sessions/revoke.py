"""RevokeSession, RevokeAllSessions."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.session import Session, SessionState
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier
from authsvc.sessions.read import visible
from authsvc.store import sessions as session_store


class SessionRevocation(Protocol):
    """Revokes sessions permanently."""

    _barrier: Barrier
    _clock: Callable[[], datetime]

    async def revoke(self, caller: Caller, session_id: str) -> Session:
        """Revoke a session permanently; return it as revoked (rule 25).

        Raises:
            NotFound: SESSION_NOT_FOUND, if it is unknown or of another owner.
            AlreadyDone: SESSION_ALREADY_REVOKED.
        """
        claim = Claim(changes=[session_id], revokes=True)
        async with self._barrier.change(caller, claim, done="revoked") as change:
            found = await session_store.find(change.connection, [session_id], owner_id=caller.confined_to)
            change.key_prefixes.update(session.key_prefix for session in found.values())
            session = visible(caller, session_id, found.get(session_id))
            session.refuse_if_revoked()
            now = self._clock()
            revoked = session.revoked(now, by=caller.credential_id)
            await session_store.update_revocation(change.connection, revoked)
            await audit.record(
                change.connection,
                caller,
                Action.SESSION_REVOKED,
                at=now,
                target_id=session_id,
                owner_id=session.owner_id,
            )
        return revoked

    async def revoke_all(
        self, caller: Caller, owner_id: str, *, except_session_id: str = ""
    ) -> session_store.EndedSessions:
        """Revoke all sessions of an owner, except one if it is named (rule 26); return how many were active.

        This waits for sessions that are being created, and revokes them as well. It takes the same time for
        any number of sessions, which are only counted, up to a bound: it ends the owner's current epoch, and
        every session belongs to one. An owner without sessions is no error.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED.
            InvalidArgument: INVALID_FIELD, if `except_session_id` is not an active session of the owner.
        """
        caller.refuse_other_owner(owner_id)
        excepted = [except_session_id] if except_session_id else ()
        claim = Claim(ends_sessions_of=owner_id, changes=excepted, revokes=True)
        async with self._barrier.change(caller, claim, done="revoked") as change:
            change.owner_id, change.kind = owner_id, CredentialKind.SESSION
            now = self._clock()
            if except_session_id:
                # The claim has locked it, so nobody revokes it before the commit. Its recorded activity is
                # recent enough: near the end of a session, activity is recorded before it is answered.
                found = await session_store.find(change.connection, [except_session_id], owner_id=owner_id)
                _refuse_ended(found.get(except_session_id), now)
            ended = await session_store.end_all(
                change.connection, owner_id, at=now, by=caller.credential_id, excluding=except_session_id
            )
            if ended is None:
                return session_store.EndedSessions(0, is_lower_bound=False)
            at_least = "at least " if ended.is_lower_bound else ""
            await audit.record(
                change.connection,
                caller,
                Action.OWNER_SESSIONS_REVOKED,
                at=now,
                target_id=owner_id,
                owner_id=owner_id,
                details={"count": f"{at_least}{ended.active}", "except_session_id": except_session_id},
            )
        return ended


def _refuse_ended(excepted: Session | None, now: datetime) -> None:
    """Raise InvalidArgument unless it is an active session of the owner, also if it is another owner's."""
    if excepted is None or excepted.state(now) is not SessionState.ACTIVE:
        raise InvalidArgument(
            FieldViolation(
                "except_session_id",
                "except_session_id.living",
                "is unknown or has ended, and no session was revoked; name an active session of this "
                "owner, or none to revoke all",
            )
        )
