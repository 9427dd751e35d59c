"""CreateSession."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from authsvc.model import platform
from authsvc.model.address import normalized
from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import SESSION, KeyMint, KeyString
from authsvc.model.session import NewSession, Session, SessionBounds, identity, shortened
from authsvc.sessions.opening import Opening, SessionOpenings
from authsvc.verify.session_digest import session_digest


class SessionCreation(Protocol):
    """Creates sessions."""

    _openings: SessionOpenings
    _mint: KeyMint
    _brand: str
    _bounds: SessionBounds
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def create(self, caller: Caller, new: NewSession) -> tuple[Session, KeyString]:
        """Create a session; return it with its token, which cannot be read again (rule 1).

        The user agent is shortened to 512 characters.

        Raises:
            InvalidArgument: INVALID_FIELD, if a scope is unknown, `idle_timeout` or `lifetime` is out of the
                operator's bounds, or the owner's name resembles the platform's.
            PermissionDenied: OWNER_NOT_PERMITTED; SCOPE_NOT_GRANTABLE, if the caller lacks one of the scopes;
                PLATFORM_NEEDS_FULL_ACCESS; KEY_MANAGER_NOT_PERMITTED, if the session could manage keys and
                the owner's policy forbids the caller to do so.
        """
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
            details={
                "ip_address": session.ip_address,
                "scopes": " ".join(session.scopes),
                **identity(session.annotations),
            },
        )
        await self._openings.open(Opening(caller, session, event, session_digest(minted.secret)))
        return session, minted
