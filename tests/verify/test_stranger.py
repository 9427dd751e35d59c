"""Strings that are nobody's: malformed, wrong secrets, keys that are gone."""

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc.model.key_string import KeyMint
from authsvc.model.verdict import NOT_FOUND, VerdictCode
from authsvc.verify.verifier import Question
from tests.verify.parts import ACME, Room, ask, at_once, make_room

anything = st.text(st.characters())


async def refused_at_no_cost(room: Room, presented: str) -> None:
    """Check that the string is NOT_FOUND in all ways to ask, with no call of the store and no argon2."""
    finds, runs = len(room.store.finds), room.hasher.runs
    assert room.verifier.recall(ask(ACME), presented) == NOT_FOUND
    assert room.verifier.recall(Question(None, None), presented) == NOT_FOUND
    assert at_once(room.verifier.verify(ask(ACME), presented)) == NOT_FOUND
    assert at_once(room.verifier.identify(presented)) is None
    assert await room.verify_all(ACME, [(presented, (), "")]) == [NOT_FOUND]
    assert (len(room.store.finds), room.hasher.runs) == (finds, runs)


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
    room = make_room()
    await refused_at_no_cost(room, presented)
    room.hasher.close()


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_one_changed_character(room: Room, warm: bool) -> None:  # rules 20, 21
    """The right string with one character changed, lost or added is a stranger, its key known or not."""
    key = room.issue()
    if warm:
        await room.code(key)
    text = key.text
    for position in range(len(text)):
        other = "b" if text[position] == "a" else "a"
        await refused_at_no_cost(room, text[:position] + other + text[position + 1 :])
        await refused_at_no_cost(room, text[:position] + text[position + 1 :])
        await refused_at_no_cost(room, text[:position] + "é" + text[position:])
    for padded in (f" {text}", f"{text}\n", f"{text}\0", text + text):
        await refused_at_no_cost(room, padded)
    assert await room.code(key) is VerdictCode.VALID


async def test_another_mint(room: Room) -> None:  # rule 20
    """A string of the right form from elsewhere costs nothing."""
    await refused_at_no_cost(room, KeyMint(b"o" * 32).mint("eg", "live").text)


@settings(deadline=None)
@given(anything)
async def test_any_tail_on_a_warm_prefix(tail: str) -> None:  # rule 21
    """Whatever follows a prefix that memory knows is NOT_FOUND before any work; the key stays as it was."""
    room = make_room()
    key = room.issue()
    await room.code(key)
    await refused_at_no_cost(room, key.prefix + tail)
    await refused_at_no_cost(room, key.prefix + tail[:51].ljust(51, "a"))
    assert at_once(room.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    room.hasher.close()


async def test_wrong_secret_on_a_warm_prefix(room: Room) -> None:  # rule 21
    """Even with the right tag, another secret is refused by its digest alone."""
    key = room.issue()
    await room.code(key)
    await refused_at_no_cost(room, room.forge(key).text)


async def test_wrong_secret_on_a_cold_prefix(room: Room) -> None:  # rule 21
    """Another secret with the right tag is NOT_FOUND, not remembered, and does not poison the right one."""
    key = room.issue()
    forged = room.forge(key)
    for attempt in (1, 2):
        assert await room.verifier.verify(ask(ACME), forged.text) == NOT_FOUND
        assert (len(room.cache), room.hasher.runs) == (0, attempt)
    assert await room.code(key) is VerdictCode.VALID
    assert await room.code(forged) is VerdictCode.NOT_FOUND
    assert await room.code(key) is VerdictCode.VALID


async def test_wrong_secret_beside_the_right_one(room: Room) -> None:  # rule 21
    """Right and wrong strings of one prefix that are looked up at the same time get each its own verdict."""
    key = room.issue()
    presented = [room.forge(key), key, room.forge(key), key]
    pause = room.store.pause(key.prefix)
    asked = [asyncio.create_task(room.code(string)) for string in presented]
    await pause.reached()
    pause.open()
    wrong, right = VerdictCode.NOT_FOUND, VerdictCode.VALID
    assert await asyncio.gather(*asked) == [wrong, right, wrong, right]
    assert len(room.store.finds) == 3
    assert at_once(room.verifier.verify(ask(ACME), key.text)).code is right


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_state_is_told_to_the_right_secret_only(room: Room, warm: bool) -> None:  # rule 21
    """REVOKED and EXPIRED are for who has the secret; a wrong one is NOT_FOUND, as for any prefix."""
    now = room.clock.now
    for code, key in (
        (VerdictCode.REVOKED, room.issue(revoke_time=now)),
        (VerdictCode.EXPIRED, room.issue(expire_time=now)),
    ):
        if warm:
            assert await room.code(key) is code
        assert await room.verifier.verify(ask(ACME), room.forge(key).text) == NOT_FOUND
        assert await room.code(key) is code


async def test_an_unknown_key_is_remembered_as_absent(room: Room) -> None:
    """A string of ours whose key is gone asks the store once and argon2 never."""
    key = room.mint.mint("eg", "live")
    for _ in range(3):
        assert await room.verifier.verify(ask(ACME), key.text) == NOT_FOUND
    assert (room.store.finds, room.hasher.runs) == ([key.prefix], 0)
    await refused_at_no_cost(room, key.text)
    await refused_at_no_cost(room, room.forge(key).text)


async def test_a_deleted_key_is_remembered_as_absent(room: Room) -> None:  # rule 18
    """After its deletion a key is NOT_FOUND, at the price of one look."""
    key = room.issue(revoke_time=room.clock.now)
    assert await room.code(key) is VerdictCode.REVOKED
    del room.store.rows[key.prefix]
    room.cache.forget([key.prefix])
    assert await room.verifier.verify(ask(ACME), key.text) == NOT_FOUND
    await refused_at_no_cost(room, key.text)
    assert len(room.store.finds) == 2
