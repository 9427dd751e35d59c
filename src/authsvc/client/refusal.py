"""How a call is refused: with a code, a reason that programs can read, and what to do."""

import grpc

from authsvc.client import rich_status
from authsvc.client.verdict import VerdictCode

_MAX_METADATA = 3200

_BAD = {
    VerdictCode.NOT_FOUND: ("CREDENTIAL_INVALID", "is not known; check that it was copied whole"),
    VerdictCode.REVOKED: ("CREDENTIAL_REVOKED", "was revoked; create a new key, or sign in again"),
    VerdictCode.EXPIRED: (
        "CREDENTIAL_EXPIRED",
        "has expired; create or rotate to a new key, or sign in again",
    ),
    VerdictCode.DISABLED: ("CREDENTIAL_DISABLED", "is switched off, like all keys of its owner"),
}


class Refusal(Exception):
    """A call that may not go on."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str,
        *,
        retry_after: float | None = None,
        **metadata: str,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailers = rich_status.write(code, message, reason, metadata, retry_after)


def unauthenticated(message: str, reason: str) -> Refusal:
    """Say that nobody knows who calls."""
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, message, reason)


def bad_credential(code: VerdictCode) -> Refusal:
    """Say why a credential is not good."""
    reason, problem = _BAD.get(code, ("CREDENTIAL_INVALID", "is not accepted"))
    return unauthenticated(f"the presented credential {problem}", reason)


def scope_missing(missing: tuple[str, ...]) -> Refusal:
    """Say that a credential is good, and not for this."""
    named = " ".join(missing)[:_MAX_METADATA]
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        f"this needs the scope {named[:200]}",
        "SCOPE_MISSING",
        required_scope=named,
    )


def method_not_listed(method: str) -> Refusal:
    """Say that nobody may call this, since nobody has said who may."""
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        "the service names no scopes for this method; it has to list it",
        "METHOD_NOT_LISTED",
        method=method[:_MAX_METADATA],
    )


def unavailable(retry_after: float | None) -> Refusal:
    """Say that nobody can know right now. Why stays in our log: it is not for our callers."""
    return Refusal(
        grpc.StatusCode.UNAVAILABLE,
        "the credential cannot be verified right now; retry",
        "VERIFIER_UNAVAILABLE",
        retry_after=1.0 if retry_after is None else retry_after,
    )
