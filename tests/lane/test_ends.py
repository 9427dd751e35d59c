"""How a connection ends: its client or the server leaves, or what it sends breaks the rules."""

import pytest

from authsvc.rpc.lane.lifetime import LINGER_SECONDS
from tests import http2
from tests.http2 import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, frame
from tests.lane.loop import Loop, run, turns
from tests.lane.race import (
    ACKNOWLEDGED,
    CALM,
    COLD,
    DEADLINE_EXCEEDED,
    HANGS,
    LARGE,
    LIST,
    NO_ERROR,
    OK,
    UNAUTHENTICATED,
    VERIFY,
    WIDE,
    broken,
    call,
    ended,
    lost,
    race,
    reset,
)
from tests.lane.world import World


@race()
async def test_the_last_answer_of_a_connection_that_leaves(world: World) -> None:
    """It is sent before the end of the connection, although it is answered last."""
    await world.feed(call(1, VERIFY, COLD), call(3, VERIFY, HANGS, timeout="1S"))
    world.connection.leave(world.loop.time() + 30)
    await world.feed(ACKNOWLEDGED)
    assert world.answers.goaways == [(NO_ERROR, 2**31 - 1), (NO_ERROR, 3)]
    assert not ended(world)
    await world.passes(2)
    assert world.answers.statuses == {1: OK, 3: DEADLINE_EXCEEDED}
    assert ended(world)


@pytest.mark.parametrize("tls", [False, True])
def test_what_a_slow_client_has_not_read_when_it_leaves(tls: bool) -> None:
    """The connection ends when it has read all of it, and not a moment after the end was written."""

    @race(tls=tls)
    async def played(world: World) -> None:
        transport = world.transport
        transport.room = 0
        await world.feed(WIDE)
        await world.feed(call(1, LIST, LARGE))
        await turns(9)
        world.connection.leave(world.loop.time() + 30)
        await world.feed(ACKNOWLEDGED)
        while transport.buffer:
            transport.take(20_000)
            await world.passes(LINGER_SECONDS)
        assert world.answers.statuses == {1: OK}
        assert transport.is_ended or transport.is_closing()

    played()


@race()
async def test_a_connection_that_leaves_and_is_not_read_ends_at_its_deadline(world: World) -> None:
    world.transport.room = 0
    await world.feed(call(1, VERIFY, HANGS))
    world.connection.leave(world.loop.time() + 3)
    await world.passes(2.5)
    assert not lost(world)
    await world.passes(1)
    assert lost(world)


@race()
async def test_a_client_that_leaves_is_answered_first(world: World) -> None:
    """After its GOAWAY, the connection ends with the last answer, also if the client does not close it."""
    await world.feed(call(1, VERIFY, COLD) + frame(GOAWAY, 0, 0, bytes(8)))
    await turns()
    assert not ended(world)
    await world.passes(1)
    assert world.answers.statuses == {1: OK}
    assert ended(world)
    await world.passes(2 * LINGER_SECONDS)
    assert lost(world)


@race()
async def test_a_broken_connection_can_be_told_to_leave(world: World) -> None:
    """Its client is gone after a moment; until then, a stop of the server also meets it."""
    await world.feed(b"\0\0\0")
    await world.feed(frame(DATA, 0, 0))
    assert world.answers.goaways
    world.connection.leave(world.loop.time() + 30)
    await world.passes(2 * LINGER_SECONDS)
    assert lost(world)


def test_a_client_of_another_protocol_is_disconnected() -> None:
    async def played(loop: Loop) -> None:
        async with World.running(loop) as world:
            world.transport.take_all()
            await world.feed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert ended(world)
            await world.passes(2 * LINGER_SECONDS)
            assert lost(world)

    run(played)


@race()
async def test_pings_that_come_too_often(world: World) -> None:
    """The connection ends, and so do its calls."""
    await world.feed(call(1, VERIFY, HANGS) + frame(PING, 0, 0, bytes(8)) * 4 + call(3, VERIFY, HANGS))
    await turns()
    assert [code for code, _ in world.answers.goaways] == [CALM]
    await world.passes(2 * LINGER_SECONDS)
    assert lost(world)


# Age.


@pytest.mark.parametrize("lasts", [False, True])
def test_a_stream_that_may_last_longer_than_its_connection(lasts: bool) -> None:
    """The connection gets no end by its age before the stream has ended; then it does."""

    @race(connection_age=60)
    async def played(world: World) -> None:
        rpcs = world.served.rpcs
        rpcs[VERIFY] = rpcs[VERIFY]._replace(lasts=lasts, at_once=None)
        await world.feed(call(1, VERIFY, HANGS, timeout="80S"))
        await world.passes(70)
        assert bool(world.answers.goaways) != lasts
        await world.feed(reset(1))
        await turns(3)  # no look is due
        world.check()
        assert world.answers.goaways != []

    played()


# Malformed headers.


@race()
async def test_the_status_of_malformed_headers_does_not_cut_a_frame(world: World) -> None:
    """It is left out where a frame is written in two parts."""
    world.transport.room = 0
    await world.feed(WIDE)
    await world.feed(call(1, LIST, LARGE))
    await turns(9)
    bad = http2.block([*http2.call_headers(VERIFY), ("connection", "x")])
    world.transport.is_paused = False
    await world.feed(frame(HEADERS, END_HEADERS | END_STREAM, 3, bad))
    world.transport.take_all()
    await world.passes(1)
    assert world.answers.statuses[1] == OK
    assert world.answers.resets == {3: 1}


@race()
async def test_malformed_headers_have_a_status(world: World) -> None:
    bad = http2.block([*http2.call_headers(VERIFY), ("connection", "x")])
    await world.feed(frame(HEADERS, END_HEADERS | END_STREAM, 1, bad))
    assert world.answers.statuses == {1: UNAUTHENTICATED}
    assert broken(world) == 1
