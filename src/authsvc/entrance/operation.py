"""An operation: an RPC, or the check over HTTP."""

from authsvc.model.caller import Caller
from authsvc.model.errors import PermissionDenied
from authsvc.telemetry import Metrics


class Operation:
    """A name, and the scopes that it requires. Built once, and used by each call of it."""

    __slots__ = (
        "_errors",
        "_only",
        "changes",
        "has_deadline",
        "is_open",
        "is_verification",
        "name",
        "observe",
        "scopes",
    )

    def __init__(self, name: str, scopes: tuple[str, ...], metrics: Metrics) -> None:
        """Take the name by which metrics and the audit log know it, and the scopes, all of them required.

        Without scopes, it is open to all, and its answer must tell nothing.
        """
        self.name = name
        self.scopes = scopes
        # Most operations require one scope, and most callers have it.
        self._only = scopes[0] if len(scopes) == 1 else None
        #: Whether anybody may call, also without a credential.
        self.is_open = not scopes
        #: Whether it changes something, so that the caller is looked at again when the change is made.
        self.changes = any(scope.endswith((":write", ":self")) for scope in scopes)
        #: Whether it may wait for other workers, until the caller's deadline.
        self.has_deadline = self.changes or self.is_open
        #: Whether it is answered from memory, mostly; everything else may wait long for the database.
        self.is_verification = bool(scopes) and all(scope.endswith(":verify") for scope in scopes)
        #: Takes how long a call took, in seconds.
        self.observe = metrics.calls_of(name, is_verification=self.is_verification)
        self._errors = metrics.rpc_errors

    def check_scopes(self, caller: Caller) -> None:
        """Raise PermissionDenied (SCOPE_MISSING) for a caller that lacks one of the scopes."""
        if self._only in caller.scopes:
            return
        if lacking := caller.lacks(self.scopes):
            raise PermissionDenied(
                f"{self.name} needs the scope {' and '.join(lacking)}",
                reason="SCOPE_MISSING",
                required_scope=lacking[0],
            )

    def count_error(self, code: str) -> None:
        """Count a call that ended with a code, a name of `google.rpc.Code`."""
        self._errors.labels(self.name, code).inc()
