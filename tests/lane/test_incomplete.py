"""A call whose message has not arrived with its headers: it has a moment before it becomes a task."""

import asyncio
from collections.abc import Iterator
from unittest import mock

import pytest

from authsvc.rpc.lane.stream import Stream
from tests.http2 import DATA, END_STREAM, frame
from tests.lane.loop import turns
from tests.lane.race import HIT, OK, VERIFY, call, race
from tests.lane.world import World

_MOMENT_SECONDS = 0.005
_HEADERS, _MESSAGE = call(1, VERIFY, None), frame(DATA, END_STREAM, 1, HIT)
# Frames of an unknown type, which are ignored (RFC 9113, 5.5); more than one part of what is taken.
_FILLER = frame(0x20, 0, 0, bytes(1000)) * 9


@pytest.fixture(autouse=True)
def tasks() -> Iterator[mock.Mock]:
    """Yield what counts the calls that become tasks."""
    with mock.patch.object(Stream, "begin", autospec=True, side_effect=Stream.begin) as begin:
        yield begin


async def is_answered(world: World) -> None:
    await world.passes(2 * _MOMENT_SECONDS)
    await turns()
    world.check()
    assert world.answers.statuses == {1: OK}


@pytest.mark.parametrize(("after", "is_in_time"), [(0.0, True), (0.004, True), (0.006, False)])
def test_a_message_in_another_segment(tasks: mock.Mock, after: float, is_in_time: bool) -> None:
    """It has 5 ms."""

    @race()
    async def played(world: World) -> None:
        await world.feed(_HEADERS)
        asyncio.get_running_loop().call_later(after, world.transport.feed, _MESSAGE)
        await is_answered(world)

    played()
    assert tasks.call_count == (0 if is_in_time else 1)


def test_what_arrives_while_the_process_is_busy_is_in_time(tasks: mock.Mock) -> None:
    """The loop finds both at once, the end of the moment and the message, and looks at its timers first."""

    @race()
    async def played(world: World) -> None:
        loop = asyncio.get_running_loop()
        await world.feed(_HEADERS)
        loop.call_later(_MOMENT_SECONDS, loop.call_soon, world.transport.feed, _MESSAGE)
        await is_answered(world)

    played()
    assert tasks.call_count == 0


def test_what_has_arrived_is_taken_first(tasks: mock.Mock) -> None:
    """A part that waits for its turn is not late, however long that takes."""

    @race()
    async def played(world: World) -> None:
        world.transport.feed(_HEADERS + _FILLER + _MESSAGE)
        world.connection.reading.pause()
        await world.passes(1)
        assert world.answers.statuses == {}
        world.connection.reading.resume()
        await is_answered(world)

    played()
    assert tasks.call_count == 0


def test_a_message_that_is_not_in_what_was_left(tasks: mock.Mock) -> None:
    """Its call becomes a task as soon as all is taken."""

    @race()
    async def played(world: World) -> None:
        world.transport.feed(_HEADERS + _FILLER)
        world.connection.reading.pause()
        await world.passes(1)
        world.connection.reading.resume()
        asyncio.get_running_loop().call_later(_MOMENT_SECONDS, world.transport.feed, _MESSAGE)
        await is_answered(world)

    played()
    assert tasks.call_count == 1


@race()
async def test_a_connection_that_is_lost_meanwhile(world: World) -> None:
    """Nothing is left of its calls; `World` checks it."""
    world.transport.feed(_HEADERS + _FILLER)
    world.connection.reading.pause()
    await world.passes(1)
    world.transport.abort()
