"""Calls leave nothing to the garbage collector, which would stop all others while it looks for it."""

import gc

import pytest

from authsvc.rpc.lane.stream import Stream
from tests import http2
from tests.lane.loop import Loop, run
from tests.lane.memory import PREFACE, settings
from tests.lane.race import CHECK, COLD, HIT, LARGE, LIST, NONE, VERIFY, call, reset
from tests.lane.world import World

_CALLS = 3


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
            gc.collect()
            gc.disable()
            try:
                for number in range(1, 2 * _CALLS, 2):
                    await world.feed(
                        call(number, path, message, who=who) + (reset(number) if is_reset else b"")
                    )
                    await world.passes(0.1)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                assert [it for it in gc.garbage if isinstance(it, Stream)] == []
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()

    run(played)
