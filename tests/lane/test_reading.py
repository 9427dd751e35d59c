"""What arrives at once is taken in parts."""

import asyncio
from unittest import mock

from authsvc.rpc.lane import reading
from authsvc.rpc.lane.reading import Reading
from tests.lane.loop import Loop, run, turns

_ARRIVES = 256_000


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
            it = Reading(take)
            it.begin(transport)
            it.take(bytes(_ARRIVES))
            while sum(parts) < _ARRIVES:
                assert transport.method_calls[-1] == mock.call.pause_reading()
                before = len(parts)
                await asyncio.sleep(0)  # others have their turn
                assert len(parts) <= before + 1
            assert transport.method_calls[-1] == mock.call.resume_reading()

    run(played)
    return parts


def test_parts_grow_while_they_take_little() -> None:
    assert taken(1e-6)[:6] == [4096, 8192, 16_384, 32_768, 65_536, 65_536]


def test_parts_shrink_when_they_take_long() -> None:
    """To what takes a millisecond, or to the smallest ones."""
    assert taken(4e-4)[:4] == [4096, 2048, 4096, 2048]
    assert taken(1.0)[:5] == [4096, 2048, 1024, 512, 512]


def test_a_pause_holds_the_rest_back() -> None:
    parts: list[bytes] = []

    async def played(_: Loop) -> None:
        it = Reading(parts.append)
        it.begin(mock.Mock(spec=asyncio.Transport, is_closing=lambda: False))
        it.take(bytes(10_000))
        it.pause()
        await turns()
        assert len(parts) == 1
        it.resume()
        await turns()
        assert sum(map(len, parts)) == 10_000

    run(played)
