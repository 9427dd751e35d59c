"""What arrives is taken in parts, and connections have their turns."""

import asyncio
from unittest import mock

import pytest

from authsvc.rpc.lane import reading
from authsvc.rpc.lane import turns as turns_of_readings
from authsvc.rpc.lane.reading import Reading
from authsvc.rpc.lane.turns import Queues
from tests.lane.loop import Loop, run, turns

_ARRIVES = 16_384


def taken(seconds: float) -> list[int]:
    """Return the sizes of parts that take so many seconds for each KB."""
    parts: list[int] = []

    async def played(loop: Loop) -> None:
        now = 0.0

        def take(data: bytes) -> None:
            nonlocal now
            parts.append(len(data))
            now += len(data) / 1000 * seconds

        transport = mock.Mock(spec=asyncio.Transport, is_closing=lambda: False)
        with mock.patch.object(reading, "perf_counter", side_effect=lambda: now):
            it = Reading(take, Queues(), lambda: True)
            it.begin(transport)
            it.take(_ARRIVES)
            while sum(parts) < _ARRIVES:
                assert transport.method_calls[-1] == mock.call.pause_reading()
                before = len(parts)
                await asyncio.sleep(0)  # others have their turn
                assert len(parts) <= before + 1
            assert transport.method_calls[-1] == mock.call.resume_reading()

    run(played)
    return parts


def test_parts_grow_while_they_take_little() -> None:
    assert taken(1e-6) == [4096, 8192, 4096]


def test_parts_shrink_when_they_take_long() -> None:
    """To what takes a millisecond, or to the smallest ones."""
    assert taken(4e-4)[:4] == [4096, 2048, 4096, 2048]
    assert taken(1.0)[:5] == [4096, 2048, 1024, 512, 512]


def test_a_pause_holds_the_rest_back() -> None:
    parts: list[bytes] = []

    async def played(_: Loop) -> None:
        it = Reading(parts.append, Queues(), lambda: True)
        it.begin(mock.Mock(spec=asyncio.Transport, is_closing=lambda: False))
        it.take(10_000)
        it.pause()
        await turns()
        assert len(parts) == 1
        it.resume()
        await turns()
        assert sum(map(len, parts)) == 10_000

    run(played)


@pytest.mark.parametrize("is_known", [False, True])
def test_strangers_share_their_time(is_known: bool) -> None:
    """They get half a millisecond of each turn of the event loop; a caller does not wait for them."""
    taken: list[str] = []

    async def played(_: Loop) -> None:
        now, queues = 0.0, Queues()

        def reading_of(name: str, *, known: bool = False) -> Reading:
            def take(data: bytes) -> None:
                nonlocal now
                taken.append(name)
                now += 0.0002

            it = Reading(take, queues, lambda: known)
            it.begin(mock.Mock(spec=asyncio.Transport, is_closing=lambda: False))
            return it

        with (
            mock.patch.object(reading, "perf_counter", side_effect=lambda: now),
            mock.patch.object(turns_of_readings, "perf_counter", side_effect=lambda: now),
        ):
            for number in range(8):
                reading_of(f"{number}").take(100)
            assert taken == ["0", "1", "2"]
            reading_of("last", known=is_known).take(100)
            assert taken[3:] == (["last"] if is_known else [])
            taken.clear()
            await turns(1)
            assert taken == ["3", "4", "5"]
            await turns(1)
            assert taken[3:] == ["6", "7"] + ([] if is_known else ["last"])

    run(played)
