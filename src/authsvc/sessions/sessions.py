"""The life of sessions: check the caller, do it, make it known.

Like keys: the caller comes first, and a change is answered when no worker anywhere
acts on what was before; see `barrier`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from authsvc import audit
from authsvc.model import platform
from authsvc.model.address import normalized
from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import FieldViolation, InvalidArgument, NotFound
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import SESSION, KeyMint, KeyString
from authsvc.model.page_token import PageTokens
from authsvc.model.session import NewSession, Session, SessionBounds, SessionState, shortened
from authsvc.model.session_query import SessionPosition, SessionQuery
from authsvc.revocation.authority import Authority, Claim
from authsvc.revocation.barrier import Barrier
from authsvc.sessions.opening import Opening, SessionOpenings
from authsvc.store import sessions as session_store
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.verify.session_digest import session_digest


class Sessions:
    """The use cases of SessionService, but for verification, which is the Verifier's."""

    def __init__(
        self,
        *,
        database: Database,
        authority: Authority,
        barrier: Barrier,
        mint: KeyMint,
        page_tokens: PageTokens,
        clock: Callable[[], datetime],
        brand: str,
        bounds: SessionBounds,
        catalogue: Catalogue,
        policies: PolicyStore,
    ) -> None:
        self._database = database
        self._openings = SessionOpenings(database, authority, policies, catalogue)
        self._barrier = barrier
        self._mint = mint
        self._page_tokens = page_tokens
        self._clock = clock
        self._brand = brand
        self._bounds = bounds
        self._catalogue = catalogue

    async def create(self, caller: Caller, new: NewSession) -> tuple[Session, KeyString]:
        """Open a session; this is the only time that its token is told (rule 1)."""
        caller.refuse_other_owner(new.owner_id)
        platform.refuse_new_credential(caller, new.owner_id)
        self._catalogue.check_grant(caller, new.scopes)
        idle_timeout, lifetime = self._bounds.lengths(new)
        now = self._clock()
        minted = self._mint.mint(self._brand, SESSION)
        session = Session(
            session_id=new_identifier("ses", now),
            owner_id=new.owner_id,
            key_prefix=minted.prefix,
            scopes=tuple(sorted(new.scopes)),
            annotations=new.annotations,
            create_time=now,
            creator_id=caller.credential_id,
            latest_expire_time=now + lifetime,
            idle_timeout=idle_timeout,
            last_activity_time=now,
            user_agent=shortened(new.user_agent),
            ip_address=normalized(new.ip_address),
            client_hints=new.client_hints,
        )
        event = AuditEvent.of(
            caller,
            Action.SESSION_CREATED,
            at=now,
            target_id=session.session_id,
            owner_id=session.owner_id,
            details={"ip_address": session.ip_address, "scopes": " ".join(session.scopes)},
        )
        await self._openings.open(Opening(caller, session, event, session_digest(minted.secret)))
        return session, minted

    async def get(self, caller: Caller, session_id: str) -> Session:
        """Return a session."""
        async with self._database.connection() as connection:
            found = await session_store.find(connection, [session_id], owner_id=caller.confined_to)
        return _visible(caller, session_id, found.get(session_id))

    async def list(
        self, caller: Caller, query: SessionQuery, *, page_size: int, page_token: str
    ) -> tuple[Sequence[Session], str]:
        """Return a page of sessions, and the token of the next page ("" on the last)."""
        caller.refuse_other_owner(query.owner_id)
        after = SessionPosition.read(self._page_tokens.open(query, page_token)) if page_token else None
        async with self._database.listing(caller.quota_owner) as connection:
            page, more = await session_store.page(
                connection,
                query.owner_id,
                include_ended=query.include_ended,
                now=self._clock(),
                size=page_size,
                after=after,
            )
        if not more:
            return page, ""
        last = SessionPosition(page[-1].last_activity_time, page[-1].session_id)
        return page, self._page_tokens.seal(query, last)

    async def revoke(self, caller: Caller, session_id: str) -> Session:
        """End a session for good (rule 25)."""
        claim = Claim(changes=[session_id], revokes=True)
        async with self._barrier.change(caller, claim, done="revoked") as change:
            found = await session_store.find(change.connection, [session_id], owner_id=caller.confined_to)
            change.key_prefixes.update(session.key_prefix for session in found.values())
            session = _visible(caller, session_id, found.get(session_id))
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
        """End all sessions of an owner, but for one if it is named (rule 26); return how many were active.

        A session that is being opened meanwhile is waited for, and ended. No session is looked at
        but to count: verification forgets the owner, and each session says what became of its epoch.
        """
        caller.refuse_other_owner(owner_id)
        excepted = [except_session_id] if except_session_id else ()
        claim = Claim(ends_sessions_of=owner_id, changes=excepted, revokes=True)
        async with self._barrier.change(caller, claim, done="revoked") as change:
            change.owner_id, change.kind = owner_id, CredentialKind.SESSION
            now = self._clock()
            if except_session_id:
                # Locked by the claim: who revokes it has done so, or will not before the commit. Activities
                # of the last seconds before the end of a session are recorded before they are answered.
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
    """Refuse an exception that is no living session of the owner; unknown and foreign ones look the same."""
    if excepted is None or excepted.state(now) is not SessionState.ACTIVE:
        raise InvalidArgument(
            FieldViolation(
                "except_session_id",
                "except_session_id.living",
                "is not known or has ended, and no session was ended; name a living session of this "
                "owner, or none to end all",
            )
        )


def _visible(caller: Caller, session_id: str, session: Session | None) -> Session:
    """Return the session; raise NotFound for one unknown or another owner's (rule 19)."""
    if session is None or not caller.acts_on(session.owner_id):
        raise NotFound(
            f"session {session_id} is not known", reason="SESSION_NOT_FOUND", session_id=session_id
        )
    return session
