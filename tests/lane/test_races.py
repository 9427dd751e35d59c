"""What happens to a call at an awkward moment: its client resets it, disconnects, or does not read."""

import pytest

from authsvc.model.rate import Rate
from authsvc.rpc.answers import MAX_UNREAD_SECONDS
from tests import http2
from tests.http2 import WINDOW_UPDATE, frame
from tests.lane.loop import turns
from tests.lane.race import (
    CHECK,
    COLD,
    CREATE,
    DEADLINE_EXCEEDED,
    HANGS,
    HIT,
    LARGE,
    LIST,
    NEW,
    NO_ERROR,
    NONE,
    OK,
    UNAUTHENTICATED,
    VERIFY,
    WATCH,
    WIDE,
    broken,
    call,
    lost,
    race,
    reset,
)
from tests.lane.world import World

# The client resets.


@pytest.mark.parametrize("path", [VERIFY, CREATE, CHECK, NONE])
@pytest.mark.parametrize("when", ["in the same wake-up", "before the task begins", "while it runs"])
def test_a_reset_of_an_unknown_caller_is_counted(path: str, when: str) -> None:
    """Once for each call, whenever it comes, and whatever is called; nothing is left of the call."""

    @race(strangers=Rate(0.001, 1))
    async def played(world: World) -> None:
        await world.strangers.wait("192.0.2.1")  # the next one is delayed
        request = call(1, path, None if when == "while it runs" else HIT, who="cold")
        if when == "in the same wake-up":
            await world.feed(request + reset(1))
        else:
            world.transport.feed(request)
            await turns(4 if when == "while it runs" else 0)
            world.transport.feed(reset(1))
        await turns()
        assert broken(world) == 1

    played()


@race()
async def test_a_reset_of_an_answered_call_is_not_counted(world: World) -> None:
    """It came too late."""
    await world.feed(call(1, VERIFY, HIT), reset(1), call(3, VERIFY, HIT, who="nobody"))
    await turns()
    await world.feed(reset(3))
    assert (world.answers.statuses, broken(world)) == ({1: OK, 3: UNAUTHENTICATED}, 0)


@race(window=0)
async def test_a_reset_while_an_answer_with_a_key_string_waits(world: World) -> None:
    """The answer counts as lost."""
    await world.feed(call(1, CREATE, NEW))
    await world.passes(1)
    assert world.keys.sent == {"r": []}
    await world.feed(reset(1))
    await turns()
    assert world.keys.sent == {"r": [False]}


@race()
async def test_an_answer_with_a_key_string_is_sent(world: World) -> None:
    """When the kernel has it."""
    await world.feed(call(1, CREATE, NEW))
    await world.passes(1)
    assert (world.keys.sent, world.answers.statuses) == ({"r": [True]}, {1: OK})


# The client disconnects.


@pytest.mark.parametrize("how", ["is lost", "ends"])
@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (call(1, VERIFY, HIT)[:20], 0.0),
        (call(1, VERIFY, None), 0.0),
        (call(1, VERIFY, None), 0.1),
        (call(1, VERIFY, HIT[:7], ends=False), 0.0),
        (call(1, VERIFY, HIT[:7], ends=False), 0.1),
        (call(1, VERIFY, COLD), 0.0),
        (call(1, VERIFY, HANGS, timeout="5S"), 0.1),
        (call(1, VERIFY, COLD, who="cold"), 0.01),
        (call(1, VERIFY, COLD, who=""), 0.1),
        (call(1, LIST, LARGE), 1.0),
        (call(1, WATCH, http2.message(b"")), 1.0),
        (call(1, NONE, None), 0.5),
    ],
)
def test_a_connection_is_lost_in_any_phase(sent: bytes, seconds: float, how: str) -> None:
    """`World` checks that nothing is left of the call."""

    @race(strangers=Rate(0.001, 1), window=100)
    async def played(world: World) -> None:
        await world.strangers.wait("192.0.2.1")
        await world.feed(sent)
        await world.passes(seconds)
        (world.transport.abort if how == "is lost" else world.transport.end)()
        await turns()
        assert world.connection.wire.streams == {}

    played()


@race(window=0)
async def test_a_key_string_is_lost_with_its_connection(world: World) -> None:
    """Its answer was handed over to HTTP/2, and the client had no window for it."""
    await world.feed(call(1, CREATE, NEW))
    await world.passes(1)
    world.transport.abort()
    await turns()
    assert world.keys.sent == {"r": [False]}


# The client does not read.


@race()
async def test_tasks_end_while_nothing_can_be_written(world: World) -> None:
    """Their answers follow when the client reads again, and until then nothing is handed to the transport."""
    world.transport.room = 0
    await world.feed(WIDE)
    await world.feed(call(1, LIST, LARGE), call(3, LIST, LARGE), call(5, CREATE, NEW), call(7, VERIFY, COLD))
    await world.passes(1)
    held = len(world.transport.buffer)
    assert 64 * 1024 < held < 4 * 64 * 1024
    assert world.transport.is_paused
    assert world.keys.sent == {"r": []}
    await world.passes(1)
    assert len(world.transport.buffer) == held
    world.transport.take_all()
    await world.passes(1)
    assert world.answers.statuses == {1: OK, 3: OK, 5: OK, 7: OK}
    assert world.keys.sent == {"r": [True]}
    assert not world.transport.is_paused


@race()
async def test_a_client_that_reads_nothing_is_disconnected(world: World) -> None:
    world.transport.room = 0
    await world.feed(WIDE)
    await world.feed(call(1, LIST, LARGE))
    await world.passes(MAX_UNREAD_SECONDS - 1)
    assert not lost(world)
    await world.passes(2)
    assert lost(world)


@race(window=0)
async def test_a_client_that_opens_no_window_is_disconnected(world: World) -> None:
    """Also for an answer that was given at once."""
    await world.feed(call(1, VERIFY, HIT))
    await world.passes(MAX_UNREAD_SECONDS - 1)
    assert not lost(world)
    await world.passes(2)
    assert lost(world)


# Deadlines.


@race(window=0)
async def test_a_deadline_that_passes_while_an_answer_waits_for_a_window(world: World) -> None:
    """A complete answer is sent; one with a key string gets the status of the deadline, and is lost."""
    await world.feed(call(1, VERIFY, COLD, timeout="1S"), call(3, CREATE, NEW, timeout="1S"))
    await world.passes(2)
    assert world.keys.sent == {"r": [False]}
    windows = (frame(WINDOW_UPDATE, 0, stream, (1000).to_bytes(4)) for stream in (1, 3))
    await world.feed(*windows)
    assert world.answers.statuses == {1: OK, 3: DEADLINE_EXCEEDED}


@race()
async def test_a_deadline_that_passes_before_a_message_is_complete(world: World) -> None:
    """The client is told, and is to send no more of it."""
    await world.feed(call(1, LIST, LARGE[:7], ends=False, timeout="1S"))
    await world.passes(2)
    assert (world.answers.statuses, world.answers.resets) == ({1: DEADLINE_EXCEEDED}, {1: NO_ERROR})
