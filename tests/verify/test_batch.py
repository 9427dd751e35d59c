"""Many strings at once."""

import asyncio
from datetime import timedelta

import pytest

from authsvc.model.errors import Unavailable
from authsvc.model.use import Use
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode
from tests.verify.parts import ACME, GLOBEX, Parts, at_once

VALID = VerdictCode.VALID


async def codes(parts: Parts, *presented: str) -> list[VerdictCode]:
    verdicts = await parts.verify_all(ACME, [(text, (), "") for text in presented])
    return [verdict.code for verdict in verdicts]


async def test_nothing_asked(parts: Parts) -> None:
    """An empty batch has an empty answer."""
    assert await parts.verify_all(ACME, []) == []


async def test_answers_are_in_order(parts: Parts) -> None:  # rule 20
    """Warm, cold, forged, malformed, expired, revoked, missing and foreign ones, each in its place."""
    now = parts.clock.now
    warm, cold, expired = parts.issue(), parts.issue(), parts.issue(expire_time=now)
    revoked, absent, foreign = (
        parts.issue(revoke_time=now),
        parts.mint.mint("eg", "live"),
        parts.issue(owner_id="globex"),
    )
    forged_warm, forged_cold = parts.forge(warm), parts.forge(cold)
    await parts.code(warm)
    expected = [
        (cold.text, VALID),
        ("rubbish", VerdictCode.NOT_FOUND),
        (warm.text, VALID),
        (forged_cold.text, VerdictCode.NOT_FOUND),
        (expired.text, VerdictCode.EXPIRED),
        (forged_warm.text, VerdictCode.NOT_FOUND),
        (cold.text, VALID),
        (revoked.text, VerdictCode.REVOKED),
        (absent.text, VerdictCode.NOT_FOUND),
        ("", VerdictCode.NOT_FOUND),
        (foreign.text, VerdictCode.NOT_FOUND),
        (warm.text, VALID),
        (absent.text, VerdictCode.NOT_FOUND),
    ]
    parts.store.finds.clear()
    assert await codes(parts, *(text for text, _ in expected)) == [code for _, code in expected]
    looked_up = [cold, forged_cold, expired, revoked, absent, foreign]
    assert sorted(parts.store.finds) == sorted(key.prefix for key in looked_up)


async def test_one_look_up_for_each_distinct_string(parts: Parts) -> None:
    """A cold string that occurs many times is looked up and proved once."""
    key = parts.issue()
    assert await codes(parts, *[key.text] * 100) == [VALID] * 100
    assert (parts.store.finds, parts.hasher.runs) == ([key.prefix], 1)


async def test_warm_strings_need_no_wait(parts: Parts) -> None:
    """A batch whose keys are all in memory is answered without waiting."""
    keys = [parts.issue() for _ in range(3)]
    await codes(parts, *(key.text for key in keys))
    asked = [(key.text, (), "") for key in keys] + [("rubbish", (), "")]
    verdicts = at_once(parts.verify_all(ACME, asked))
    assert [verdict.code for verdict in verdicts] == [VALID] * 3 + [VerdictCode.NOT_FOUND]
    assert len(parts.store.finds) == 3


async def test_look_ups_go_side_by_side(parts: Parts) -> None:
    """All cold strings are being looked up before the first one has its answer."""
    keys = [parts.issue() for _ in range(5)]
    pauses = [parts.store.pause(key.prefix) for key in keys]
    batch = asyncio.create_task(codes(parts, *(key.text for key in keys)))
    for pause in pauses:
        await pause.reached()
    for pause in pauses:
        pause.open()
    assert await batch == [VALID] * 5


