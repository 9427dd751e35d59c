"""Verdicts: the result for a presented string, by caller."""

import asyncio
from datetime import timedelta

import pytest

from authsvc.model.credential import FOREVER
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.use import Use
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode
from authsvc.verify.hasher import IMPORTED
from authsvc.verify.verifier import Question
from tests.verify.parts import ACME, GLOBEX, PLATFORM, Parts, ask, at_once

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)


async def test_valid(parts: Parts) -> None:  # rule 20
    """The right string of an active key is VALID, and identifies the key."""
    key = parts.issue(scopes=("orders:read",))
    verdict = await parts.verifier.verify(ask(ACME, ["orders:read"]), key.text)
    assert verdict == Verdict(VerdictCode.VALID, parts.credential_of(key))


async def test_missing_scope(parts: Parts) -> None:  # rules 20, 22
    """The right string without the required scope is INSUFFICIENT_SCOPE, cold and warm."""
    key = parts.issue(scopes=("orders:write",))
    for _ in range(2):
        verdict = await parts.verifier.verify(ask(ACME, ["orders:read"]), key.text)
        assert verdict == Verdict(VerdictCode.INSUFFICIENT_SCOPE, parts.credential_of(key))


async def test_disabled(parts: Parts) -> None:  # rules 7, 20, 21
    """Only a caller that has the right secret and acts on the owner learns that its keys are disabled."""
    key = parts.issue()
    forged = parts.forge(key)
    parts.change(key, disabled_until=FOREVER)
    for _ in range(2):  # Cold and warm.
        verdict = await parts.verifier.verify(ask(ACME, ["orders:read"]), key.text)
        assert verdict == Verdict(VerdictCode.DISABLED, parts.credential_of(key))
        assert await parts.verifier.verify(ask(ACME), forged.text) == NOT_FOUND
        assert await parts.verifier.verify(ask(GLOBEX), key.text) == NOT_FOUND
    assert await parts.uses() == []
    parts.change(key, disabled_until=None)
    parts.cache.forget_owner("acme")
    assert await parts.code(key) is VerdictCode.VALID


