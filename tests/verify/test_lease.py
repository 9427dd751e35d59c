"""The right to answer from memory."""

import asyncio

import pytest

from authsvc.model.errors import Unavailable
from authsvc.model.verdict import VerdictCode
from authsvc.verify.lease import Lease
from authsvc.verify.verifier import Question
from tests.verify.parts import ACME, Parts, ask


class Watch:
    """A stopwatch that the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_lease_is_held_until_its_end() -> None:
    """Not before the first renewal; until the time that was given, and not at it."""
    watch = Watch()
    lease = Lease(watch)
    with pytest.raises(Unavailable):
        lease.check()
    lease.renew(110.0)
    assert lease.left == 10.0
    watch.seconds = 109.999
    lease.check()
    watch.seconds = 110.0
    with pytest.raises(Unavailable, match="could not renew its lease in the database") as refusal:
        lease.check()
    assert refusal.value.reason == "LEASE_OVER"
    assert lease.left == 0


def test_a_lease_can_be_let_go() -> None:
    """Callers get the reason for its end; a renewal restores it."""
    lease = Lease(Watch())
    lease.renew(110.0)
    lease.end("this worker was reaped")
    with pytest.raises(Unavailable, match="this worker was reaped"):
        lease.check()
    lease.renew(110.0)
    lease.check()


async def test_taken_and_over() -> None:
    """Callers that wait for the lease, or for its end, are woken by it."""
    watch = Watch()
    lease = Lease(watch)
    waiting = asyncio.ensure_future(lease.taken())
    await asyncio.sleep(0)
    assert not waiting.done()
    lease.renew(110.0)
    await asyncio.wait_for(waiting, 10)
    waiting = asyncio.ensure_future(lease.over())
    await asyncio.sleep(0)
    assert not waiting.done()
    lease.end("for a test")
    await asyncio.wait_for(waiting, 10)


async def test_nothing_is_judged_without_it(parts: Parts) -> None:
    """Warm and cold keys, unknown ones and wrong secrets: without the lease there is no verdict at all."""
    warm, cold = parts.issue(), parts.issue()
    assert await parts.code(warm) is VerdictCode.VALID
    parts.lease.end("for a test")
    for presented in (warm.text, cold.text, parts.forge(warm).text, "rubbish"):
        with pytest.raises(Unavailable):
            await parts.verifier.verify(ask(ACME), presented)
    with pytest.raises(Unavailable):
        parts.verifier.recall(ask(ACME), warm.text)
    with pytest.raises(Unavailable):
        await parts.verify_all(ACME, [(warm.text, (), "")])
    with pytest.raises(Unavailable):
        parts.verifier.recall(Question(None, None), warm.text)


async def test_it_is_looked_at_last(parts: Parts) -> None:
    """If the lease ends while a key is being looked up, there is no answer."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    asked = asyncio.ensure_future(parts.code(key))
    await pause.reached()
    parts.lease.end("for a test")
    pause.open()
    with pytest.raises(Unavailable):
        await asked
