"""Answers at once that a client does not take are counted, and once, however it changes its window."""

from authsvc.rpc.answers import CALL_BYTES
from tests.lane.memory import settings
from tests.lane.race import HIT, LARGE, LIST, VERIFY, call, race
from tests.lane.world import World

_NARROW, _WIDE = settings([(4, 0)]), settings([(4, 65_535)])


@race(window=0)
async def test_a_window_that_is_open_for_the_call_only(world: World) -> None:
    """It is closed again before the answer is written."""
    await world.feed(_WIDE + call(1, VERIFY, HIT) + _NARROW)
    assert world.unread.unsent > CALL_BYTES


@race()
async def test_a_window_that_is_closed_for_the_call_only(world: World) -> None:
    """The answer waits for the window of the connection, and is counted once; at the end, nothing is left."""
    await world.feed(call(1, LIST, LARGE))
    await world.passes(1)
    before = world.unread.unsent
    await world.feed(_NARROW + call(3, VERIFY, HIT) + _WIDE)
    assert CALL_BYTES < world.unread.unsent - before < 2 * CALL_BYTES
