"""Temporary faults: they are reported as such, not remembered, and memory continues to answer."""

import asyncio
from collections.abc import Iterator

import pytest

from authsvc.model.credential import StoredCredential
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.verdict import VerdictCode
from authsvc.verify.hasher import IMPORTED, MINTED
from tests.verify.parts import ACME, COSTS, Job, Parts, ask, at_once, make_parts

UNAVAILABLE = Unavailable("the database is gone", reason="GONE", retry_after=1)


@pytest.fixture
def busy_parts() -> Iterator[Parts]:
    """A verifier that proves one secret at a time."""
    furnished = make_parts(queue_limit=1)
    yield furnished
    furnished.hasher.close()


async def test_no_verdict_without_the_store(parts: Parts) -> None:  # rule 20
    """With the store unreachable, a cold key is an error, never "invalid"; the next call works again."""
    key = parts.issue()
    parts.store.fault = UNAVAILABLE
    for _ in range(2):
        with pytest.raises(Unavailable):
            await parts.verifier.verify(ask(ACME), key.text)
    with pytest.raises(Unavailable):
        await parts.verifier.identify(key.text)
    parts.store.fault = None
    assert await parts.code(key) is VerdictCode.VALID


async def test_memory_answers_without_the_store(parts: Parts) -> None:
    """Keys in memory are still verified, as are strings that need no lookup at all."""
    key = parts.issue()
    await parts.code(key)
    parts.store.fault = UNAVAILABLE
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    assert at_once(parts.verifier.verify(ask(ACME), parts.forge(key).text)).code is VerdictCode.NOT_FOUND
    assert at_once(parts.verifier.verify(ask(ACME), "rubbish")).code is VerdictCode.NOT_FOUND


async def test_a_full_queue_is_told_and_not_remembered(busy_parts: Parts) -> None:
    """Overloaded reaches the caller, with the time to retry; later the same key works."""
    parts = busy_parts
    key = parts.issue()
    with Job() as job:
        somebody_else = asyncio.create_task(parts.hasher.run(job))
        await job.started()
        for _ in range(2):
            with pytest.raises(Overloaded) as full:
                await parts.code(key)
            assert full.value.retry_after > 0
    await somebody_else
    assert await parts.code(key) is VerdictCode.VALID


async def test_an_unreadable_proof_is_not_a_wrong_secret(parts: Parts) -> None:
    """A damaged hash in the store is Unavailable until it is repaired."""
    key = parts.issue()
    row = parts.store.rows[key.prefix]
    parts.store.rows[key.prefix] = StoredCredential(row.credential, "damaged", row.secret_origin)
    with pytest.raises(Unavailable):
        await parts.code(key)
    parts.store.rows[key.prefix] = row
    assert await parts.code(key) is VerdictCode.VALID


async def test_a_caller_that_goes_away_disturbs_nobody(parts: Parts) -> None:
    """Of two callers that wait for one key, the one that stays gets the verdict, from one lookup."""
    key = parts.issue()
    pause = parts.store.pause(key.prefix)
    leaver, stayer = [asyncio.create_task(parts.code(key)) for _ in range(2)]
    await pause.reached()
    leaver.cancel()
    await asyncio.wait([leaver])
    pause.open()
    assert await stayer is VerdictCode.VALID
    assert leaver.cancelled()
    assert (len(parts.store.finds), parts.hasher.pending) == (1, 0)


async def test_an_outdated_hash_is_replaced_once(parts: Parts) -> None:
    """A secret with a hash of another cost than its origin requires gets a new hash once it is proved."""
    key = parts.issue(cost=MINTED, origin=IMPORTED)
    old = parts.store.rows[key.prefix].secret_hash
    assert await parts.code(key) is VerdictCode.VALID
    [(prefix, replaced, new)] = parts.store.replacements
    assert (prefix, replaced) == (key.prefix, old)
    assert new.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert COSTS[IMPORTED].verify(new, key.secret)
    parts.cache.forget([key.prefix])
    assert await parts.code(key) is VerdictCode.VALID
    assert len(parts.store.replacements) == 1


async def test_many_who_wait_replace_a_hash_once(parts: Parts) -> None:
    """Concurrent callers also share the replacement."""
    key = parts.issue(cost=MINTED, origin=IMPORTED)
    assert await asyncio.gather(*(parts.code(key) for _ in range(10))) == [VerdictCode.VALID] * 10
    assert len(parts.store.replacements) == 1


async def test_a_wrong_secret_replaces_nothing(parts: Parts) -> None:
    """Only a proved secret gets a new hash."""
    key = parts.issue(cost=MINTED, origin=IMPORTED)
    assert await parts.code(parts.forge(key)) is VerdictCode.NOT_FOUND
    assert parts.store.replacements == []


async def test_a_current_hash_is_left_alone(parts: Parts) -> None:
    """A hash at its origin's cost is not replaced."""
    assert await parts.code(parts.issue()) is VerdictCode.VALID
    assert parts.store.replacements == []


@pytest.mark.parametrize(
    "fault",
    [
        UNAVAILABLE,
        Overloaded("full", reason="FULL", retry_after=1),
        pytest.param(RuntimeError("permission denied")),
    ],
    ids=["unavailable", "overloaded", "fault"],
)
async def test_a_failing_replacement_is_harmless(parts: Parts, fault: Exception) -> None:
    """If the new hash cannot be stored, the key is VALID nevertheless; the next cold start tries again."""
    key = parts.issue(cost=MINTED, origin=IMPORTED)
    parts.store.replacement_fault = fault
    assert await parts.code(key) is VerdictCode.VALID
    assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    parts.store.replacement_fault = None
    parts.cache.forget([key.prefix])
    assert await parts.code(key) is VerdictCode.VALID
    assert len(parts.store.replacements) == 2
    assert parts.store.rows[key.prefix].secret_hash == parts.store.replacements[1][2]


async def test_an_outdated_hash_in_a_full_queue(busy_parts: Parts) -> None:
    """With no room for a second concurrent job, proof and new hash still follow one another."""
    key = busy_parts.issue(cost=MINTED, origin=IMPORTED)
    assert await busy_parts.code(key) is VerdictCode.VALID
    assert busy_parts.hasher.pending == 0
