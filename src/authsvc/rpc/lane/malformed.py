"""The answer to a call whose headers break the rules of HTTP/2 (RFC 9113, 8.2.1).

nghttp2 resets the stream, and clients show that as an internal error. A status that arrives before the reset
says what to mend: most often, a program sends `Bearer ` with a key that is not set. Nobody was authenticated,
whichever header it is.
"""

import grpc
from google.rpc.code_pb2 import Code

from authsvc.entrance.rich_status import rich_status
from authsvc.rpc.lane import head

_HEADERS, _END_STREAM, _END_HEADERS = 1, 1, 4
# The largest number that a prefix of seven bits holds, and one more.
_PREFIX_MAX = 127
_PROBLEM = (
    "a header is malformed; no value may begin or end with a blank, or hold a control character, and the "
    "path begins with a slash. Is the key in the authorization header empty?"
)
_DETAILS = rich_status(Code.UNAUTHENTICATED, _PROBLEM, "HEADER_MALFORMED", {}).SerializeToString()
_STATUS = head.status(grpc.StatusCode.UNAUTHENTICATED, _PROBLEM, (("grpc-status-details-bin", _DETAILS),))


def frame(number: int) -> bytes:
    """Return the answer on a stream as a frame.

    Its headers are literals (RFC 7541, 6.2.2), so they neither need nor change the state of the compression.
    """
    return (
        len(_BLOCK).to_bytes(3) + bytes([_HEADERS, _END_STREAM | _END_HEADERS]) + number.to_bytes(4) + _BLOCK
    )


def _literal(text: bytes) -> bytes:
    """Return a text as it is (RFC 7541, 5.2), after its length (5.1)."""
    size = len(text)
    if size < _PREFIX_MAX:
        return bytes([size]) + text
    length, rest = bytearray([_PREFIX_MAX]), size - _PREFIX_MAX
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(length) + bytes([rest]) + text


_BLOCK = b"".join(b"\0" + _literal(name) + _literal(value) for name, value in head.only_status(_STATUS))
