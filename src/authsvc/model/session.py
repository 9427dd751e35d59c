"""A session, which is one signed-in device, and the rules of its life cycle.

    ACTIVE ──idle too long, or too old──▶ EXPIRED ──revoke──▶ REVOKED ──retention──▶ gone
       └───────────revoke, or all of the owner────────────────▲

The state is derived from the times and never stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Self

from authsvc.model.activity import SHORTEST_TIMEOUT
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.errors import AlreadyDone, FieldViolation, InvalidArgument
from authsvc.model.text import cleaned
from authsvc.model.user_agent import AGENT_LENGTH


class SessionState(Enum):
    """Whether a session can be used."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session without its secret. Instants are UTC; a text that is not set is empty."""

    session_id: str
    owner_id: str
    key_prefix: str
    scopes: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    create_time: datetime
    creator_id: str
    latest_expire_time: datetime
    idle_timeout: timedelta
    last_activity_time: datetime
    user_agent: str = ""
    ip_address: str = ""
    client_hints: ClientHints = NO_HINTS
    revoke_time: datetime | None = None
    revoker_id: str = ""

    @property
    def expire_time(self) -> datetime:
        """When the session ends unless it is used before then."""
        return min(self.last_activity_time + self.idle_timeout, self.latest_expire_time)

    def state(self, now: datetime) -> SessionState:
        """Return the state at `now`. Revocations are never scheduled, so no clock affects them (rule 16)."""
        if self.revoke_time is not None:
            return SessionState.REVOKED
        return SessionState.EXPIRED if now >= self.expire_time else SessionState.ACTIVE

    def revoked(self, now: datetime, *, by: str) -> Self:
        """Return the session as ended at `now`."""
        return replace(self, revoke_time=now, revoker_id=by)

    def refuse_if_revoked(self) -> None:
        """Raise AlreadyDone when the session was revoked."""
        if self.revoke_time is not None:
            raise AlreadyDone(
                f"session {self.session_id} was already revoked at {self.revoke_time.isoformat()}",
                reason="SESSION_ALREADY_REVOKED",
                session_id=self.session_id,
            )


#: Annotations that say who has signed in where that is not the owner: a member of staff, by their provider.
SIGNED_IN_AS, ISSUER, SUBJECT = "signed-in-as", "oidc-issuer", "oidc-subject"
# They are recorded with the creation, since sessions are deleted long before audit events.
_IDENTITY = {"signed_in_as": SIGNED_IN_AS, "issuer": ISSUER, "subject": SUBJECT}


def identity(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return what the audit log has of the annotations of a session; "" for what is not there."""
    return {name: annotations.get(annotation, "") for name, annotation in _IDENTITY.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """The fields of a new session. A duration that is None is the operator's default."""

    owner_id: str
    user_agent: str = ""
    ip_address: str = ""
    # As `ClientHints.kept` returns them. They are stored unchanged.
    client_hints: ClientHints = NO_HINTS
    scopes: tuple[str, ...] = ()
    idle_timeout: timedelta | None = None
    lifetime: timedelta | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionBounds:
    """The operator's defaults and maxima for the durations of sessions."""

    idle_timeout: timedelta
    max_idle_timeout: timedelta
    lifetime: timedelta
    max_lifetime: timedelta

    def lengths(self, new: NewSession) -> tuple[timedelta, timedelta]:
        """Return the idle timeout and the lifetime of a new session.

        Raises InvalidArgument for durations outside of the bounds.
        """
        idle_timeout = self.idle_timeout if new.idle_timeout is None else new.idle_timeout
        lifetime = self.lifetime if new.lifetime is None else new.lifetime
        violations = [
            FieldViolation(name, f"{name}.bounds", f"use {_shown(SHORTEST_TIMEOUT)} to {_shown(most)}")
            for name, length, most in (
                ("idle_timeout", idle_timeout, self.max_idle_timeout),
                ("lifetime", lifetime, self.max_lifetime),
            )
            if not SHORTEST_TIMEOUT <= length <= most
        ]
        if violations:
            raise InvalidArgument(*violations)
        return idle_timeout, lifetime


def shortened(user_agent: str) -> str:
    """Return a user agent as it is stored: cut, and without invisible characters."""
    return cleaned(user_agent[:AGENT_LENGTH])


def _shown(length: timedelta) -> str:
    return f"{int(length.total_seconds())}s ({str(length).removesuffix(', 0:00:00')})"
