"""Concurrent requests share one statement."""

import asyncio
from collections.abc import Sequence

import pytest

from authsvc.model.errors import Overloaded, Unavailable
from authsvc.store.shared_statement import SharedStatement


class Doubling:
    """Answers numbers with their double, when it is released; negative ones are errors, None is an outage."""

    def __init__(self) -> None:
        self.sent: list[list[int | None]] = []
        self.at_once = self.max_at_once = 0
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, numbers: Sequence[int | None]) -> list[int]:
        self.sent.append(list(numbers))
        self.at_once += 1
        self.max_at_once = max(self.max_at_once, self.at_once)
        self.began.set()
        await self.go.wait()
        self.at_once -= 1
        doubles = []
        for number in numbers:
            if number is None:
                raise Unavailable("out of reach", reason="DATABASE_UNAVAILABLE", retry_after=1)
            if number < 0:
                raise ValueError("negative")
            doubles.append(2 * number)
        return doubles


def shared(doubling: Doubling) -> SharedStatement[int | None, int]:
    return SharedStatement(doubling, max_waiting=250, full="too many numbers wait")


def asking(
    statement: SharedStatement[int | None, int], numbers: Sequence[int | None]
) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(statement.ask(number)) for number in numbers]


async def test_those_who_ask_together_share_a_statement() -> None:
    """Each gets its own answer; a later caller gets one that was sent later."""
    doubling = Doubling()
    statement = shared(doubling)
    first = asking(statement, [1, 2, 3])
    await doubling.began.wait()
    later = asking(statement, [4, 5])
    doubling.go.set()
    assert await asyncio.gather(*first, *later) == [2, 4, 6, 8, 10]
    assert doubling.sent == [[1, 2, 3], [4, 5]]


async def test_a_statement_carries_a_bounded_number() -> None:
    """At most 100 items go into one statement, and callers that cannot even wait are told to retry."""
    doubling = Doubling()
    statement = shared(doubling)
    tasks = asking(statement, range(250))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="too many numbers wait; retry"):
        await statement.ask(1)
    doubling.go.set()
    assert await asyncio.gather(*tasks) == [2 * number for number in range(250)]
    assert [len(numbers) for numbers in doubling.sent] == [100, 100, 50]


async def test_so_many_statements_are_under_way() -> None:
    """While one runs the next may be sent, up to a bound; the rest waits."""
    doubling = Doubling()
    statement: SharedStatement[int | None, int] = SharedStatement(
        doubling, max_waiting=250, full="too many numbers wait", max_sharing=2, at_once=2
    )
    tasks = asking(statement, range(5))
    await doubling.began.wait()
    while len(doubling.sent) < 2:
        doubling.began.clear()
        await doubling.began.wait()
    doubling.go.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]
    assert doubling.sent == [[0, 1], [2, 3], [4]]
    assert doubling.max_at_once == 2


async def test_a_statement_that_hangs_holds_nobody_up() -> None:
    """Who waits for its turn for too long gets a statement of its own, once."""
    doubling = Doubling()
    statement: SharedStatement[int | None, int] = SharedStatement(
        doubling, max_waiting=250, full="too many numbers wait", max_wait=0.01
    )
    [hangs] = asking(statement, [1])
    await doubling.began.wait()
    later = asking(statement, [2, 3])
    while len(doubling.sent) < 3:
        doubling.began.clear()
        await doubling.began.wait()
    assert not hangs.done()
    doubling.go.set()
    assert await asyncio.gather(hangs, *later) == [2, 4, 6]
    assert sorted(doubling.sent) == [[1], [2], [3]]


async def test_nobody_fails_for_the_sake_of_a_stranger() -> None:
    """An error of one item affects only that item."""
    doubling = Doubling()
    doubling.go.set()
    good, bad, other = await asyncio.gather(*asking(shared(doubling), [1, -1, 2]), return_exceptions=True)
    assert (good, other) == (2, 4)
    assert isinstance(bad, ValueError)


async def test_what_the_database_is_told_all_are_told() -> None:
    """If the database is unreachable, it is not tried again for each."""
    doubling = Doubling()
    doubling.go.set()
    answers = await asyncio.gather(*asking(shared(doubling), [1, None]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    assert doubling.sent == [[1, None]]


async def test_nothing_is_done_for_those_who_left() -> None:
    """A caller that is cancelled before the statement is sent is not in it; later, it affects no other."""
    doubling = Doubling()
    statement = shared(doubling)
    [sent] = asking(statement, [1])
    await doubling.began.wait()
    waiting, stays = asking(statement, [2, 3])
    await asyncio.sleep(0)
    waiting.cancel()
    sent.cancel()
    doubling.go.set()
    assert await stays == 6
    assert doubling.sent == [[1], [3]]
