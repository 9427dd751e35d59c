"""What a request over HTTP/1.1 may say in its head, beyond what llhttp already refuses.

llhttp refuses ambiguous lengths, folded and bare line ends and control characters. It accepts a request
without `Host`, codings before `chunked`, other protocols, and targets of proxies; those are refused here.
"""

import re
from collections.abc import Sequence

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

#: The size of a body in chunks, which is known at its end.
CHUNKED = -1

# The target is an absolute path with its query. A request to a proxy has a whole URL there.
_REQUEST_LINE = re.compile(rb"([A-Z-]+) (/[!\"$-~]*) HTTP/(1\.[01])\r\n")
_OTHER_VERSION = re.compile(rb"[^\r\n]* HTTP/(?!1\.[01]\r?\n)[0-9]\.[0-9]\r?\n")

#: What to do about a body where there must be none.
SEND_NONE = "send none, and configure a proxy not to send Content-Length and Transfer-Encoding"
_HAS_A_BODY = f"the request has a body; {SEND_NONE}\n"

Headers = Sequence[tuple[bytes, bytes]]


class RefusedError(Exception):
    """A request that is answered with a status, after which the connection ends."""

    def __init__(self, status: int, problem: str = "") -> None:
        super().__init__(problem)
        self.status = status

    def answer(self, *, with_body: bool) -> bytes:
        """Return the answer."""
        problem = str(self).encode()
        retry = b"retry-after: 1\r\n" if self.status == 503 else b""
        rest = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(problem)
        return STATUS_LINE[self.status] + retry + rest + (problem if with_body else b"")


def request_line(head: bytes) -> tuple[str, bytes, str]:
    """Return the method, the target and the version that a head begins with."""
    if (found := _REQUEST_LINE.match(head)) is None:
        raise RefusedError(505 if _OTHER_VERSION.match(head) else 400)
    method, target, version = found.groups()
    return method.decode(), target, version.decode()


def check_host(version: str, headers: Headers) -> None:
    """Refuse a second `Host`, and its absence where HTTP/1.1 requires it."""
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        raise RefusedError(400)


def body_size(version: str, headers: Headers, max_body_bytes: int) -> int:
    """Return how many bytes follow the head, or CHUNKED; refuse what would be too many."""
    size = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            if not max_body_bytes:
                raise RefusedError(413, _HAS_A_BODY)
            if version == "1.0":
                raise RefusedError(400)
            if value.lower() != b"chunked":
                raise RefusedError(501)
            size = CHUNKED
        elif name == b"content-length":
            size = int(value)
    if size > max_body_bytes:
        raise too_large(max_body_bytes)
    return size


def too_large(max_body_bytes: int) -> RefusedError:
    """Return the refusal of a body, which says how large it may be."""
    if not max_body_bytes:
        return RefusedError(413, _HAS_A_BODY)
    return RefusedError(413, f"the body has more than {max_body_bytes} bytes\n")
