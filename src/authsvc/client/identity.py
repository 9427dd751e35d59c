"""Who calls, for the handlers of a call."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from authsvc.client.verdict import FULL_ACCESS, CredentialType, Verdict


@dataclass(frozen=True, slots=True)
class Identity:
    """The credential that a call was let through with, and whose it is."""

    credential_id: str
    type: CredentialType
    owner_id: str
    scopes: tuple[str, ...]
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, verdict: Verdict) -> "Identity":
        """Return whose a VALID credential is."""
        return cls(verdict.credential_id, verdict.type, verdict.owner_id, verdict.scopes, verdict.annotations)

    def has(self, scope: str) -> bool:
        """Say whether the credential may do this (rule 22), for what depends on the request."""
        return scope in self.scopes or FULL_ACCESS in self.scopes


_current: ContextVar[Identity | None] = ContextVar("authsvc_identity", default=None)


def current() -> Identity:
    """Return who calls. Raises LookupError outside of a call, and in one of a public method."""
    identity = _current.get()
    if identity is None:
        raise LookupError("nobody is authenticated here: the method is public, or this is not within a call")
    return identity


def set_current(identity: Identity | None) -> None:
    """Say who calls, to all that this task goes on to do."""
    _current.set(identity)
