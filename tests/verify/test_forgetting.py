"""How a committed change reaches verification."""

import asyncio

import pytest

from authsvc.model.credential import CredentialKind
from authsvc.model.verdict import NOT_FOUND, VerdictCode
from tests.verify.parts import ACME, Parts, Pause, ask, at_once


async def test_forget_makes_it_load_anew(parts: Parts) -> None:  # rule 15
    """After `forget`, the next verification sees what the store has now; other keys stay in memory."""
    key, other = parts.issue(), parts.issue()
    assert await parts.code(key) is await parts.code(other) is VerdictCode.VALID
    parts.change(key, revoke_time=parts.clock.now)
    parts.cache.forget([key.prefix])
    assert parts.verifier.recall(ask(ACME), key.text) is None
    assert await parts.code(key) is VerdictCode.REVOKED
    assert at_once(parts.verifier.verify(ask(ACME), other.text)).code is VerdictCode.VALID
    assert parts.store.finds == [key.prefix, other.prefix, key.prefix]


async def test_scopes_and_expiry_are_read_anew(parts: Parts) -> None:
    """An edit is seen too."""
    key = parts.issue()
    assert await parts.code(key, ["orders:read"]) is VerdictCode.INSUFFICIENT_SCOPE
    parts.change(key, scopes=("orders:read",))
    parts.cache.forget([key.prefix])
    assert await parts.code(key, ["orders:read"]) is VerdictCode.VALID


async def test_revoked_during_a_fill(parts: Parts) -> None:  # rule 15
    """A lookup that read the row before a revocation leaves nothing in memory; later ones do not join it."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    before = asyncio.create_task(parts.code(key))
    await pause.reached()
    parts.change(key, revoke_time=parts.clock.now)
    parts.cache.forget([key.prefix])
    del parts.store.pauses[key.prefix]
    assert await parts.code(key) is VerdictCode.REVOKED
    pause.open()
    await before
    assert await parts.code(key) is VerdictCode.REVOKED
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.REVOKED


async def test_revoked_during_a_fill_that_ends_first(parts: Parts) -> None:  # rule 15
    """The same, if the old lookup ends before the next verification."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    before = asyncio.create_task(parts.code(key))
    await pause.reached()
    parts.change(key, revoke_time=parts.clock.now)
    parts.cache.forget([key.prefix])
    pause.open()
    await before
    assert await parts.code(key) is VerdictCode.REVOKED


async def test_revoked_before_the_old_answer_is_given(parts: Parts) -> None:  # rule 15
    """A lookup in progress while its key is revoked does not answer VALID once the revocation is known."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    before = asyncio.create_task(parts.code(key))
    await pause.reached()
    parts.change(key, revoke_time=parts.clock.now)
    parts.cache.forget([key.prefix])
    pause.open()
    assert await before is VerdictCode.REVOKED


async def test_revoked_while_the_secret_is_being_proved(parts: Parts) -> None:  # rule 15
    """A revocation between the row and the proof is not overwritten in memory by the old row."""
    key = parts.issue()
    parts.hasher.pause = Pause()
    before = asyncio.create_task(parts.code(key))
    await parts.hasher.pause.reached()
    parts.change(key, revoke_time=parts.clock.now)
    parts.cache.forget([key.prefix])
    parts.hasher.pause.open()
    await before
    assert await parts.code(key) is VerdictCode.REVOKED


async def test_forgetting_a_wrong_string_in_flight(parts: Parts) -> None:  # rule 15
    """While a wrong string of the prefix is being looked up, forgetting the right one is permanent."""
    key = parts.issue()
    forged = parts.forge(key)
    pause = parts.store.pause(key.prefix)
    wrong = asyncio.create_task(parts.verifier.verify(ask(ACME), forged.text))
    await pause.reached()
    parts.change(key, revoke_time=parts.clock.now)
    parts.cache.forget([key.prefix])
    pause.open()
    assert await wrong == NOT_FOUND
    assert await parts.code(key) is VerdictCode.REVOKED


async def test_a_deletion_during_a_fill(parts: Parts) -> None:  # rule 15
    """A key that is deleted while its row is being read does not come back."""
    key = parts.issue(revoke_time=parts.clock.now)
    pause = parts.store.pause(key.prefix)
    before = asyncio.create_task(parts.code(key))
    await pause.reached()
    del parts.store.rows[key.prefix]
    parts.cache.forget([key.prefix])
    pause.open()
    await before
    assert await parts.code(key) is VerdictCode.NOT_FOUND


@pytest.mark.parametrize("kind", [None, CredentialKind.KEY])
async def test_an_owner_is_forgotten_during_a_fill(
    parts: Parts, kind: CredentialKind | None
) -> None:  # rule 15
    """A key of that owner that was read before does not stay in memory, and answers no caller that joined."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    before = asyncio.create_task(parts.code(key))
    await pause.reached()
    parts.change(key, revoke_time=parts.clock.now)
    parts.cache.forget_owner("acme", kind)
    del parts.store.pauses[key.prefix]
    joiner = asyncio.create_task(parts.code(key))
    pause.open()
    assert await before is await joiner is VerdictCode.REVOKED


@pytest.mark.parametrize("forgotten", [("globex", None), ("acme", CredentialKind.SESSION)])
async def test_others_are_forgotten_during_a_fill(
    parts: Parts, forgotten: tuple[str, CredentialKind | None]
) -> None:
    """An owner that ends all of its own keys repeatedly keeps no keys of others out of memory."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    before = asyncio.create_task(parts.code(key))
    await pause.reached()
    parts.cache.forget_owner(*forgotten)
    pause.open()
    assert await before is VerdictCode.VALID
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    assert parts.store.finds == [key.prefix]
