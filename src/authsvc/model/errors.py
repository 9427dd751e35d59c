"""What can go wrong, in words that no transport owns.

    AuthsvcError
    ├── InvalidArgument      a field is wrong; carries the violations
    ├── Unauthenticated      we do not know who calls
    ├── PermissionDenied     we do, and they may not
    ├── NotFound             no such thing, or not for this caller's eyes
    ├── AlreadyExists        this request was carried out before
    ├── FailedPrecondition   the thing is not in the state that this needs
    │   └── AlreadyDone      it was done before, for good
    ├── Conflict             somebody else was faster (etag)
    └── RetryableError              try again later; carries when
        ├── Overloaded       too much at once: nothing was done
        ├── Unavailable      a part is out of reach, or held by others: the outcome may be unknown
        └── DeadlineExceeded it is done, and not everybody has confirmed it in the caller's time

An OperatorError is not one of them: it answers no request, but ends a command or a process.

A bad credential that is being verified is a verdict, not an error (rule 20).
`rpc/status.py` holds the one table that maps these to gRPC.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks a rule.

    `field` is its path in the request, `rule` a stable id, `description` what is
    wrong and how to mend it.
    """

    field: str
    rule: str
    description: str


class AuthsvcError(Exception):
    """The root. `reason` is stable UPPER_SNAKE, `metadata` is for programs."""

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
    """The caller's credential is missing or not good."""


class PermissionDenied(AuthsvcError):
    """The caller is known and may not do this."""


class NotFound(AuthsvcError):
    """Unknown, or another owner's: the two look the same (rule 19)."""


class AlreadyExists(AuthsvcError):
    """A call with the same `request_id` was carried out before."""


class FailedPrecondition(AuthsvcError):
    """The thing is not in the state that the call needs."""


class AlreadyDone(FailedPrecondition):
    """What was asked was done before. Who is told so may rely on it as on the doing."""


class Conflict(AuthsvcError):
    """The caller saw an older version than the current one."""


class RetryableError(AuthsvcError):
    """Trouble that passes. `retry_after` is in seconds."""

    def __init__(self, message: str, *, reason: str, retry_after: float, **metadata: str) -> None:
        super().__init__(message, reason=reason, **metadata)
        self.retry_after = retry_after


class Overloaded(RetryableError):
    """More was asked than we are ready to queue; nothing was done."""


class Unavailable(RetryableError):
    """A part that the answer needs is out of reach, or held by others for too long."""


class DeadlineExceeded(RetryableError):
    """The caller's time is over before all is confirmed. What was asked is durable."""
