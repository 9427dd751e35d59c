"""Verdicts: what a presented string is worth, and to whom."""

import asyncio
from datetime import timedelta

import pytest

from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.use import Use
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode
from authsvc.verify.hasher import IMPORTED
from authsvc.verify.verifier import Question
from tests.verify.parts import ACME, GLOBEX, PLATFORM, Room, ask, at_once

HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)


async def test_valid(room: Room) -> None:  # rule 20
    """The right string of an active key is VALID, and tells which key it is."""
    key = room.issue(scopes=("orders:read",))
    verdict = await room.verifier.verify(ask(ACME, ["orders:read"]), key.text)
    assert verdict == (VerdictCode.VALID, room.credential_of(key))


async def test_missing_scope(room: Room) -> None:  # rules 20, 22
    """The right string without the scope asked for is INSUFFICIENT_SCOPE, cold and warm."""
    key = room.issue(scopes=("orders:write",))
    for _ in range(2):
        verdict = await room.verifier.verify(ask(ACME, ["orders:read"]), key.text)
        assert verdict == (VerdictCode.INSUFFICIENT_SCOPE, room.credential_of(key))


async def test_disabled(room: Room) -> None:  # rules 7, 20, 21
    """Only who has the right secret and acts on the owner learns that its keys are switched off."""
    key = room.issue()
    forged = room.forge(key)
    room.change(key, disabled=True)
    for _ in range(2):  # Cold and warm.
        verdict = await room.verifier.verify(ask(ACME, ["orders:read"]), key.text)
        assert verdict == (VerdictCode.DISABLED, room.credential_of(key))
        assert await room.verifier.verify(ask(ACME), forged.text) == NOT_FOUND
        assert await room.verifier.verify(ask(GLOBEX), key.text) == NOT_FOUND
    assert await room.uses() == []
    room.change(key, disabled=False)
    room.cache.forget_owner("acme")
    assert await room.code(key) is VerdictCode.VALID


async def test_a_hit_touches_memory_only(room: Room) -> None:
    """The second verification asks neither the store nor argon2, and does not wait for anything."""
    key = room.issue()
    await room.code(key)
    finds, runs = len(room.store.finds), room.hasher.runs
    for _ in range(10):
        assert at_once(room.verifier.verify(ask(ACME), key.text)).code is VerdictCode.VALID
    assert (len(room.store.finds), room.hasher.runs) == (finds, runs) == (1, 1)


async def test_recall_answers_from_memory(room: Room) -> None:
    """`recall` does not know a cold key, and returns the verdict on a warm one, not something to await."""
    key = room.issue(scopes=("orders:read",))
    assert room.verifier.recall(ask(ACME), key.text) is None
    assert room.store.finds == []
    await room.code(key)
    assert room.verifier.recall(ask(ACME, ["orders:read"]), key.text) == (
        VerdictCode.VALID,
        room.credential_of(key),
    )
    verdict = room.verifier.recall(ask(ACME, ["orders:write"]), key.text)
    assert isinstance(verdict, Verdict)
    assert verdict.code is VerdictCode.INSUFFICIENT_SCOPE


async def test_our_callers_own_key(room: Room) -> None:
    """It is looked up when cold, and known at once when warm or malformed, whoever owns it."""
    key = room.issue(owner_id="globex")
    first, second = Question(None, None, (), "192.0.2.1"), Question(None, None, (), "192.0.2.2")
    assert room.verifier.recall(first, key.text) is None
    assert (await room.verifier.verify(first, key.text)).code is VerdictCode.VALID
    warm = room.verifier.recall(second, key.text)
    assert warm == (VerdictCode.VALID, room.credential_of(key))
    assert room.verifier.recall(second, "rubbish") == NOT_FOUND
    assert await room.uses() == [Use("key_1", room.clock.now, "192.0.2.2")]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_expiry_takes_effect_by_the_clock(room: Room, warm: bool) -> None:  # rule 13
    """From the instant of expiry the key is EXPIRED, also on a hit, without a look at the store."""
    key = room.issue(expire_time=room.clock.now + HOUR)
    if warm:
        assert await room.code(key) is VerdictCode.VALID
    room.clock.now += HOUR - TICK
    assert await room.code(key) is VerdictCode.VALID
    room.clock.now += TICK
    assert await room.code(key) is VerdictCode.EXPIRED
    assert len(room.store.finds) == 1


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_scheduled_revocation_takes_effect_by_the_clock(room: Room, warm: bool) -> None:  # rule 14
    """From the scheduled instant the key is REVOKED, also on a hit, without a look at the store."""
    key = room.issue(revoke_time=room.clock.now + HOUR, expire_time=room.clock.now + HOUR)
    if warm:
        assert await room.code(key) is VerdictCode.VALID
    room.clock.now += HOUR - TICK
    assert await room.code(key) is VerdictCode.VALID
    room.clock.now += TICK
    assert await room.code(key) is VerdictCode.REVOKED
    assert len(room.store.finds) == 1


async def test_judged_when_answered(room: Room) -> None:  # rule 13
    """A key that expires while it is being looked up is EXPIRED when the answer is given."""
    key = room.issue(expire_time=room.clock.now + HOUR)
    pause = room.store.pause(key.prefix)
    verdict = asyncio.create_task(room.code(key))
    await pause.reached()
    room.clock.now += HOUR
    pause.open()
    assert await verdict is VerdictCode.EXPIRED


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_a_foreign_owner_is_not_told(room: Room, warm: bool) -> None:  # rules 19, 21
    """To another owner's caller the right string of any key is NOT_FOUND, whatever its state."""
    now = room.clock.now
    for key in (room.issue(), room.issue(revoke_time=now), room.issue(expire_time=now)):
        if warm:
            await room.code(key, caller=PLATFORM)
        assert await room.verifier.verify(ask(GLOBEX), key.text) == NOT_FOUND
        assert room.verifier.recall(ask(GLOBEX), key.text) == NOT_FOUND


