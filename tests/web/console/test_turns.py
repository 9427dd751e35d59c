"""Pages take a small part of a worker's time."""

import asyncio
from collections.abc import Iterator

from starlette.responses import Response

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.web.console.pages import Pages
from authsvc.web.console.static_files import StaticFiles
from authsvc.web.console.texts import Texts
from authsvc.web.console.turns import Turns
from tests.conftest import Clock


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


async def test_pages_beyond_the_credit_take_a_thirtieth_of_the_time() -> None:
    time = _Time()
    turns = Turns(lambda: time.now, time.sleep)
    for _ in range(20):
        assert await turns.made(time.page(0.01)) == "0123456789"
    assert time.waited == 0
    started = time.now
    for _ in range(1000):
        await turns.made(time.page(0.01))
    assert 0.030 < 1000 * 0.01 / (time.now - started) < 0.037


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
    assert time.waited == 24


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


async def test_a_page_asks_for_nothing_before_its_turn(clock: Clock) -> None:
    """What it needs is asked for within its turn, so many pages at once do not ask at once."""
    pages = Pages(Texts(), StaticFiles(), clock)
    caller = Caller("ses_1", "acme", (), CredentialKind.SESSION, "192.0.2.1")
    asking, most = 0, 0
    go_on = asyncio.Event()

    async def answer() -> Response:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await go_on.wait()
        asking -= 1
        return pages.page("message.html", {"what": "missing"})

    opening = [asyncio.create_task(pages.in_turn(caller, answer)) for _ in range(5)]
    await asyncio.sleep(0)
    assert asking == 1
    go_on.set()
    answers = await asyncio.gather(*opening)
    assert most == 1
    assert all(answer.body for answer in answers)
