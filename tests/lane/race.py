"""What tests of races share: calls in bytes, and a connection in memory to play them on."""

from collections.abc import Awaitable, Callable
from typing import Any

from authsvc.v1 import key_service_pb2 as pb
from tests import http2
from tests.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, WINDOW_UPDATE, frame
from tests.lane.loop import Loop, run
from tests.lane.memory import PREFACE, settings
from tests.lane.world import PEER, World

OK, DEADLINE_EXCEEDED, INVALID_ARGUMENT, UNAUTHENTICATED = "0", "4", "3", "16"
KEYS = "/authsvc.v1.KeyService/"
NO_ERROR, CALM = 0, 11
VERIFY, CREATE, LIST = f"{KEYS}VerifyKey", f"{KEYS}CreateKey", f"{KEYS}ListKeys"
CHECK, WATCH, NONE = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/no.Such/Rpc"
HIT, COLD, HANGS = (
    http2.message(pb.VerifyKeyRequest(key_string=it).SerializeToString()) for it in ("hit", "cold", "hangs")
)
NEW = http2.message(
    pb.CreateKeyRequest(owner_id="acme", display_name="x", request_id="r").SerializeToString()
)
LARGE = http2.message(pb.ListKeysRequest(owner_id="acme", page_size=100).SerializeToString())
# As much as the client takes on stream 0, and on each that begins after it.
WIDE = settings([(4, 1 << 24)]) + frame(WINDOW_UPDATE, 0, 0, (1 << 24).to_bytes(4))
ACKNOWLEDGED = frame(PING, 1, 0, bytes(8))

Race = Callable[[World], Awaitable[None]]


def race(**options: Any) -> Callable[[Race], Callable[[], None]]:
    """Make a test of what happens on one connection; `World` checks that nothing is left of it."""
    window = options.pop("window", 65_535)

    def decorated(play: Race) -> Callable[[], None]:
        async def played(loop: Loop) -> None:
            async with World.running(loop, **options) as world:
                world.transport.take_all()
                await world.feed(PREFACE + settings([(4, window)]))
                await play(world)

        def test() -> None:
            run(played)

        test.__doc__ = play.__doc__
        return test

    return decorated


def call(
    stream: int, path: str, body: bytes | None, *, who: str = "known", ends: bool = True, timeout: str = ""
) -> bytes:
    """Return a call with its message in one frame."""
    more = [("grpc-timeout", timeout)] if timeout else []
    headers = http2.block(http2.call_headers(path, f"Bearer {who}" if who else "", more))
    begun = frame(HEADERS, END_HEADERS, stream, headers)
    return begun if body is None else begun + frame(DATA, END_STREAM if ends else 0, stream, body)


def reset(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, (8).to_bytes(4))


def broken(world: World) -> int:
    return world.connections._broken.get(PEER, 0)


def ended(world: World) -> bool:
    """Return whether the server has said all."""
    return world.transport.is_ended


def lost(world: World) -> bool:
    """Return whether the connection is gone."""
    return world.transport.is_lost
