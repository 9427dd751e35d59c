"""Calls and connections leave nothing to the garbage collector, which stops all others while it looks."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from authsvc.net.listen_address import ListenAddress
from authsvc.rpc.lane.connection import Connection
from authsvc.rpc.lane.server import Server
from authsvc.rpc.lane.stream import Stream
from authsvc.rpc.tls import Tls
from tests import http2
from tests.certificates import Authority
from tests.conftest import eventually
from tests.lane.loop import Loop, run
from tests.lane.memory import PREFACE, settings
from tests.lane.race import CHECK, COLD, HIT, LARGE, LIST, NONE, VERIFY, call, reset
from tests.lane.world import World

_CALLS = 3


@contextmanager
def leaving_none(kind: type) -> Iterator[None]:
    """Check that none of this kind is left to the garbage collector by the block."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [it for it in gc.garbage if isinstance(it, kind)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    ("path", "message", "who", "is_reset"),
    [
        (VERIFY, HIT, "known", False),
        (VERIFY, COLD, "known", False),
        (VERIFY, HIT, "cold", False),
        (VERIFY, HIT, "", False),
        (VERIFY, http2.message(b"\xff"), "known", False),
        (VERIFY, COLD, "known", True),
        (LIST, LARGE, "known", False),
        (CHECK, http2.message(b""), "", False),
        (NONE, None, "", False),
    ],
    ids=["hit", "cold", "authenticated", "refused", "invalid", "reset", "list", "health", "none"],
)
def test_a_call_is_in_no_cycle(path: str, message: bytes | None, who: str, is_reset: bool) -> None:
    async def played(loop: Loop) -> None:
        async with World.running(loop) as world:
            world.transport.take_all()
            await world.feed(PREFACE + settings())
            with leaving_none(Stream):
                for number in range(1, 2 * _CALLS, 2):
                    await world.feed(
                        call(number, path, message, who=who) + (reset(number) if is_reset else b"")
                    )
                    await world.passes(0.1)

    run(played)


@pytest.mark.parametrize("said", [b"", PREFACE + settings(), b"\x16\x03\x01\x02\x00", b"no hello"])
@pytest.mark.parametrize("by_tls", [False, True])
def test_a_connection_is_in_no_cycle(said: bytes, by_tls: bool, tmp_path: Path) -> None:
    """In the event loop of the product; TLS of the one of Python leaves cycles itself."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    Authority().issue().write(cert, key)

    async def played() -> None:
        served = World(asyncio.get_running_loop()).served
        server = Server(served, tls=Tls(cert, key) if by_tls else None)
        port = await server.start(ListenAddress("127.0.0.1", 0))

        async def count() -> int:
            await asyncio.sleep(0.001)
            return len(server.connections)

        async def connected() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            await eventually(count, lambda open_now: open_now == 1)
            writer.write(said)
            await writer.drain()
            writer.transport.abort()
            await eventually(count, lambda open_now: open_now == 0)

        await connected()
        with leaving_none(Connection):
            for _ in range(3):
                await connected()
        await server.stop(0)

    uvloop.run(played())
