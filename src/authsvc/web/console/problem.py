"""A refusal of an RPC as pages show it."""

from collections.abc import Mapping
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from authsvc.entrance.code import code_of
from authsvc.model.errors import AuthsvcError, RetryableError
from authsvc.web.console.shown import text
from authsvc.web.rpcs import CODES, Refusal

_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Problem(Exception):
    """An RPC was refused."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str = "",
        message: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code, self.reason, self.message = code, reason, message
        self.metadata = metadata or {}
        #: What is wrong with fields of the request, by their paths: `technical_contacts[0].email`.
        self.fields = fields or {}
        #: Seconds after which the same may succeed.
        self.retry_after = retry_after

    @property
    def http_status(self) -> int:
        """The status of a page that shows it."""
        return _HTTP.get(self.code, 500)

    @property
    def ends_session(self) -> bool:
        """Whether the credential was refused."""
        return self.code is grpc.StatusCode.UNAUTHENTICATED

    def has(self, name: str) -> bool:
        """Return whether something is wrong with a field of the request, or with a part of it."""
        return self._path(name) is not None

    def field(self, name: str) -> str:
        """Return what is wrong with a field or with a part of it."""
        return self.fields[self._path(name) or ""]

    def entry(self, name: str, key: str | int) -> str:
        """Return what is wrong with one entry of a map or list, `annotations['team']`, or with a part of it.

        "" if nothing is.
        """
        entry = f"{name}[{key!r}]."
        return next((told for path, told in self.fields.items() if entry in f"{path}."), "")

    @property
    def told(self) -> Mapping[str, Any]:
        """The metadata as texts may name them."""
        return {"required_scope": ""} | {name: text(value) for name, value in self.metadata.items()}

    def _path(self, name: str) -> str | None:
        for path in self.fields:
            bare = path.removeprefix("key.").removeprefix("policy.").removeprefix("webhook.")
            if bare == name or bare.startswith((f"{name}[", f"{name}.")):
                return path
        return None


def problem_of(refusal: Refusal) -> Problem:
    """Return what a refusal says."""
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    seconds = None
    for detail in refusal.status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return Problem(
        refusal.code,
        info.reason,
        refusal.status.message,
        metadata=dict(info.metadata),
        fields={violation.field: violation.description for violation in reversed(bad.field_violations)},
        retry_after=seconds,
    )


def problem_of_error(error: AuthsvcError) -> Problem:
    """Return what an error of the entrance says."""
    return Problem(
        CODES[code_of(error)],
        error.reason,
        error.message,
        metadata=error.metadata,
        retry_after=error.retry_after if isinstance(error, RetryableError) else None,
    )
