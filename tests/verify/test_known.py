"""Credentials that are looked up by their prefix, for tokens: what that does to presented key strings."""

import asyncio
from dataclasses import replace

import pytest

from authsvc.model.caller import Caller
from authsvc.model.credential import Credential
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.key_string import KeyString
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode
from tests.verify.parts import ACME, GLOBEX, PLATFORM, Parts, ask, at_once


def unchanged(credential: Credential) -> Credential:
    return credential


async def known(parts: Parts, key: KeyString, caller: Caller = ACME) -> Verdict:
    return await parts.verifier.verify_known(ask(caller), key.prefix, unchanged)


async def test_a_prefix_is_looked_up_once(parts: Parts) -> None:
    """Then memory has it, without argon2. What is judged is what `restrict` returns."""
    key = parts.issue(scopes=("a", "b"))
    assert (await known(parts, key)).code is VerdictCode.VALID
    verdict = parts.verifier.recall_known(ask(ACME, ["b"]), key.prefix, lambda c: replace(c, scopes=("a",)))
    assert verdict is not None
    assert verdict.code is VerdictCode.INSUFFICIENT_SCOPE
    assert parts.verifier.recall_known(ask(ACME), key.prefix, lambda _: None) is NOT_FOUND
    assert (parts.store.finds, parts.hasher.runs) == ([key.prefix], 0)


async def test_a_string_that_was_proved_serves_both(parts: Parts) -> None:
    key = parts.issue()
    assert await parts.code(key) is VerdictCode.VALID
    assert at_once(known(parts, key)).code is VerdictCode.VALID
    assert parts.store.finds == [key.prefix]


async def test_what_is_not_proved_says_nothing_about_strings(parts: Parts) -> None:  # rule 21
    """The right string is proved, a wrong one is refused, and once more when the right one is in memory."""
    key = parts.issue()
    await known(parts, key)
    assert parts.verifier.recall(ask(ACME), key.text) is None
    assert await parts.code(parts.forge(key)) is VerdictCode.NOT_FOUND
    assert await parts.code(key) is VerdictCode.VALID
    assert parts.hasher.runs == 2
    assert await parts.code(parts.forge(key)) is VerdictCode.NOT_FOUND
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    assert parts.hasher.runs == 2


@pytest.mark.parametrize("text", ["", "x", "eg_live_000000000000"])
async def test_the_digest_of_no_string_is_empty(parts: Parts, text: str) -> None:
    """No short text is taken for a string that was proved."""
    key = parts.issue()
    await known(parts, key)
    for presented in (text, key.prefix, key.prefix + text, key.text[:-1]):
        assert await parts.code(presented) is VerdictCode.NOT_FOUND


async def test_an_unknown_prefix(parts: Parts) -> None:
    """It is remembered as absent; a string with it is still looked up."""
    key = parts.mint.mint("eg", "live")
    for _ in range(2):
        assert await known(parts, key) is NOT_FOUND
    assert parts.store.finds == [key.prefix]
    assert await parts.code(key) is VerdictCode.NOT_FOUND


async def test_a_proof_is_not_lost_to_a_look_up(parts: Parts) -> None:
    """A string that was proved while the prefix was looked up stays proved."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    looking = asyncio.create_task(known(parts, key))
    await pause.reached()
    del parts.store.pauses[key.prefix]
    assert await parts.code(key) is VerdictCode.VALID
    pause.open()
    assert (await looking).code is VerdictCode.VALID
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID


@pytest.mark.parametrize("of_owner", [False, True])
async def test_revoked_during_a_look_up(parts: Parts, of_owner: bool) -> None:  # rule 15
    """The row from before a revocation is not remembered, and gives no verdict."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    before = asyncio.create_task(known(parts, key))
    await pause.reached()
    parts.change(key, revoke_time=parts.clock.now)
    if of_owner:
        parts.cache.forget_owner("acme")
    else:
        parts.cache.forget([key.prefix])
    del parts.store.pauses[key.prefix]
    pause.open()
    assert (await before).code is VerdictCode.REVOKED
    assert at_once(known(parts, key)).code is VerdictCode.REVOKED


async def test_without_a_lease(parts: Parts) -> None:
    key = parts.issue()
    await known(parts, key)
    parts.lease.end("test")
    with pytest.raises(Unavailable):
        await known(parts, key)
    with pytest.raises(Unavailable):
        parts.verifier.refuse(ask(ACME))


async def test_another_owner(parts: Parts) -> None:  # rule 19
    key = parts.issue()
    assert await known(parts, key, GLOBEX) is NOT_FOUND
    assert (await known(parts, key, PLATFORM)).code is VerdictCode.VALID


async def test_a_session_near_its_idle_end(parts: Parts) -> None:
    """The database is asked, and what it knows counts for the next question as well."""
    session = parts.open_session()
    question = ask(ACME)._replace(kind=None)
    parts.clock.advance(minutes=29, seconds=30)
    for _ in range(2):
        verdict = await parts.verifier.verify_known(question, session.prefix, unchanged)
        assert verdict.code is VerdictCode.VALID
    assert parts.activities.asked == [f"record {parts.credential_of(session).credential_id}"]


async def test_the_limit_of_an_owner(parts: Parts) -> None:
    """Look-ups for tokens count like those of strings, and share one for a prefix."""
    parts.verifier._loader._max_loads_per_owner = 1
    key, other = parts.issue(), parts.issue()
    pause = parts.store.pause(key.prefix)
    looking = [asyncio.create_task(known(parts, key)) for _ in range(3)]
    await pause.reached()
    with pytest.raises(Overloaded):
        await parts.code(other)
    with pytest.raises(Overloaded):
        await known(parts, other)
    pause.open()
    assert {each.code for each in await asyncio.gather(*looking)} == {VerdictCode.VALID}
    assert parts.store.finds == [key.prefix]
