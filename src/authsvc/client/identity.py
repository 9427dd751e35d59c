"""The authenticated caller, for handlers."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from authsvc.client import refusal
from authsvc.client.verdict import FULL_ACCESS, CredentialType, Verdict, VerdictCode


@dataclass(frozen=True, slots=True)
class Identity:
    """The credential of an accepted call, and its owner."""

    credential_id: str
    type: CredentialType
    owner_id: str
    scopes: tuple[str, ...]
    annotations: Mapping[str, str]

    @classmethod
    def of(cls, verdict: Verdict) -> "Identity":
        """Return the identity for a VALID verdict."""
        return cls(verdict.credential_id, verdict.type, verdict.owner_id, verdict.scopes, verdict.annotations)

    def has(self, scope: str) -> bool:
        """Return whether the credential has a scope (rule 22), for checks that depend on the request."""
        return scope in self.scopes or FULL_ACCESS in self.scopes


def identified(verdict: Verdict, scopes: tuple[str, ...]) -> Identity:
    """Return the identity for a verdict about these scopes. Raise Refusal if it is not VALID."""
    if verdict.code is VerdictCode.VALID:
        return Identity.of(verdict)
    if verdict.code is VerdictCode.INSUFFICIENT_SCOPE:
        raise refusal.scope_missing(verdict.lacks(scopes))
    if verdict.code in (VerdictCode.RATE_LIMITED, VerdictCode.CREDITS_EXHAUSTED):
        raise refusal.limited(verdict.code, verdict.retry_after, verdict.rate_limits)
    raise refusal.bad_credential(verdict.code)


_current: ContextVar[Identity | None] = ContextVar("authsvc_identity", default=None)


def current() -> Identity:
    """Return the caller. Raises LookupError outside of a call, and in one that needs no credential."""
    identity = _current.get()
    if identity is None:
        raise LookupError(
            "no caller is authenticated: the method or path is public, or this is not within a call"
        )
    return identity


def set_current(identity: Identity | None) -> None:
    """Set the caller for the rest of this task."""
    _current.set(identity)
