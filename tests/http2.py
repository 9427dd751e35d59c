"""An HTTP/2 client with hand-made frames, which no library allows: for tests and benchmarks of abuse.

It acknowledges what it has to, tracks its send windows, and reads statuses. Everything else is up to the
caller.
"""

import asyncio
import struct
from collections import defaultdict
from collections.abc import Iterable

import hpack

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE, _MAX_CONCURRENT_STREAMS = 4, 3
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DEFAULT_WINDOW = 65_535
_LARGEST = 16_384

Header = tuple[str, str]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(headers: Iterable[Header]) -> bytes:
    """Return a header block that adds nothing to the peer's table (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)


def call_headers(path: str, authorization: str = "", more: Iterable[Header] = ()) -> list[Header]:
    """Return the headers of a gRPC call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *([("authorization", authorization)] if authorization else []),
        *more,
    ]


def message(data: bytes) -> bytes:
    """Return a message as gRPC frames it."""
    return struct.pack(">BI", 0, len(data)) + data


class Connection:
    """One connection. `statuses` has the gRPC status of each stream that has ended, "" if it was reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._next = 1
        self._decoder = hpack.Decoder()
        self._initial_window = _DEFAULT_WINDOW
        self._window = _DEFAULT_WINDOW
        self._windows: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self.max_streams = 2**31
        self.statuses: dict[int, str] = {}
        # Bytes of data for each stream.
        self.received: defaultdict[int, int] = defaultdict(int)
        self.sent: defaultdict[int, int] = defaultdict(int)
        self.closed = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, address: str, *, window: int = _DEFAULT_WINDOW, reads: bool = True) -> "Connection":
        """Connect; each stream may receive `window` bytes. Unless it `reads`, nothing is read."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        connection = cls(reader, writer)
        connection.write(_PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, window)))
        await connection._settled.wait()
        if not reads:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        return connection

    @property
    def begun(self) -> int:
        """How many streams were opened."""
        return self._next // 2

    @property
    def open_streams(self) -> int:
        """How many of those have not ended."""
        return self.begun - len(self.statuses)

    def write(self, data: bytes) -> None:
        """Send any bytes."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the kernel has taken most of the written bytes."""
        await self._writer.drain()

    def call(
        self, headers: bytes, data: bytes | None = None, *, end: bool = True, headers_end: bool = True
    ) -> int:
        """Begin a stream by a header block and, if given, one frame of data; return its number."""
        stream, self._next = self._next, self._next + 2
        self._windows[stream] = self._initial_window - len(data or b"")
        self._window -= len(data or b"")
        self.sent[stream] += len(data or b"")
        flags = (END_HEADERS if headers_end else 0) | (END_STREAM if end and data is None else 0)
        sent = frame(HEADERS, flags, stream, headers)
        if data is not None:
            sent += frame(DATA, END_STREAM if end else 0, stream, data)
        self.write(sent)
        return stream

    async def send(self, stream: int, data: bytes) -> bool:
        """Send data as fast as the windows allow; return whether all was sent before the stream ended."""
        while data:
            room = min(len(data), _LARGEST, self._windows[stream], self._window)
            if stream in self.statuses or self.closed.is_set():
                return False
            if room > 0:
                self._windows[stream] -= room
                self._window -= room
                self.sent[stream] += room
                self.write(frame(DATA, 0, stream, data[:room]))
                data = data[room:]
                await self.drain()
            else:
                self._changed.clear()
                await self._changed.wait()
        return True

    async def status(self, stream: int) -> str:
        """Wait for the status of a call."""
        while stream not in self.statuses and not self.closed.is_set():
            self._changed.clear()
            await self._changed.wait()
        return self.statuses.get(stream, "closed")

    async def changed(self) -> None:
        """Wait until something has arrived."""
        self._changed.clear()
        await self._changed.wait()

    async def close(self) -> None:
        """Close the connection."""
        self._reading.cancel()
        self._writer.close()

    async def _read(self) -> None:
        headers = b""
        try:
            while True:
                head = await self._reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                stream = int.from_bytes(head[5:]) & 0x7FFFFFFF
                payload = await self._reader.readexactly(length)
                if kind == SETTINGS and not flags & ACK:
                    self._take_settings(payload)
                elif kind == PING and not flags & ACK:
                    self.write(frame(PING, ACK, 0, payload))
                elif kind == WINDOW_UPDATE:
                    more = int.from_bytes(payload)
                    if stream:
                        self._windows[stream] = self._windows.get(stream, 0) + more
                    else:
                        self._window += more
                elif kind == DATA:
                    self.received[stream] += length
                    if length:
                        more_room = struct.pack(">I", length)
                        self.write(
                            frame(WINDOW_UPDATE, 0, 0, more_room) + frame(WINDOW_UPDATE, 0, stream, more_room)
                        )
                elif kind in (HEADERS, CONTINUATION):
                    headers = headers + payload if kind == CONTINUATION else payload
                    if flags & END_HEADERS:
                        found: dict[str, str] = dict(self._decoder.decode(headers))  # type: ignore[arg-type]
                        if "grpc-status" in found:
                            self.statuses.setdefault(stream, found["grpc-status"])
                elif kind == RST_STREAM:
                    self.statuses.setdefault(stream, "")
                self._changed.set()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed.set()
            self._changed.set()
            self._settled.set()

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial_window
                self._initial_window = value
            elif name == _MAX_CONCURRENT_STREAMS:
                self.max_streams = value
        self.write(frame(SETTINGS, ACK, 0))
        self._settled.set()


def _text(text: str) -> bytes:
    data = text.encode()
    return hpack_integer(len(data)) + data


def hpack_integer(value: int, bits: int = 7) -> bytes:
    """Return an integer in the form of HPACK (RFC 7541, 5.1), with the bits before it 0."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = bytearray([most]), value - most
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    out.append(value)
    return bytes(out)
