"""A call as plain values, before it is authenticated."""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from authsvc.model.key_string import redact

_MAX_REQUEST_ID_LENGTH = 128


class IncomingCall(NamedTuple):
    """Plain values of a call, whatever the transport is."""

    # Of the other end of the connection; "" when it has none.
    address: str
    # One for each header that is meant to hold a credential: the text of the credential; "" for an empty
    # header; None for a header that holds something else, such as another scheme.
    credentials: Sequence[str | None] = ()
    # The values of the headers `x-forwarded-for`, as they came.
    forwarded_for: Sequence[str] = ()
    # The SPIFFE id or the subject of the client's certificate; "" if it has neither, None if it is known that
    # the client has shown none.
    certificate_name: str | None = ""
    # What the caller names this call, as it came.
    request_id: str = ""
    # Until when the caller waits, in seconds of the stopwatch.
    deadline: float = inf

    def __repr__(self) -> str:
        """Return a text without the credentials, so that no log line or traceback has them."""
        return f"IncomingCall(address={self.address!r}, {len(self.credentials)} credentials)"


def loggable(request_id: str) -> str:
    """Return a request id if it may be kept: short, printable, and without a key string; otherwise ""."""
    fits = (
        len(request_id) <= _MAX_REQUEST_ID_LENGTH
        and request_id.isprintable()
        and redact(request_id) == request_id
    )
    return request_id if fits else ""