async def test_a_hit_touches_memory_only(parts: Parts) -> None:
    """The second verification uses neither the store nor argon2, and does not wait for anything."""
    key = parts.issue()
    await parts.code(key)
    finds, runs = len(parts.store.finds), parts.hasher.runs
    for _ in range(10):
        assert at_once(parts.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    assert (len(parts.store.finds), parts.hasher.runs) == (finds, runs) == (1, 1)


async def test_recall_answers_from_memory(parts: Parts) -> None:
    """`recall` does not know a cold key, and returns the verdict on a warm one, not an awaitable."""
    key = parts.issue(scopes=("orders:read",))
    assert parts.verifier.recall(ask(ACME), key.text) is None
    assert parts.store.finds == []
    await parts.code(key)
    valid = Verdict(VerdictCode.VALID, parts.credential_of(key))
    assert parts.verifier.recall(ask(ACME, ["orders:read"]), key.text) == valid
    verdict = parts.verifier.recall(ask(ACME, ["orders:write"]), key.text)
    assert isinstance(verdict, Verdict)
    assert verdict.code is VerdictCode.INSUFFICIENT_SCOPE


async def test_our_callers_own_key(parts: Parts) -> None:
    """It is looked up when cold, and known at once when warm or malformed, whichever owner it has."""
    key = parts.issue(owner_id="globex")
    first, second = Question(None, None, (), "192.0.2.1"), Question(None, None, (), "192.0.2.2")
    assert parts.verifier.recall(first, key.text) is None
    assert (await parts.verifier.verify(first, key.text)).code is VerdictCode.VALID
    warm = parts.verifier.recall(second, key.text)
    assert warm == Verdict(VerdictCode.VALID, parts.credential_of(key))
    assert parts.verifier.recall(second, "rubbish") == NOT_FOUND
    assert await parts.uses() == [Use("key_1", parts.clock.now, "192.0.2.2")]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_expiry_takes_effect_by_the_clock(parts: Parts, warm: bool) -> None:  # rule 13
    """From its expiry the key is EXPIRED, also on a hit, without access to the store."""
    key = parts.issue(expire_time=parts.clock.now + HOUR)
    if warm:
        assert await parts.code(key) is VerdictCode.VALID
    parts.clock.now += HOUR - TICK
    assert await parts.code(key) is VerdictCode.VALID
    parts.clock.now += TICK
    assert await parts.code(key) is VerdictCode.EXPIRED
    assert len(parts.store.finds) == 1


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_scheduled_revocation_takes_effect_by_the_clock(parts: Parts, warm: bool) -> None:  # rule 14
    """From the scheduled time the key is REVOKED, also on a hit, without access to the store."""
    key = parts.issue(revoke_time=parts.clock.now + HOUR, expire_time=parts.clock.now + HOUR)
    if warm:
        assert await parts.code(key) is VerdictCode.VALID
    parts.clock.now += HOUR - TICK
    assert await parts.code(key) is VerdictCode.VALID
    parts.clock.now += TICK
    assert await parts.code(key) is VerdictCode.REVOKED
    assert len(parts.store.finds) == 1


async def test_judged_when_answered(parts: Parts) -> None:  # rule 13
    """A key that expires while it is being looked up is EXPIRED when the answer is given."""
    key = parts.issue(expire_time=parts.clock.now + HOUR)
    pause = parts.store.pause(key.prefix)
    verdict = asyncio.create_task(parts.code(key))
    await pause.reached()
    parts.clock.now += HOUR
    pause.open()
    assert await verdict is VerdictCode.EXPIRED


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_foreign_owner_is_not_told(parts: Parts, warm: bool) -> None:  # rules 19, 21
    """For a caller of another owner the right string of any key is NOT_FOUND, whatever its state."""
    now = parts.clock.now
    for key in (parts.issue(), parts.issue(revoke_time=now), parts.issue(expire_time=now)):
        if warm:
            await parts.code(key, caller=PLATFORM)
        assert await parts.verifier.verify(ask(GLOBEX), key.text) == NOT_FOUND
        assert parts.verifier.recall(ask(GLOBEX), key.text) == NOT_FOUND


async def test_the_platform_sees_all(parts: Parts) -> None:
    """A caller of the platform gets the verdict on every owner's key."""
    for owner_id in ("acme", "globex", "authsvc"):
        assert await parts.code(parts.issue(owner_id=owner_id), caller=PLATFORM) is VerdictCode.VALID


async def test_a_platform_key_is_foreign_to_tenants(parts: Parts) -> None:  # rule 19
    """A tenant's caller cannot verify the platform's own keys."""
    key = parts.issue(owner_id="authsvc")
    assert await parts.verifier.verify(ask(ACME), key.text) == NOT_FOUND


async def test_a_valid_verdict_is_a_use(parts: Parts) -> None:  # rule 23
    """Cold or warm, a VALID verdict records the time and the client's address."""
    key = parts.issue()
    for address in ("192.0.2.1", "2001:db8::1"):
        parts.clock.advance(seconds=1)
        await parts.verifier.verify(ask(ACME, (), address), key.text)
        assert (await parts.uses())[-1] == Use("key_1", parts.clock.now, address)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_no_other_verdict_is_a_use(parts: Parts, warm: bool) -> None:  # rule 23
    """Neither a negative verdict nor another owner's verification counts as a use."""
    now = parts.clock.now
    plain, revoked, expired = parts.issue(), parts.issue(revoke_time=now), parts.issue(expire_time=now)
    if warm:
        for key in (plain, revoked, expired):
            await parts.verifier.identify(key.text)
    assert await parts.code(revoked) is VerdictCode.REVOKED
    assert await parts.code(expired) is VerdictCode.EXPIRED
    assert await parts.code(plain, ["orders:read"]) is VerdictCode.INSUFFICIENT_SCOPE
    assert await parts.code(plain, caller=GLOBEX) is VerdictCode.NOT_FOUND
    assert await parts.code(parts.forge(plain)) is VerdictCode.NOT_FOUND
    assert await parts.code("rubbish") is VerdictCode.NOT_FOUND
    assert await parts.uses() == []


async def test_identify_is_not_a_use(parts: Parts) -> None:  # rule 23
    """Identifying a string counts neither as a use nor as a verdict, whatever its state."""
    for key in (parts.issue(), parts.issue(revoke_time=parts.clock.now), parts.issue(owner_id="globex")):
        for _ in range(2):
            assert await parts.verifier.identify(key.text) == parts.credential_of(key)
    assert await parts.verifier.identify("rubbish") is None
    assert await parts.uses() == []
    assert not any(parts.verifier.counts.values())


async def test_each_verdict_is_counted_once(parts: Parts) -> None:
    """Cold, warm, recalled or in a batch: one verdict, one count."""
    key, expired = parts.issue(), parts.issue(expire_time=parts.clock.now)
    for presented in (key.text, key.text, expired.text, "rubbish"):
        await parts.verifier.verify(ask(ACME), presented)
    parts.verifier.recall(ask(ACME, ["orders:read"]), key.text)
    await parts.verify_all(GLOBEX, [(key.text, (), ""), (parts.issue().text, (), "")])
    assert {code.value: count for code, count in parts.verifier.counts.items()} == {
        "VALID": 2,
        "NOT_FOUND": 3,
        "REVOKED": 0,
        "EXPIRED": 1,
        "INSUFFICIENT_SCOPE": 1,
        "DISABLED": 0,
        "ADDRESS_NOT_ALLOWED": 0,
        "RATE_LIMITED": 0,
        "CREDITS_EXHAUSTED": 0,
    }


async def test_an_imported_secret_is_proved_at_its_cost(parts: Parts) -> None:
    """A hash of the more expensive profile is proved like any other, and kept."""
    key = parts.issue(cost=IMPORTED, origin=IMPORTED)
    assert await parts.code(key) is VerdictCode.VALID
    assert (parts.hasher.runs, parts.store.replacements) == (1, [])


async def test_an_outage_is_no_verdict(parts: Parts) -> None:
    """An unreachable store is an error and never a verdict, and is not counted as one."""
    parts.store.fault = Unavailable("gone", reason="GONE", retry_after=1)
    with pytest.raises(Unavailable):
        await parts.code(parts.issue())
    assert not any(parts.verifier.counts.values())


async def test_one_owner_does_not_fill_the_queues(parts: Parts) -> None:
    """Its callers have a limited number of lookups in progress, even if none waits; others have room."""
    parts.verifier._loader._max_loads_per_owner = 3
    cold = [parts.issue() for _ in range(5)]
    pauses = [parts.store.pause(key.prefix) for key in cold[:3]]
    waiting = [asyncio.create_task(parts.verifier.verify(ask(ACME), key.text)) for key in cold[:3]]
    for pause in pauses:
        await pause.reached()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    with pytest.raises(Overloaded) as refused:
        await parts.verifier.verify(ask(ACME), cold[3].text)
    assert refused.value.reason == "LOOK_UP_LIMIT"
    joined = asyncio.create_task(parts.verifier.verify(ask(ACME), cold[0].text))
    assert await parts.code(parts.issue(owner_id="globex"), caller=GLOBEX) is VerdictCode.VALID
    assert await parts.code(cold[4], caller=PLATFORM) is VerdictCode.VALID
    assert await parts.code(cold[4]) is VerdictCode.VALID  # from memory
    for pause in pauses:
        pause.open()
    assert (await joined).code is VerdictCode.VALID
    assert await parts.code(cold[3]) is VerdictCode.VALID
    for key in cold:
        assert await parts.code(key) is VerdictCode.VALID
    assert not parts.verifier._loader._loads
