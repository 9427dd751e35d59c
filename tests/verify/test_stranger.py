"""Strings that are not keys: malformed, wrong secrets, deleted keys."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc.model.key_string import KeyMint
from authsvc.model.verdict import NOT_FOUND, VerdictCode
from authsvc.verify.verifier import Question
from tests.verify.parts import ACME, Parts, ask, at_once, make_parts

anything = st.text(st.characters())


async def refused_at_no_cost(parts: Parts, presented: str) -> None:
    """Check that the string is NOT_FOUND in all ways to verify, without the store and without argon2."""
    finds, runs = len(parts.store.finds), parts.hasher.runs
    assert parts.verifier.recall(ask(ACME), presented) == NOT_FOUND
    assert parts.verifier.recall(Question(None, None), presented) == NOT_FOUND
    assert at_once(parts.verifier.verify(ask(ACME), presented)) == NOT_FOUND
    assert at_once(parts.verifier.identify(presented)) is None
    assert await parts.verify_all(ACME, [(presented, (), "")]) == [NOT_FOUND]
    assert (len(parts.store.finds), parts.hasher.runs) == (finds, runs)


@settings(deadline=None)
@given(anything)
@example("")
@example("\0")
@example("\ud800" * 75)
@example("a" * 2**20)
@example("eg_live_" + "a" * 63)
@example("eg_session_" + "a" * 63)
async def test_malformed(presented: str) -> None:  # rule 20
    """Arbitrary text is NOT_FOUND before any work."""
    parts = make_parts()
    await refused_at_no_cost(parts, presented)
    parts.hasher.close()


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_one_changed_character(parts: Parts, warm: bool) -> None:  # rules 20, 21
    """The right string with one character changed, lost or added is unknown, even if its key is known."""
    key = parts.issue()
    if warm:
        await parts.code(key)
    text = key.text
    for position in range(len(text)):
        other = "b" if text[position] == "a" else "a"
        await refused_at_no_cost(parts, text[:position] + other + text[position + 1 :])
        await refused_at_no_cost(parts, text[:position] + text[position + 1 :])
        await refused_at_no_cost(parts, text[:position] + "é" + text[position:])
    for padded in (f" {text}", f"{text}\n", f"{text}\0", text + text):
        await refused_at_no_cost(parts, padded)
    assert await parts.code(key) is VerdictCode.VALID


async def test_another_mint(parts: Parts) -> None:  # rule 20
    """A string of the right form from another service costs nothing."""
    await refused_at_no_cost(parts, KeyMint(b"o" * 32).mint("eg", "live").text)


@settings(deadline=None)
@given(anything)
async def test_any_tail_on_a_warm_prefix(tail: str) -> None:  # rule 21
    """Whatever follows a prefix in memory is NOT_FOUND before any work; the key stays as it was."""
    parts = make_parts()
    key = parts.issue()
    await parts.code(key)
    await refused_at_no_cost(parts, key.prefix + tail)
    await refused_at_no_cost(parts, key.prefix + tail[:51].ljust(51, "a"))
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    parts.hasher.close()


async def test_wrong_secret_on_a_warm_prefix(parts: Parts) -> None:  # rule 21
    """Even with the right tag, another secret is refused by its digest alone."""
    key = parts.issue()
    await parts.code(key)
    await refused_at_no_cost(parts, parts.forge(key).text)


async def test_wrong_secret_on_a_cold_prefix(parts: Parts) -> None:  # rule 21
    """Another secret with the right tag is NOT_FOUND, not remembered, and does not affect the right one."""
    key = parts.issue()
    forged = parts.forge(key)
    for attempt in (1, 2):
        assert await parts.verifier.verify(ask(ACME), forged.text) == NOT_FOUND
        assert (len(parts.cache), parts.hasher.runs) == (0, attempt)
    assert await parts.code(key) is VerdictCode.VALID
    assert await parts.code(forged) is VerdictCode.NOT_FOUND
    assert await parts.code(key) is VerdictCode.VALID


async def test_wrong_secret_beside_the_right_one(parts: Parts) -> None:  # rule 21
    """Right and wrong strings of one prefix that are looked up concurrently each get their own verdict."""
    key = parts.issue()
    presented = [parts.forge(key), key, parts.forge(key), key]
    pause = parts.store.pause(key.prefix)
    asked = [asyncio.create_task(parts.code(string)) for string in presented]
    await pause.reached()
    pause.open()
    wrong, right = VerdictCode.NOT_FOUND, VerdictCode.VALID
    assert await asyncio.gather(*asked) == [wrong, right, wrong, right]
    assert len(parts.store.finds) == 3
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is right


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_state_is_told_to_the_right_secret_only(parts: Parts, warm: bool) -> None:  # rule 21
    """Only callers with the secret get REVOKED and EXPIRED; a wrong one is NOT_FOUND, as for any prefix."""
    now = parts.clock.now
    for code, key in (
        (VerdictCode.REVOKED, parts.issue(revoke_time=now)),
        (VerdictCode.EXPIRED, parts.issue(expire_time=now)),
    ):
        if warm:
            assert await parts.code(key) is code
        assert await parts.verifier.verify(ask(ACME), parts.forge(key).text) == NOT_FOUND
        assert await parts.code(key) is code


async def test_an_unknown_key_is_remembered_as_absent(parts: Parts) -> None:
    """A string of ours whose key is gone queries the store once and never runs argon2."""
    key = parts.mint.mint("eg", "live")
    for _ in range(3):
        assert await parts.verifier.verify(ask(ACME), key.text) == NOT_FOUND
    assert (parts.store.finds, parts.hasher.runs) == ([key.prefix], 0)
    await refused_at_no_cost(parts, key.text)
    await refused_at_no_cost(parts, parts.forge(key).text)


async def test_a_deleted_key_is_remembered_as_absent(parts: Parts) -> None:  # rule 18
    """After its deletion a key is NOT_FOUND, for the cost of one lookup."""
    key = parts.issue(revoke_time=parts.clock.now)
    assert await parts.code(key) is VerdictCode.REVOKED
    del parts.store.rows[key.prefix]
    parts.cache.forget([key.prefix])
    assert await parts.verifier.verify(ask(ACME), key.text) == NOT_FOUND
    await refused_at_no_cost(parts, key.text)
    assert len(parts.store.finds) == 2
