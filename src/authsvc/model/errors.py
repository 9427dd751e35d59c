"""The errors of the service, independent of the transport.

    AuthsvcError
    ├── InvalidArgument      a field is wrong; carries the violations
    ├── Unauthenticated      the caller is not known
    ├── PermissionDenied     the caller is known, but may not do this
    ├── NotFound             there is no such resource, or it is another owner's
    ├── AlreadyExists        a request with this id was carried out before
    ├── FailedPrecondition   the resource is not in the required state
    │   └── AlreadyDone      this was done before, and is final
    ├── TooLarge             the request has more bytes than are accepted
    ├── Conflict             the resource was changed by another call (etag)
    └── RetryableError       try again later; says when
        ├── Overloaded       too many calls: nothing was done
        ├── Unavailable      a dependency is out of reach or locked: the outcome may be unknown
        └── DeadlineExceeded done, but not confirmed by every worker within the caller's time

An OperatorError is not one of them: it answers no request, but ends a command or a process.

A bad credential that is being verified is a verdict, not an error (rule 20).
`entrance/code.py` holds the one table that maps these to gRPC.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks a rule.

    `field` is its path in the request, `rule` a stable id, `description` the problem and its remedy.
    """

    field: str
    rule: str
    description: str


class AuthsvcError(Exception):
    """The base class. `reason` is a stable UPPER_SNAKE id, `metadata` is for programs."""

    def __init__(self, message: str, *, reason: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = metadata


class OperatorError(Exception):
    """Something that the operator has to put right; the message says what, and how.

    It ends a command or a process with its message alone: no traceback, exit code 1. So the message
    holds no secret, and names the setting, the file or the address that it is about.
    """


class InvalidArgument(AuthsvcError):
    """The request breaks rules; nothing was done."""

    def __init__(self, *violations: FieldViolation) -> None:
        told = "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in violations[:3])
        more = f" (and {len(violations) - 3} more)" if len(violations) > 3 else ""
        super().__init__(told + more, reason="INVALID_FIELD")
        self.violations = violations


class Unauthenticated(AuthsvcError):
    """The credential of the caller is missing or not valid."""


class PermissionDenied(AuthsvcError):
    """The caller is known and may not do this."""


class NotFound(AuthsvcError):
    """Unknown, or another owner's: the two look the same (rule 19)."""


class AlreadyExists(AuthsvcError):
    """A call with the same `request_id` was carried out before."""


class FailedPrecondition(AuthsvcError):
    """The resource is not in the state that the call requires."""


class AlreadyDone(FailedPrecondition):
    """The request was carried out before. The caller may rely on that as on a success."""


class TooLarge(AuthsvcError):
    """The request has more bytes than are accepted; nothing was done."""


class Conflict(AuthsvcError):
    """The caller saw an older version than the current one."""


class RetryableError(AuthsvcError):
    """A temporary error. `retry_after` is in seconds."""

    def __init__(self, message: str, *, reason: str, retry_after: float, **metadata: str) -> None:
        super().__init__(message, reason=reason, **metadata)
        self.retry_after = retry_after


class Overloaded(RetryableError):
    """Too many calls are waiting; nothing was done."""


class Unavailable(RetryableError):
    """A dependency is out of reach, or was locked by others for too long."""


class DeadlineExceeded(RetryableError):
    """The caller's time ended before all workers confirmed. The change is durable."""
