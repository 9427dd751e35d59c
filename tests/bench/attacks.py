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

from authsvc.v1 import key_service_pb2 as pb
from tests.bench.floods import FLOODS, LIST, REFLECTION, VERIFY, Attack, ready, reflection_request
from tests.http2 import DATA, END_HEADERS, HEADERS, Connection, block, call_headers, frame, message

_MIB = 1024 * 1024
_STREAMS = 1000
_CONNECTIONS = 10
# Connections that say nothing, and those that say it slowly.
_SILENT, _SLOW = 3000, 500


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


async def unread_reflection(address: str, key: str) -> None:
    """Streams of reflection without a credential, whose responses are not read."""
    headers, asked = block(call_headers(REFLECTION)), reflection_request()

    async def begin(one: Connection) -> None:
        await one.send(one.call(headers, end=False), asked * 20)

    await _hold(await _connections(address, window=0), begin)


def _idle(count: int, *, calls: bool = False) -> Attack:
    """Connections that speak HTTP/2 and send no request, or one, by a tenant."""

    async def attack(address: str, key: str) -> None:
        headers = block(call_headers(VERIFY, f"Bearer {key}"))
        request = message(pb.VerifyKeyRequest(key_string=key).SerializeToString())
        held: list[Connection] = []

        async def opened() -> None:
            with suppress(OSError):
                one = await Connection.open(address)
                held.append(one)
                if calls:
                    await one.status(one.call(headers, request))

        for _ in range(count // 100):
            await asyncio.gather(*(opened() for _ in range(100)))
        ready(f"{sum(not one.closed.is_set() for one in held)} of {count} connections open")
        await asyncio.Event().wait()

    return attack


def _connects(said: bytes) -> Attack:
    """Connections that say that and then nothing; those that are closed are opened again."""

    async def attack(address: str, key: str) -> None:
        await _connect(address, said)

    return attack


async def _connect(address: str, said: bytes) -> None:
    host, _, port = address.rpartition(":")
    open_now = 0

    async def hold() -> None:
        nonlocal open_now
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(said)
                open_now += 1
                try:
                    await reader.read()
                finally:
                    open_now -= 1
                    writer.close()
            await asyncio.sleep(0.01)

    holding = [asyncio.ensure_future(hold()) for _ in range(_SILENT)]
    await asyncio.sleep(3)
    ready(f"{open_now} of {_SILENT} connections open")
    await asyncio.gather(*holding)


def _slow(*, message_of_tenant: bool) -> Attack:
    """Headers, or the message of a tenant's call, byte by byte, on 500 connections."""

    async def attack(address: str, key: str) -> None:
        headers = block(call_headers(VERIFY, f"Bearer {key}" if message_of_tenant else ""))
        open_now = 0

        async def drip() -> None:
            nonlocal open_now
            while True:
                with suppress(OSError):
                    one = await Connection.open(address)
                    open_now += 1
                    if message_of_tenant:
                        stream = one.call(headers, end=False)
                        rest = [frame(DATA, 0, stream, b"\0") for _ in range(1000)]
                    else:
                        rest = [bytes([byte]) for byte in frame(HEADERS, END_HEADERS, 1, headers)]
                    for piece in rest:
                        one.write(piece)
                        await asyncio.sleep(0.1)
                        if one.closed.is_set():
                            break
                    await one.close()
                    open_now -= 1
                await asyncio.sleep(0.01)

        dripping = [asyncio.ensure_future(drip()) for _ in range(_SLOW)]
        await asyncio.sleep(3)
        ready(f"{open_now} of {_SLOW} connections open")
        await asyncio.gather(*dripping)

    return attack


ATTACKS: dict[str, Attack] = {
    "partial messages, no credential": _partial(False),
    "partial messages, a tenant": _partial(True),
    "calls without a message, not ended": silent,
    "calls without a message, ended": half_closed,
    "answers unread, 40 large pages": unread_lists,
    "answers unread, 1000 verdicts": unread_verdicts,
    "reflection, answers unread": unread_reflection,
    "idle connections, 1500": _idle(1500),
    "idle connections, 10000": _idle(10_000),
    "connections of a tenant, 10000": _idle(10_000, calls=True),
    "silent connections": _connects(b""),
    "handshakes of TLS that are not begun": _connects(b""),
    "handshakes of TLS that are not continued": _connects(b"\x16\x03\x01\x02\x00"),
    "headers byte by byte": _slow(message_of_tenant=False),
    "messages byte by byte, a tenant": _slow(message_of_tenant=True),
    **FLOODS,
}
#: Attacks on a service by TLS, and settings of the service, by attack.
BY_TLS = {name for name in ATTACKS if "TLS" in name}
SETTINGS = {name: {"AUTHSVC_CONNECTION_LIMIT": "16000"} for name in ATTACKS if name.endswith("10000")}


async def _until_told(work: Awaitable[None]) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    attack = asyncio.ensure_future(work)
    await asyncio.wait((attack, asyncio.ensure_future(told.read())), return_when=asyncio.FIRST_COMPLETED)
    if attack.done():
        attack.result()


if __name__ == "__main__":
    os.nice(19)  # VerifyKey is measured on the same core
    _, name, address, key = sys.argv
    uvloop.run(_until_told(ATTACKS[name](address, key)))
