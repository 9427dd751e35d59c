"""A connection in memory: a transport with a client that reads, or does not, and checks what it reads."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import hpack

from authsvc.rpc.lane.connection import Connection
from tests.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES, _MAX_FRAME_BYTES = 9, 16_384
# Control frames that belong to no stream.
_OF_CONNECTION = {SETTINGS, PING, GOAWAY}


class Transport(asyncio.Transport):
    """A transport as uvloop's: it calls its protocol at once about its buffer, and later about its end."""

    def __init__(self, connection: Connection, *, tls: bool = False) -> None:
        super().__init__()
        self._connection, self._tls = connection, tls
        self._loop = asyncio.get_running_loop()
        self._high = 64 * 1024
        self.buffer = bytearray()
        #: Bytes that the kernel takes without the client.
        self.room = 0
        self.most_buffered = 0
        self.is_paused = self._is_behind = self._is_closing = False
        #: Whether its protocol was told that it is lost, and whether nothing more is written.
        self.is_lost = self.is_ended = False
        self._unread = bytearray()
        #: What the client has got.
        self.taken = bytearray()

    # What the protocol calls.

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._check_alive()
        if self.is_ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._is_closing:
            return
        self.buffer += data
        self.take(0)
        self.most_buffered = max(self.most_buffered, len(self.buffer))
        if len(self.buffer) > self._high and not self._is_behind:
            self._is_behind = True
            self._connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def write_eof(self) -> None:
        self._check_alive()
        if self._tls:
            raise NotImplementedError
        self.is_ended = True

    def can_write_eof(self) -> bool:
        return not self._tls

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False
        if self._unread and not self._is_closing:
            self._loop.call_soon(self._deliver)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self.buffer:
                self._lose()

    def abort(self) -> None:
        if not self.is_lost:
            self._is_closing = True
            self.buffer.clear()
            self._lose()

    # What the client does.

    def feed(self, data: bytes) -> None:
        """Send to the protocol; while it does not read, that waits."""
        if self._is_closing:
            return
        self._unread += data
        if not self.is_paused:
            self._deliver()

    def end(self) -> None:
        """End the client's side of the connection."""
        if not (self._is_closing or self.is_paused) and not self._connection.eof_received():
            self.close()

    def take(self, size: int) -> None:
        """Read some more bytes of what was written, when there are some."""
        self.room += size
        taken = self.buffer[: self.room]
        del self.buffer[: self.room]
        self.room -= len(taken)
        self.taken += taken
        if self._is_behind and len(self.buffer) <= self._high // 4:
            self._is_behind = False
            self._connection.resume_writing()
        if self._is_closing and not self.buffer:
            self._lose()

    def take_all(self) -> None:
        """Read all that is written, until no more is."""
        self.room = 1 << 40
        self.take(0)

    def _deliver(self) -> None:
        if self._unread and not (self.is_paused or self._is_closing):
            buffer = self._connection.get_buffer(-1)
            size = min(len(self._unread), len(buffer))
            buffer[:size] = self._unread[:size]
            del self._unread[:size]
            self._connection.buffer_updated(size)
            if self._unread and not self.is_paused:
                self._loop.call_soon(self._deliver)

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._loop.call_soon(self._connection.connection_lost, None)

    def _check_alive(self) -> None:
        if self.is_lost and not self._is_closing:
            raise RuntimeError("the handler is closed")


class Answers:
    """What a client makes of the bytes that it gets; an AssertionError for what is not HTTP/2."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder()
        self._decoder.max_allowed_table_size = 1 << 32
        self._rest, self._block, self._in_block = b"", b"", 0
        #: The gRPC status of each stream that has one, and the error code of each that was reset.
        self.statuses: dict[int, str] = {}
        self.resets: dict[int, int] = {}
        self.ended: set[int] = set()
        self.received: defaultdict[int, int] = defaultdict(int)
        #: The error codes of GOAWAY, and the last stream that each names.
        self.goaways: list[tuple[int, int]] = []
        self.acknowledged = 0

    def take(self, data: bytes) -> None:
        """Read some bytes."""
        rest = self._rest + data
        while len(rest) >= _HEAD_BYTES and len(rest) >= _HEAD_BYTES + (size := int.from_bytes(rest[:3])):
            kind, flags, stream = rest[3], rest[4], int.from_bytes(rest[5:9])
            payload, rest = rest[_HEAD_BYTES : _HEAD_BYTES + size], rest[_HEAD_BYTES + size :]
            assert size <= _MAX_FRAME_BYTES, f"a frame has {size} bytes"
            assert kind in {*_OF_CONNECTION, DATA, HEADERS, CONTINUATION, RST_STREAM, WINDOW_UPDATE}, kind
            assert (stream == 0) == (kind in _OF_CONNECTION) or kind == WINDOW_UPDATE, (kind, stream)
            assert self._in_block in (0, stream if kind == CONTINUATION else -1), "a header block is cut"
            self._take(kind, flags, stream, payload)
        self._rest = rest

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (HEADERS, CONTINUATION):
            assert stream not in self.ended, f"headers after the end of stream {stream}"
            self._block += payload
            self._in_block = 0 if flags & END_HEADERS else stream
            if not self._in_block:
                block, self._block = self._block, b""
                headers: dict[str, str] = dict(self._decoder.decode(block))  # type: ignore[arg-type]
                if "grpc-status" in headers:
                    self.statuses.setdefault(stream, headers["grpc-status"])
        elif kind == DATA:
            assert stream not in self.ended, f"data after the end of stream {stream}"
            self.received[stream] += len(payload)
        elif kind == RST_STREAM:
            self.resets.setdefault(stream, int.from_bytes(payload))
        elif kind == GOAWAY:
            self.goaways.append((int.from_bytes(payload[4:8]), int.from_bytes(payload[:4])))
        elif kind == PING and flags & ACK:
            self.acknowledged += 1
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.ended.add(stream)


def settings(pairs: Iterable[tuple[int, int]] = ()) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(name.to_bytes(2) + value.to_bytes(4) for name, value in pairs))