async def test_the_platform_sees_all(room: Room) -> None:
    """A caller of the platform gets the verdict on every owner's key."""
    for owner_id in ("acme", "globex", "authsvc"):
        assert await room.code(room.issue(owner_id=owner_id), caller=PLATFORM) is VerdictCode.VALID


async def test_a_platform_key_is_foreign_to_tenants(room: Room) -> None:  # rule 19
    """The platform's own keys are nothing that a tenant's caller could verify."""
    key = room.issue(owner_id="authsvc")
    assert await room.verifier.verify(ask(ACME), key.text) == NOT_FOUND


async def test_a_valid_verdict_is_a_use(room: Room) -> None:  # rule 23
    """Cold or warm, a VALID verdict notes the instant and the client's address."""
    key = room.issue()
    for address in ("192.0.2.1", "2001:db8::1"):
        room.clock.advance(seconds=1)
        await room.verifier.verify(ask(ACME, (), address), key.text)
        assert (await room.uses())[-1] == Use("key_1", room.clock.now, address)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_no_other_verdict_is_a_use(room: Room, warm: bool) -> None:  # rule 23
    """Neither a negative verdict nor a foreign caller's question counts as a use."""
    now = room.clock.now
    plain, revoked, expired = room.issue(), room.issue(revoke_time=now), room.issue(expire_time=now)
    if warm:
        for key in (plain, revoked, expired):
            await room.verifier.identify(key.text)
    assert await room.code(revoked) is VerdictCode.REVOKED
    assert await room.code(expired) is VerdictCode.EXPIRED
    assert await room.code(plain, ["orders:read"]) is VerdictCode.INSUFFICIENT_SCOPE
    assert await room.code(plain, caller=GLOBEX) is VerdictCode.NOT_FOUND
    assert await room.code(room.forge(plain)) is VerdictCode.NOT_FOUND
    assert await room.code("rubbish") is VerdictCode.NOT_FOUND
    assert await room.uses() == []


async def test_identify_is_not_a_use(room: Room) -> None:  # rule 23
    """Finding out which key a string is counts neither as a use nor as a verdict, whatever its state."""
    for key in (room.issue(), room.issue(revoke_time=room.clock.now), room.issue(owner_id="globex")):
        for _ in range(2):
            assert await room.verifier.identify(key.text) == room.credential_of(key)
    assert await room.verifier.identify("rubbish") is None
    assert await room.uses() == []
    assert not any(room.verifier.counts.values())


async def test_each_verdict_is_counted_once(room: Room) -> None:
    """Cold, warm, recalled or in a batch: one verdict, one count."""
    key, expired = room.issue(), room.issue(expire_time=room.clock.now)
    for presented in (key.text, key.text, expired.text, "rubbish"):
        await room.verifier.verify(ask(ACME), presented)
    room.verifier.recall(ask(ACME, ["orders:read"]), key.text)
    await room.verify_all(GLOBEX, [(key.text, (), ""), (room.issue().text, (), "")])
    assert {code.value: count for code, count in room.verifier.counts.items()} == {
        "VALID": 2,
        "NOT_FOUND": 3,
        "REVOKED": 0,
        "EXPIRED": 1,
        "INSUFFICIENT_SCOPE": 1,
        "DISABLED": 0,
    }


async def test_an_imported_secret_is_proved_at_its_cost(room: Room) -> None:
    """A hash of the dearer profile is proved like any other, and left as it is."""
    key = room.issue(cost=IMPORTED, origin=IMPORTED)
    assert await room.code(key) is VerdictCode.VALID
    assert (room.hasher.runs, room.store.replacements) == (1, [])


async def test_an_outage_is_no_verdict(room: Room) -> None:
    """A store out of reach is an error and never a verdict, counted as none."""
    room.store.fault = Unavailable("gone", reason="GONE", retry_after=1)
    with pytest.raises(Unavailable):
        await room.code(room.issue())
    assert not any(room.verifier.counts.values())


async def test_one_owner_does_not_fill_the_queues(room: Room) -> None:
    """Its callers have so many look-ups under way, also when they do not wait; others find room."""
    room.verifier._loader._max_loads_per_owner = 3
    cold = [room.issue() for _ in range(5)]
    pauses = [room.store.pause(key.prefix) for key in cold[:3]]
    waiting = [asyncio.create_task(room.verifier.verify(ask(ACME), key.text)) for key in cold[:3]]
    for pause in pauses:
        await pause.reached()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    with pytest.raises(Overloaded) as refused:
        await room.verifier.verify(ask(ACME), cold[3].text)
    assert refused.value.reason == "LOOK_UP_LIMIT"
    joined = asyncio.create_task(room.verifier.verify(ask(ACME), cold[0].text))
    assert await room.code(room.issue(owner_id="globex"), caller=GLOBEX) is VerdictCode.VALID
    assert await room.code(cold[4], caller=PLATFORM) is VerdictCode.VALID
    assert await room.code(cold[4]) is VerdictCode.VALID  # from memory
    for pause in pauses:
        pause.open()
    assert (await joined).code is VerdictCode.VALID
    assert await room.code(cold[3]) is VerdictCode.VALID
    for key in cold:
        assert await room.code(key) is VerdictCode.VALID
    assert not room.verifier._loader._loads
