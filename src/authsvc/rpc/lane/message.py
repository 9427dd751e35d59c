"""Messages as gRPC frames them: a flag for compression, a length in four bytes, the bytes."""

import zlib

import grpc

from authsvc.rpc.limits import MAX_MESSAGE_BYTES

#: The bytes before a message.
PREFIX_BYTES = 5
# What zlib calls the formats: a gzip file, and a zlib stream, which gRPC calls deflate.
_FORMATS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class Refused(Exception):
    """A message that is not taken: the status to end its call with."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def framed(message: bytes) -> bytes:
    """Return a message with its prefix, uncompressed."""
    return b"\0" + len(message).to_bytes(4) + message


def whole(data: bytes) -> bytes | None:
    """Return the message if it is exactly what the data holds, uncompressed."""
    if len(data) - PREFIX_BYTES == int.from_bytes(data[1:PREFIX_BYTES]) and not data[0]:
        return data[PREFIX_BYTES:]
    return None


def take(received: bytearray, encoding: bytes) -> bytes | None:
    """Remove the first message from what was received, and return it; None until all of it is there.

    Raises Refused for one that is too large, as soon as its length is known, and for one that cannot be
    decompressed.
    """
    if len(received) < PREFIX_BYTES:
        return None
    flag, size = received[0], int.from_bytes(received[1:PREFIX_BYTES])
    if size > MAX_MESSAGE_BYTES:
        raise Refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the message has {size} bytes; at most {MAX_MESSAGE_BYTES} are accepted",
        )
    if flag > 1:
        raise Refused(grpc.StatusCode.INTERNAL, f"the flag before the message is {flag}; use 0 or 1")
    if len(received) < PREFIX_BYTES + size:
        return None
    data = bytes(received[PREFIX_BYTES : PREFIX_BYTES + size])
    del received[: PREFIX_BYTES + size]
    return decompressed(data, encoding) if flag else data


def decompressed(data: bytes, encoding: bytes) -> bytes:
    """Return a message that was compressed; raise Refused.

    No more is decompressed than a message may have.
    """
    if encoding in (b"", b"identity"):
        raise Refused(
            grpc.StatusCode.INTERNAL, "the message is marked as compressed, and grpc-encoding names no format"
        )
    if encoding not in _FORMATS:
        raise Refused(
            grpc.StatusCode.UNIMPLEMENTED, "the message is compressed in a format that is not known; use gzip"
        )
    if not data:  # as gRPC has it
        return b""
    unpacking = zlib.decompressobj(_FORMATS[encoding])
    try:
        unpacked = unpacking.decompress(data, MAX_MESSAGE_BYTES + 1)
    except zlib.error as error:
        raise Refused(grpc.StatusCode.INTERNAL, "the message cannot be decompressed") from error
    if len(unpacked) > MAX_MESSAGE_BYTES:
        raise Refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the message has more than {MAX_MESSAGE_BYTES} bytes when it is decompressed",
        )
    if not unpacking.eof:
        raise Refused(grpc.StatusCode.INTERNAL, "the message cannot be decompressed: it ends too early")
    if unpacking.unused_data:
        raise Refused(grpc.StatusCode.INTERNAL, "the message cannot be decompressed: more follows its end")
    return unpacked
