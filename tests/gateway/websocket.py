"""Both ends of a WebSocket (RFC 6455), as far as an echoed text needs it."""

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha1

from tests.gateway.client import Headers, read_answer, request_head

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = b64encode(b"sixteen octets..").decode()
_TEXT, _FINAL, _MASKED = 1, 0x80, 0x80

#: Other headers of a browser.
HANDSHAKE: Headers = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", _KEY),
]


def accept_of(key: str) -> str:
    """Return a server's answer to a `Sec-WebSocket-Key`."""
    return b64encode(sha1(key.encode() + _MAGIC).digest()).decode()  # noqa: S324 - the RFC's


def frame(payload: bytes, *, masked: bool) -> bytes:
    """Return a text in one frame; a client's frames are masked."""
    length, mask = len(payload), os.urandom(4) if masked else b""
    flag = _MASKED if masked else 0
    if length < 126:
        head = bytes([_FINAL | _TEXT, flag | length])
    elif length < 65536:
        head = bytes([_FINAL | _TEXT, flag | 126]) + length.to_bytes(2)
    else:
        head = bytes([_FINAL | _TEXT, flag | 127]) + length.to_bytes(8)
    return head + mask + _applied(mask, payload)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return the payload of the next frame."""
    first, second = await reader.readexactly(2)
    assert first == _FINAL | _TEXT
    length = second & 0x7F
    if length >= 126:
        length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8))
    mask = await reader.readexactly(4) if second & _MASKED else b""
    return _applied(mask, await reader.readexactly(length))


def _applied(mask: bytes, payload: bytes) -> bytes:
    if not mask:
        return payload
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(whole)).to_bytes(len(payload))


@dataclass
class WebSocket:
    """The client's end of an open WebSocket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def echoed(self, text: str) -> str:
        """Send a text, and return the text that is echoed."""
        self.writer.write(frame(text.encode(), masked=True))
        return (await read_frame(self.reader)).decode()


@asynccontextmanager
async def opened(port: int, target: str, headers: Headers, upgrade: str) -> AsyncIterator[WebSocket]:
    """Open a WebSocket with this spelling of `Upgrade`; the handshake must succeed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        asked = [(name, upgrade if name == "upgrade" else value) for name, value in HANDSHAKE]
        writer.write(request_head(target, [*asked, *headers]))
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["upgrade"].lower()) == (101, "websocket")
        assert answer.headers["connection"].lower() == "upgrade"
        assert answer.headers["sec-websocket-accept"] == accept_of(_KEY)
        yield WebSocket(reader, writer)
    finally:
        writer.close()
