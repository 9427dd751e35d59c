"""The access log: one line for each call that has ended.

A line has ids, codes and counts, and no text that a caller chooses, except its request id.
"""

import asyncio
import logging
from typing import Literal, TypeAlias

from google.rpc import code_pb2

from authsvc.model.caller import Caller
from authsvc.model.key_use import network_of

#: What is logged: nothing, calls that ended with an error, or all calls.
Which: TypeAlias = Literal["off", "errors", "all"]

_log = logging.getLogger(__name__)


class Outcome:
    """How a call ended. Filled while it goes on."""

    __slots__ = ("caller", "code", "number", "reason", "size", "verdict")

    def __init__(self) -> None:
        #: The name and the number of a `google.rpc.Code`.
        self.code, self.number = "OK", 0
        #: The reason of an error, such as KEY_NOT_FOUND.
        self.reason = ""
        #: What a verification has answered, such as REVOKED; the HTTP status of the check over HTTP.
        self.verdict = ""
        #: Who called, if that is known.
        self.caller: Caller | None = None
        #: Bytes of the answer.
        self.size = 0

    def raised(self, error: BaseException) -> None:
        """Note an error that nobody has handled, unless one is noted: the caller's leave, or a fault."""
        if not self.number:
            is_left = isinstance(error, asyncio.CancelledError)
            number = code_pb2.CANCELLED if is_left else code_pb2.INTERNAL
            self.fail(number, code_pb2.Code.Name(number))

    def fail(self, number: int, code: str, reason: str = "") -> None:
        """Note an error."""
        self.number, self.code, self.reason = number, code, reason


class AccessLog:
    """Writes the lines, whatever AUTHSVC_LOG_LEVEL is."""

    def __init__(self, which: Which) -> None:
        """Take what is logged."""
        self._all, self._errors = which == "all", which != "off"
        if self._errors:
            _log.setLevel(logging.INFO)

    @property
    def is_on(self) -> bool:
        """Whether any call may be logged."""
        return self._errors

    @property
    def takes_all(self) -> bool:
        """Whether calls are logged that ended well."""
        return self._all

    def write(self, method: str, system: str, outcome: Outcome, seconds: float) -> None:
        """Write a line; the current call has the ids."""
        if not (self._all or (self._errors and outcome.number)):
            return
        caller = outcome.caller
        fields: dict[str, object] = {
            "method": method,
            "over": system,
            "code": outcome.code,
            "reason": outcome.reason,
            "verdict": outcome.verdict,
            "ms": round(1000 * seconds, 3),
            "bytes": outcome.size,
        }
        if caller is not None:
            fields["caller_id"] = caller.credential_id
            fields["owner_id"] = caller.owner_id
            fields["network"] = network_of(caller.client_ip)
        kept = {name: value for name, value in fields.items() if value != ""}
        _log.info("call", extra={"fields": kept})
