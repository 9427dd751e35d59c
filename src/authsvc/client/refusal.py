"""Refusals of calls and requests: a status code, a stable reason, and a message that says what to do."""

import grpc

from authsvc.client import rich_status
from authsvc.client.verdict import RateLimit, VerdictCode
from authsvc.model.refusal import LIMITED, REFUSALS

_MAX_METADATA_LENGTH = 3200
# The service refuses its own callers in the same words.
_BAD = {VerdictCode[code.name]: refusal for code, refusal in REFUSALS.items()}
_LIMITED = {VerdictCode[code.name]: refusal for code, refusal in LIMITED.items()}


class Refusal(Exception):
    """A call that is refused."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str,
        *,
        retry_after: float | None = None,
        limits: tuple[RateLimit, ...] = (),
        **metadata: str,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.retry_after = retry_after
        self.limits = limits
        self.metadata = metadata

    @property
    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """The details for clients of gRPC."""
        return rich_status.write(self.code, self.message, self.reason, self.metadata, self.retry_after)


def unauthenticated(message: str, reason: str) -> Refusal:
    """Return the refusal of a caller that is not authenticated."""
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, message, reason)


def bad_credential(code: VerdictCode) -> Refusal:
    """Return the refusal of a credential that is not valid, with the cause."""
    reason, problem = _BAD.get(code, ("CREDENTIAL_INVALID", "is not accepted"))
    return unauthenticated(f"the presented credential {problem}", reason)


def limited(code: VerdictCode, retry_after: float | None, limits: tuple[RateLimit, ...]) -> Refusal:
    """Return the refusal of a key that has reached a rate limit or has no credits, with its limits."""
    reason, problem = _LIMITED[code]
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"the presented credential {problem}",
        reason,
        retry_after=retry_after,
        limits=limits,
    )


def scope_missing(missing: tuple[str, ...]) -> Refusal:
    """Return the refusal of a valid credential that lacks scopes."""
    named = " ".join(missing)[:_MAX_METADATA_LENGTH]
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        f"this needs the scope {named[:200]}",
        "SCOPE_MISSING",
        required_scope=named,
    )


def method_not_listed(method: str) -> Refusal:
    """Return the refusal of a method for which no scopes are configured."""
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        "the service has no scopes configured for this method; it must list the method",
        "METHOD_NOT_LISTED",
        method=method[:_MAX_METADATA_LENGTH],
    )


def route_not_permitted() -> Refusal:
    """Return the refusal of an HTTP request whose method and path are not listed, or are ambiguous."""
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        "the service has no scopes configured for this method and path, or the path can be read in several "
        "ways",
        "ROUTE_NOT_PERMITTED",
    )


def unavailable(retry_after: float | None) -> Refusal:
    """Return the refusal of a credential that cannot be verified right now. The cause is only in our log."""
    return Refusal(
        grpc.StatusCode.UNAVAILABLE,
        "the credential cannot be verified right now; retry",
        "VERIFIER_UNAVAILABLE",
        retry_after=1.0 if retry_after is None else retry_after,
    )
