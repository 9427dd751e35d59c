"""How a committed change reaches verification."""

import asyncio

import pytest

from authsvc.model.credential import CredentialKind
from authsvc.model.verdict import NOT_FOUND, VerdictCode
from tests.verify.parts import ACME, Pause, Room, ask, at_once


async def test_forget_makes_it_load_anew(room: Room) -> None:  # rule 15
    """After `forget`, the next verification sees what the store has now; other keys stay in memory."""
    key, other = room.issue(), room.issue()
    assert await room.code(key) is await room.code(other) is VerdictCode.VALID
    room.change(key, revoke_time=room.clock.now)
    room.cache.forget([key.prefix])
    assert room.verifier.recall(ask(ACME), key.text) is None
    assert await room.code(key) is VerdictCode.REVOKED
    assert at_once(room.verifier.verify(ask(ACME), other.text)).code is VerdictCode.VALID
    assert room.store.finds == [key.prefix, other.prefix, key.prefix]


async def test_scopes_and_expiry_are_read_anew(room: Room) -> None:
    """An edit is seen too."""
    key = room.issue()
    assert await room.code(key, ["orders:read"]) is VerdictCode.INSUFFICIENT_SCOPE
    room.change(key, scopes=("orders:read",))
    room.cache.forget([key.prefix])
    assert await room.code(key, ["orders:read"]) is VerdictCode.VALID


async def test_revoked_during_a_fill(room: Room) -> None:  # rule 15
    """A look-up that read the row before a revocation leaves nothing behind; later ones do not join it."""
    key = room.issue()
    pause = room.store.pause(key.prefix)
    before = asyncio.create_task(room.code(key))
    await pause.reached()
    room.change(key, revoke_time=room.clock.now)
    room.cache.forget([key.prefix])
    del room.store.pauses[key.prefix]
    assert await room.code(key) is VerdictCode.REVOKED
    pause.open()
    await before
    assert await room.code(key) is VerdictCode.REVOKED
    assert at_once(room.verifier.verify(ask(ACME), key.text)).code is VerdictCode.REVOKED


async def test_revoked_during_a_fill_that_ends_first(room: Room) -> None:  # rule 15
    """The same, when the old look-up ends before anybody asks again."""
    key = room.issue()
    pause = room.store.pause(key.prefix)
    before = asyncio.create_task(room.code(key))
    await pause.reached()
    room.change(key, revoke_time=room.clock.now)
    room.cache.forget([key.prefix])
    pause.open()
    await before
    assert await room.code(key) is VerdictCode.REVOKED


async def test_revoked_before_the_old_answer_is_given(room: Room) -> None:  # rule 15
    """A look-up under way while its key is revoked does not answer VALID once the revocation is known."""
    key = room.issue()
    pause = room.store.pause(key.prefix)
    before = asyncio.create_task(room.code(key))
    await pause.reached()
    room.change(key, revoke_time=room.clock.now)
    room.cache.forget([key.prefix])
    pause.open()
    assert await before is VerdictCode.REVOKED


async def test_revoked_while_the_secret_is_being_proved(room: Room) -> None:  # rule 15
    """A revocation between the row and the proof is not overwritten in memory by the old row."""
    key = room.issue()
    room.hasher.pause = Pause()
    before = asyncio.create_task(room.code(key))
    await room.hasher.pause.reached()
    room.change(key, revoke_time=room.clock.now)
    room.cache.forget([key.prefix])
    room.hasher.pause.open()
    await before
    assert await room.code(key) is VerdictCode.REVOKED


async def test_forgetting_a_wrong_string_in_flight(room: Room) -> None:  # rule 15
    """While a wrong string of the prefix is being looked up, forgetting the right one is for good."""
    key = room.issue()
    forged = room.forge(key)
    pause = room.store.pause(key.prefix)
    wrong = asyncio.create_task(room.verifier.verify(ask(ACME), forged.text))
    await pause.reached()
    room.change(key, revoke_time=room.clock.now)
    room.cache.forget([key.prefix])
    pause.open()
    assert await wrong == NOT_FOUND
    assert await room.code(key) is VerdictCode.REVOKED


async def test_a_deletion_during_a_fill(room: Room) -> None:  # rule 15
    """A key deleted while its row was on its way does not come back."""
    key = room.issue(revoke_time=room.clock.now)
    pause = room.store.pause(key.prefix)
    before = asyncio.create_task(room.code(key))
    await pause.reached()
    del room.store.rows[key.prefix]
    room.cache.forget([key.prefix])
    pause.open()
    await before
    assert await room.code(key) is VerdictCode.NOT_FOUND


@pytest.mark.parametrize("kind", [None, CredentialKind.KEY])
async def test_an_owner_is_forgotten_during_a_fill(
    room: Room, kind: CredentialKind | None
) -> None:  # rule 15
    """What was read before of a key of that owner does not stay in memory, and answers nobody who joined."""
    key = room.issue()
    pause = room.store.pause(key.prefix)
    before = asyncio.create_task(room.code(key))
    await pause.reached()
    room.change(key, revoke_time=room.clock.now)
    room.cache.forget_owner("acme", kind)
    del room.store.pauses[key.prefix]
    joiner = asyncio.create_task(room.code(key))
    pause.open()
    assert await before is await joiner is VerdictCode.REVOKED


@pytest.mark.parametrize("forgotten", [("globex", None), ("acme", CredentialKind.SESSION)])
async def test_others_are_forgotten_during_a_fill(
    room: Room, forgotten: tuple[str, CredentialKind | None]
) -> None:
    """An owner who ends all that is its own, over and over, keeps no other's keys out of memory."""
    key = room.issue()
    pause = room.store.pause(key.prefix)
    before = asyncio.create_task(room.code(key))
    await pause.reached()
    room.cache.forget_owner(*forgotten)
    pause.open()
    assert await before is VerdictCode.VALID
    assert at_once(room.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    assert room.store.finds == [key.prefix]
