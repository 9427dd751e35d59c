"""One raw exchange of HTTP/2 frames with a server, and all that the server says to it.

Unlike `tests.http2.Connection` it keeps headers, data and errors, so that two servers can be compared, and
its headers are bytes, so that they can break every rule.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import hpack

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
    hpack_integer,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PADDED, PRIORITY_FLAG = 8, 32
_DEFAULT_WINDOW, LARGEST_FRAME = 65_535, 16_384

Field = tuple[str | bytes, str | bytes]


def block(fields: Iterable[Field]) -> bytes:
    """Return a header block of literals (RFC 7541, 6.2.2); text is UTF-8."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return hpack_integer(len(data)) + data


def headers(fields: Iterable[Field], *, stream: int = 1, flags: int = 0, size: int = LARGEST_FRAME) -> bytes:
    """Return the frames of a header block: HEADERS and, if it is longer than `size`, CONTINUATION."""
    whole = block(fields)
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        frame(
            CONTINUATION if index else HEADERS,
            (0 if index else flags) | (END_HEADERS if index == last else 0),
            stream,
            piece,
        )
        for index, piece in enumerate(pieces)
    )


def data(content: bytes, *, stream: int = 1, end: bool = False) -> bytes:
    """Return a frame of data."""
    return frame(DATA, END_STREAM if end else 0, stream, content)


@dataclass
class Said:
    """What a server has said on one stream."""

    blocks: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    data: bytes = b""
    #: The code of a reset.
    reset: int | None = None
    is_ended: bool = False

    def value(self, name: str) -> str | None:
        """Return the last value of a header or a trailer."""
        found = [value for some in self.blocks for key, value in some if key == name.encode()]
        return found[-1].decode("utf-8", "replace") if found else None

    @property
    def names(self) -> set[str]:
        return {name.decode() for some in self.blocks for name, _ in some}


class Exchange:
    """A connection on which the test writes frames, and reads what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = hpack.Decoder()
        self._changed = asyncio.Event()
        self._window, self._windows = _DEFAULT_WINDOW, dict[int, int]()
        self._initial_window = _DEFAULT_WINDOW
        self.streams: dict[int, Said] = {}
        #: The code and the text of the last GOAWAY; how many there were, and acknowledged pings.
        self.goaway: tuple[int, bytes] | None = None
        self.goaways = self.acknowledged = 0
        self.is_closed = self._is_settled = False
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, address: str) -> "Exchange":
        """Connect, and agree on HTTP/2."""
        host, _, port = address.rpartition(":")
        exchange = cls(*await asyncio.open_connection(host, int(port)))
        exchange.write(PREFACE + frame(SETTINGS, 0, 0))
        await exchange.until(lambda: exchange._is_settled)
        return exchange

    def write(self, sent: bytes) -> None:
        """Send any bytes."""
        self._writer.write(sent)

    async def send(self, content: bytes, *, stream: int = 1, end: bool = True) -> None:
        """Send data as the windows of the server allow, until the stream has ended."""
        while content:
            window = self._windows.setdefault(stream, self._initial_window)
            room = min(len(content), LARGEST_FRAME, window, self._window)
            if self.is_closed or self.said(stream).is_ended:
                return
            if room <= 0:
                await self._change()
                continue
            self._windows[stream] -= room
            self._window -= room
            self.write(data(content[:room], stream=stream, end=end and room == len(content)))
            content = content[room:]

    def said(self, stream: int = 1) -> Said:
        """Return what was said on a stream until now."""
        return self.streams.setdefault(stream, Said())

    async def ended(self, stream: int = 1) -> Said:
        """Wait for the end of a stream, or of the connection."""
        await self.until(lambda: self.is_closed or self.said(stream).is_ended)
        return self.said(stream)

    async def more(self, stream: int = 1) -> None:
        """Wait for more data of a stream."""
        size = len(self.said(stream).data)
        await self.until(lambda: len(self.said(stream).data) > size)

    async def closed(self) -> None:
        """Wait until the server has closed the connection."""
        await self.until(lambda: self.is_closed)

    async def close(self) -> None:
        self._reading.cancel()
        self._writer.close()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, at most 20 seconds."""
        async with asyncio.timeout(20):
            while not holds():
                await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _read(self) -> None:
        pending = b""
        try:
            while True:
                head = await self._reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                stream = int.from_bytes(head[5:]) & 0x7FFFFFFF
                payload = await self._reader.readexactly(length)
                if kind in (HEADERS, CONTINUATION):
                    if kind == HEADERS:
                        ends, pending = bool(flags & END_STREAM), b""
                    pending += payload
                    if flags & END_HEADERS:
                        self._take_block(stream, pending)
                        self.said(stream).is_ended |= ends
                else:
                    self._take(kind, flags, stream, payload)
                self._changed.set()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.is_closed = True
            self._changed.set()

    def _take_block(self, stream: int, whole: bytes) -> None:
        decoded = self._decoder.decode(whole, raw=True)
        self.said(stream).blocks.append([(bytes(name), bytes(value)) for name, value, *_ in decoded])

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    self._initial_window = value
            self.write(frame(SETTINGS, ACK, 0))
            self._is_settled = True
        elif kind == PING and not flags & ACK:
            self.write(frame(PING, ACK, 0, payload))
        elif kind == PING:
            self.acknowledged += 1
        elif kind == WINDOW_UPDATE:
            if stream:
                self._windows[stream] = self._windows.get(stream, self._initial_window) + int.from_bytes(
                    payload
                )
            else:
                self._window += int.from_bytes(payload)
        elif kind == DATA:
            said = self.said(stream)
            said.data += payload
            said.is_ended |= bool(flags & END_STREAM)
            if payload:
                more = struct.pack(">I", len(payload))
                self.write(frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, stream, more))
        elif kind == RST_STREAM:
            said = self.said(stream)
            said.reset, said.is_ended = int.from_bytes(payload), True
        elif kind == GOAWAY:
            self.goaway, self.goaways = (int.from_bytes(payload[4:8]), payload[8:]), self.goaways + 1