async def test_each_has_its_own_scopes_and_address(parts: Parts) -> None:  # rules 22, 23
    """The same string may occur with several scopes; the use has the address of a VALID one."""
    key = parts.issue(scopes=("orders:read",))
    verdicts = await parts.verify_all(
        ACME,
        [
            (key.text, ["orders:write"], "192.0.2.1"),
            (key.text, ["orders:read"], "192.0.2.2"),
            (key.text, ["orders:write"], "192.0.2.3"),
        ],
    )
    refused = Verdict(VerdictCode.INSUFFICIENT_SCOPE, parts.credential_of(key))
    assert verdicts == [refused, Verdict(VALID, parts.credential_of(key)), refused]
    assert await parts.uses() == [Use("key_1", parts.clock.now, "192.0.2.2")]


async def test_a_foreign_caller_learns_nothing(parts: Parts) -> None:  # rule 19
    """For a caller of another owner all are NOT_FOUND, and none is used."""
    warm, cold = parts.issue(), parts.issue()
    await parts.verifier.identify(warm.text)
    asked = [(warm.text, (), ""), (cold.text, (), "")]
    assert await parts.verify_all(GLOBEX, asked) == [NOT_FOUND, NOT_FOUND]
    assert await parts.uses() == []


async def test_all_are_judged_at_one_instant(parts: Parts) -> None:  # rule 13
    """A warm key that expires while a cold one is looked up is EXPIRED in the answer."""
    warm = parts.issue(expire_time=parts.clock.now + timedelta(hours=1))
    cold = parts.issue(expire_time=parts.clock.now + timedelta(hours=1))
    await parts.code(warm)
    pause = parts.store.pause(cold.prefix)
    batch = asyncio.create_task(codes(parts, warm.text, cold.text))
    await pause.reached()
    parts.clock.advance(hours=1)
    pause.open()
    assert await batch == [VerdictCode.EXPIRED] * 2


async def test_an_outage_fails_the_batch(parts: Parts) -> None:
    """If one string cannot be verified now, the batch fails without verdicts, and the next one works."""
    warm, cold = parts.issue(), parts.issue()
    await parts.code(warm)
    parts.store.fault = Unavailable("gone", reason="GONE", retry_after=1)
    with pytest.raises(Unavailable):
        await codes(parts, warm.text, cold.text)
    assert await codes(parts, warm.text, "rubbish") == [VALID, VerdictCode.NOT_FOUND]
    parts.store.fault = None
    assert await codes(parts, warm.text, cold.text) == [VALID] * 2


async def test_more_cold_strings_than_memory_holds(narrow_parts: Parts) -> None:
    """Strings that evict each other from memory all get their verdict."""
    keys = [narrow_parts.issue() for _ in range(4)]
    assert await codes(narrow_parts, *(key.text for key in keys)) == [VALID] * 4


async def test_a_warm_string_evicted_meanwhile(narrow_parts: Parts) -> None:
    """A key that is in memory when the batch begins, and not when it ends, is not NOT_FOUND."""
    warm, cold = narrow_parts.issue(), narrow_parts.issue()
    await narrow_parts.code(warm)
    assert await codes(narrow_parts, warm.text, cold.text) == [VALID] * 2


async def test_a_warm_string_forgotten_meanwhile(parts: Parts) -> None:
    """A key that was edited while another one was looked up is read again, not NOT_FOUND."""
    warm, cold = parts.issue(), parts.issue()
    await parts.code(warm)
    pause = parts.store.pause(cold.prefix)
    batch = asyncio.create_task(codes(parts, warm.text, cold.text))
    await pause.reached()
    parts.cache.forget([warm.prefix])
    pause.open()
    assert await batch == [VALID] * 2


async def test_a_cold_string_revoked_meanwhile(parts: Parts) -> None:  # rule 15
    """A key that was looked up early in a batch and revoked before its end leaves nothing behind."""
    early, late = parts.issue(), parts.issue()
    pause = parts.store.pause(late.prefix)
    batch = asyncio.create_task(codes(parts, early.text, late.text))
    await pause.reached()
    parts.change(early, revoke_time=parts.clock.now)
    parts.cache.forget([early.prefix])
    pause.open()
    await batch
    assert await codes(parts, early.text) == [VerdictCode.REVOKED]
