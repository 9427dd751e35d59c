"""Pages take a small part of a worker's time."""

import asyncio
from collections.abc import Iterator

from authsvc.web.console.turns import Turns


class _Time:
    """A stopwatch that moves when somebody waits, and when a page is made."""

    def __init__(self) -> None:
        self.now, self.waited = 0.0, 0.0
        self.slices = 0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waited += seconds
        self.slices += seconds == 0
        await asyncio.sleep(0)

    def page(self, seconds: float) -> Iterator[str]:
        for number in range(10):
            self.now += seconds / 10
            yield str(number)


async def test_pages_beyond_the_credit_take_a_twentieth_of_the_time() -> None:
    time = _Time()
    turns = Turns(lambda: time.now, time.sleep)
    for _ in range(20):
        assert await turns.made(time.page(0.01)) == "0123456789"
    assert time.waited == 0
    started = time.now
    for _ in range(1000):
        await turns.made(time.page(0.01))
    assert 0.045 < 1000 * 0.01 / (time.now - started) < 0.055


async def test_other_work_goes_on_while_a_page_is_made() -> None:
    time = _Time()
    await Turns(lambda: time.now, time.sleep).made(time.page(0.1))
    assert time.slices == 10


async def test_people_who_open_a_page_now_and_then_do_not_wait() -> None:
    time = _Time()
    turns = Turns(lambda: time.now, time.sleep)
    for _ in range(1000):
        await turns.made(time.page(0.01))
        time.now += 1
    assert time.waited == 0


async def test_what_cannot_wait_delays_the_others_but_not_for_long() -> None:
    time = _Time()
    turns = Turns(lambda: time.now, time.sleep)
    for _ in range(100):
        await turns.made_at_once(time.page(0.01))
    assert time.waited == 0
    await turns.made(time.page(0.01))
    assert 1 < time.waited <= 2


async def test_other_work_takes_turns_too() -> None:
    time = _Time()
    turns = Turns(lambda: time.now, time.sleep)
    for _ in range(2):
        async with turns.turn():
            time.now += 1
    assert time.waited == 16


async def test_owners_take_turns() -> None:
    """Somebody who opens many pages delays their own."""
    time = _Time()
    turns = Turns(lambda: time.now, time.sleep)
    order: list[str] = []

    async def made(owner: str) -> None:
        await turns.made(time.page(0.01), owner)
        order.append(owner)

    await asyncio.gather(*(made(owner) for owner in "aaaaaab"), made("c"))
    assert order == list("aabcaaaa")


async def test_a_turn_that_is_given_up_goes_to_the_next() -> None:
    time = _Time()
    turns = Turns(lambda: time.now, time.sleep)
    async with turns.turn():
        waiting = [asyncio.create_task(turns.made(time.page(0.01))) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    waiting[1].cancel()  # its turn has come
    assert await waiting[2] == "0123456789"
    assert await turns.made(time.page(0.01)) == "0123456789"
