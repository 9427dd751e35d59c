"""The idle end of a session: exact on every worker, although activity is written later."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.model.activity import GUARD, MAX_INTERVAL_SECONDS
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import Unavailable
from authsvc.model.key_string import KeyString
from authsvc.model.use import Use
from authsvc.model.verdict import NOT_FOUND, VerdictCode
from authsvc.verify.verifier import Question
from tests.verify.parts import ACME, GLOBEX, Parts, Pause, ask, at_once, make_parts

IDLE = timedelta(minutes=30)
TICK = timedelta(microseconds=1)
INTERVAL = timedelta(seconds=MAX_INTERVAL_SECONDS)
SESSION = ask(ACME, kind=CredentialKind.SESSION)
UNAVAILABLE = Unavailable("the database is gone", reason="GONE", retry_after=1)


@pytest.fixture
def other(parts: Parts) -> Iterator[Parts]:
    """A second worker on the same database."""
    furnished = make_parts(beside=parts)
    yield furnished
    furnished.hasher.close()


def recorded(parts: Parts, session_id: str = "ses_1") -> datetime:
    """Return the last activity that the database has."""
    return parts.activities.rows[session_id][0]


async def test_valid(parts: Parts) -> None:  # rules 20, 27
    """The right token is VALID and identifies its session, without argon2 and without a new hash."""
    token = parts.open_session(scopes=("orders:read",))
    code, credential, *_ = await parts.verifier.verify(SESSION, token.text)
    assert code is VerdictCode.VALID
    assert credential is not None
    assert (credential.credential_id, credential.kind) == ("ses_1", CredentialKind.SESSION)
    assert (parts.hasher.runs, parts.store.replacements) == (0, [])


async def test_a_hit_touches_memory_only(parts: Parts) -> None:
    """Until `GUARD` before the recorded end, a hit neither waits nor queries the database."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    for after in (timedelta(0), IDLE - GUARD - TICK):
        parts.clock.now = recorded(parts) + after
        assert at_once(parts.verifier.verify(SESSION, token.text)).code is VerdictCode.VALID
        recalled = parts.verifier.recall(SESSION, token.text)
        assert recalled is not None
        assert recalled.code is VerdictCode.VALID
    assert (len(parts.store.finds), parts.activities.asked) == (1, [])


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(
    ("after", "code"),
    [(-TICK, VerdictCode.VALID), (0 * TICK, VerdictCode.EXPIRED), (TICK, VerdictCode.EXPIRED)],
)
async def test_idle_ends_at_the_instant(
    parts: Parts, warm: bool, after: timedelta, code: VerdictCode
) -> None:  # rules 13, 27
    """EXPIRED from the moment that the timeout is over, also on a hit; VALID a microsecond before."""
    token = parts.open_session(idle_timeout=IDLE)
    if warm:
        await parts.session_code(token)
    parts.clock.now += IDLE + after
    assert await parts.session_code(token) is code


@pytest.mark.parametrize("lifetime", [IDLE / 2, IDLE, timedelta(days=1)], ids=str)
async def test_no_activity_outlives_the_lifetime(parts: Parts, lifetime: timedelta) -> None:  # rules 13, 27
    """After its lifetime a session is EXPIRED on a hit, without a query: activity does not matter then."""
    token = parts.open_session(idle_timeout=IDLE, lifetime=lifetime)
    end = parts.clock.now + lifetime
    while parts.clock.now < end:
        assert await parts.session_code(token) is VerdictCode.VALID
        await parts.activity.flush()
        parts.clock.now = min(parts.clock.now + IDLE / 3, end)
    parts.activities.asked.clear()
    verdict = at_once(parts.verifier.verify(SESSION, token.text))
    assert verdict.code is VerdictCode.EXPIRED
    assert parts.activities.asked == []


async def test_close_to_the_recorded_end_it_is_recorded_before_the_answer(parts: Parts) -> None:
    """From `GUARD` before it, VALID is answered when the activity is in the database; then from memory."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.clock.now += IDLE - GUARD
    assert parts.verifier.recall(SESSION, token.text) is None
    assert parts.activities.asked == []
    question = Question(CredentialKind.SESSION, ACME, (), "192.0.2.1", "curl/8")
    assert (await parts.verifier.verify(question, token.text)).code is VerdictCode.VALID
    assert recorded(parts) == parts.clock.now
    assert parts.activities.asked == ["record ses_1"]
    assert at_once(parts.verifier.verify(SESSION, token.text)).code is VerdictCode.VALID
    assert parts.activities.asked == ["record ses_1"]


async def test_all_other_activity_is_written_behind(parts: Parts) -> None:  # rule 23
    """For any number of verifications, a flush writes the last one, with its address and user agent."""
    token = parts.open_session()
    for second in range(10):
        parts.clock.now += timedelta(seconds=1)
        question = Question(CredentialKind.SESSION, ACME, (), f"192.0.2.{second}", "curl/8")
        await parts.verifier.verify(question, token.text)
    written: list[Use] = []

    async def record_uses(uses: list[Use]) -> None:
        written.extend(uses)

    parts.activities.record_uses = record_uses  # type: ignore[assignment, method-assign]
    await parts.activity.flush()
    assert written == [Use("ses_1", parts.clock.now, "192.0.2.9", "curl/8")]
    assert parts.activities.asked == []
    assert await parts.uses() == []


async def test_a_worker_that_knows_less_asks(parts: Parts, other: Parts) -> None:
    """Activity written by another worker counts: after its known end, a worker queries and answers VALID."""
    token = parts.open_session(idle_timeout=IDLE)
    for worker in (parts, other):
        await worker.session_code(token)
    parts.clock.now += IDLE - GUARD - TICK
    assert await other.session_code(token) is VerdictCode.VALID
    await other.activity.flush()
    parts.clock.now += GUARD + 2 * TICK
    assert await parts.session_code(token) is VerdictCode.VALID
    assert parts.activities.asked == ["find ses_1"]
    assert at_once(parts.verifier.verify(SESSION, token.text)).code is VerdictCode.VALID


async def test_a_worker_that_knows_less_does_not_lag(parts: Parts, other: Parts) -> None:
    """Near the recorded end it records the activity first, even if it has only just learned of that end."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.clock.now += timedelta(minutes=1)
    await other.session_code(token)
    await other.activity.flush()
    parts.clock.now += IDLE - TICK
    assert await parts.session_code(token) is VerdictCode.VALID
    assert parts.activities.asked == ["find ses_1", "record ses_1"]
    parts.clock.now += IDLE - TICK
    assert await other.session_code(token) is VerdictCode.VALID


@pytest.mark.parametrize("after", [IDLE - GUARD, IDLE - TICK, IDLE, 2 * IDLE], ids=str)
async def test_without_the_database_nothing_is_said_of_the_end(parts: Parts, after: timedelta) -> None:
    """Neither EXPIRED, since others may know better, nor VALID, on which others could not rely."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.clock.now += after
    parts.activities.fault = UNAVAILABLE
    for _ in range(2):
        with pytest.raises(Unavailable):
            await parts.session_code(token)
    parts.activities.fault = None
    code = VerdictCode.VALID if after < IDLE else VerdictCode.EXPIRED
    assert await parts.session_code(token) is code


async def test_before_that_memory_outlives_the_database(parts: Parts) -> None:
    """A hit that needs no query is answered while the database is unreachable."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.activities.fault = parts.store.fault = UNAVAILABLE
    parts.clock.now += IDLE - GUARD - TICK
    assert await parts.session_code(token) is VerdictCode.VALID


async def test_what_the_database_ended_stays_over(parts: Parts) -> None:  # rule 16
    """It is not queried again, and no clock that is set back makes the session active again."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.clock.now += IDLE
    assert await parts.session_code(token) is VerdictCode.EXPIRED
    assert parts.activities.asked == ["find ses_1"]
    parts.activities.fault = UNAVAILABLE
    for after in (TICK, IDLE, -IDLE):
        parts.clock.now += after
        assert at_once(parts.verifier.verify(SESSION, token.text)).code is VerdictCode.EXPIRED


async def test_a_session_that_is_gone_is_over(parts: Parts) -> None:
    """One that is not in the database any more is not alive, whatever this worker remembers."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    del parts.activities.rows["ses_1"]
    parts.clock.now += IDLE
    assert await parts.session_code(token) is VerdictCode.EXPIRED


async def test_what_others_were_told_is_over_is_not_revived(parts: Parts, other: Parts) -> None:  # rule 16
    """An activity that is written too late does not revive a session that another worker reported EXPIRED."""
    token = parts.open_session(idle_timeout=IDLE)
    for worker in (parts, other):
        await worker.session_code(token)
    parts.clock.now += IDLE - GUARD - TICK
    assert await other.session_code(token) is VerdictCode.VALID
    parts.clock.now += GUARD + TICK
    assert await parts.session_code(token) is VerdictCode.EXPIRED
    await other.activity.flush()
    assert await other.session_code(token) is VerdictCode.EXPIRED
    assert await parts.session_code(token) is VerdictCode.EXPIRED


@pytest.mark.parametrize("after", [timedelta(0), IDLE - GUARD - TICK, IDLE - GUARD, IDLE - TICK], ids=str)
async def test_insufficient_scope_is_no_activity(parts: Parts, after: timedelta) -> None:  # rule 23
    """A session that lacks the scope was not used: nothing is recorded, and its end does not move."""
    token = parts.open_session(scopes=("orders:write",), idle_timeout=IDLE)
    start = parts.clock.now
    parts.clock.now += after
    for _ in range(2):
        assert await parts.session_code(token, ["orders:read"]) is VerdictCode.INSUFFICIENT_SCOPE
    await parts.activity.flush()
    assert (recorded(parts), parts.activities.asked) == (start, [])
    parts.clock.now = start + IDLE
    assert await parts.session_code(token, ["orders:read"]) is VerdictCode.EXPIRED


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("after", [timedelta(0), IDLE - TICK, IDLE], ids=str)
async def test_a_stranger_is_told_nothing(
    parts: Parts, warm: bool, after: timedelta
) -> None:  # rules 19, 21, 27
    """A wrong secret, another owner's caller, the wrong kind: NOT_FOUND, and no activity, dead or alive."""
    token = parts.open_session(idle_timeout=IDLE)
    if warm:
        await parts.session_code(token)
    start = recorded(parts)
    parts.clock.now += after
    forged = parts.forge(token)
    assert await parts.verifier.verify(SESSION, forged.text) == NOT_FOUND
    foreign = ask(GLOBEX, kind=CredentialKind.SESSION)
    assert await parts.verifier.verify(foreign, token.text) == NOT_FOUND
    assert await parts.verifier.verify(ask(ACME), token.text) == NOT_FOUND
    key = parts.issue()
    assert await parts.verifier.verify(SESSION, key.text) == NOT_FOUND
    await parts.activity.flush()
    assert (recorded(parts), parts.activities.asked) == (start, [])
    assert await parts.uses() == []


async def test_a_clock_that_is_set_back_takes_no_activity_back(parts: Parts) -> None:
    """The end counts from the latest activity that was seen."""
    token = parts.open_session(idle_timeout=IDLE)
    start = parts.clock.now
    parts.clock.now += timedelta(minutes=10)
    await parts.session_code(token)
    parts.clock.now -= timedelta(minutes=5)
    await parts.session_code(token)
    await parts.activity.flush()
    assert recorded(parts) == start + timedelta(minutes=10)


async def test_a_revocation_meanwhile_wins(parts: Parts) -> None:  # rule 15
    """A session that is revoked and forgotten while its activity is being recorded is REVOKED."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.clock.now += IDLE - TICK
    record = parts.activities.record_activity

    async def revoke_meanwhile(use: Use) -> datetime | None:
        last = await record(use)
        parts.change(token, revoke_time=parts.clock.now)
        parts.cache.forget([token.prefix])
        return last

    parts.activities.record_activity = revoke_meanwhile  # type: ignore[method-assign]
    assert await parts.session_code(token) is VerdictCode.REVOKED


async def test_the_lease_is_checked_after_the_question(parts: Parts) -> None:  # R4
    """A worker whose lease ends while the database is asked does not answer."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.clock.now += IDLE - TICK
    record = parts.activities.record_activity

    async def lose_the_lease(use: Use) -> datetime | None:
        parts.lease.end("this worker has stopped")
        return await record(use)

    parts.activities.record_activity = lose_the_lease  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await parts.session_code(token)


async def test_judged_when_answered(parts: Parts) -> None:  # rule 13
    """A lifetime that ends while the activity is being recorded makes the answer EXPIRED."""
    token = parts.open_session(idle_timeout=IDLE, lifetime=IDLE)
    await parts.session_code(token)
    parts.clock.now += IDLE - TICK
    record = parts.activities.record_activity

    async def take_a_while(use: Use) -> datetime | None:
        last = await record(use)
        parts.clock.now += TICK
        return last

    parts.activities.record_activity = take_a_while  # type: ignore[method-assign]
    assert await parts.session_code(token) is VerdictCode.EXPIRED


async def test_many_at_once_close_to_the_end(parts: Parts) -> None:
    """All concurrent verifications of one session share one answer."""
    token = parts.open_session(idle_timeout=IDLE)
    await parts.session_code(token)
    parts.clock.now += IDLE - TICK
    codes = await asyncio.gather(*(parts.session_code(token) for _ in range(20)))
    assert set(codes) == {VerdictCode.VALID}
    assert recorded(parts) == parts.clock.now
    assert parts.activities.asked == ["record ses_1"]


class Step(NamedTuple):
    """A time, and what one of the workers does then."""

    moment: str
    after: timedelta
    worker: int
    act: str


# The ends are the true one, the one in the database, and the beginning of its guard.
_STEPS = st.builds(
    Step,
    st.sampled_from(["now", "now", "end", "recorded end", "guard"]),
    st.one_of(
        st.sampled_from([-TICK, 0 * TICK, TICK]),
        st.timedeltas(timedelta(0), timedelta(seconds=90)),
    ),
    st.integers(0, 1),
    st.sampled_from(["verify", "verify", "verify", "flush", "lack", "forget"]),
)


class Course:
    """Two workers on one database, each of which flushes at least every `MAX_INTERVAL_SECONDS`."""

    def __init__(self, workers: list[Parts], idle_timeout: timedelta, phases: list[timedelta]) -> None:
        self.workers = workers
        self.clock = workers[0].clock
        self.idle_timeout = idle_timeout
        self.token: KeyString = workers[0].open_session(idle_timeout=idle_timeout, lifetime=20 * idle_timeout)
        self.last = self.clock.now
        self.end = self.clock.now + 20 * idle_timeout
        self.is_over = False
        self.due = [self.clock.now + phase for phase in phases]

    async def flush(self, number: int) -> None:
        await self.workers[number].activity.flush()
        self.due[number] = self.clock.now + INTERVAL

    async def wait_until(self, instant: datetime) -> None:
        while min(self.due) <= instant:
            self.clock.now = max(min(self.due), self.clock.now)
            await self.flush(self.due.index(min(self.due)))
        self.clock.now = max(instant, self.clock.now)

    async def take(self, step: Step) -> None:
        worker = self.workers[step.worker]
        known = recorded(worker) + self.idle_timeout
        moments = {
            "now": self.clock.now,
            "end": self.last + self.idle_timeout,
            "recorded end": known,
            "guard": known - GUARD,
        }
        await self.wait_until(moments[step.moment] + step.after)
        match step.act:
            case "verify":
                assert await worker.session_code(self.token) is self.verdict(VerdictCode.VALID)
                if not self.is_over:
                    self.last = self.clock.now
            case "lack":
                verdict = self.verdict(VerdictCode.INSUFFICIENT_SCOPE)
                assert await worker.session_code(self.token, ["orders:read"]) is verdict
            case "flush":
                await self.flush(step.worker)
            case "forget":
                worker.cache.clear()

    def verdict(self, alive: VerdictCode) -> VerdictCode:
        """Return what is true: by the last activity on any worker, exact, and permanently."""
        self.is_over |= self.clock.now >= min(self.last + self.idle_timeout, self.end)
        return VerdictCode.EXPIRED if self.is_over else alive


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([timedelta(seconds=seconds) for seconds in (60, 61, 75, 90, 600)]),
    st.lists(st.timedeltas(timedelta(0), INTERVAL), min_size=2, max_size=2),
    st.lists(_STEPS, min_size=5, max_size=30),
)
async def test_never_early_never_late(
    idle_timeout: timedelta, phases: list[timedelta], steps: list[Step]
) -> None:  # rules 13, 27
    """Whatever two workers see, and whenever they write it, each answers by the true last activity."""
    first = make_parts()
    second = make_parts(beside=first)
    try:
        course = Course([first, second], idle_timeout, phases)
        for step in steps:
            await course.take(step)
    finally:
        first.hasher.close()
        second.hasher.close()


async def test_a_slow_record_revives_nothing(parts: Parts, other: Parts) -> None:  # rule 16
    """A client that got EXPIRED stays right: an activity that took too long to record is EXPIRED, too."""
    token = parts.open_session(idle_timeout=IDLE)
    for worker in (parts, other):
        assert await worker.session_code(token) is VerdictCode.VALID
    pause = Pause()
    record = parts.activities.record_activity

    async def slowly(use: Use) -> datetime | None:
        await pause.here()
        return await record(use)

    parts.clock.now += IDLE - TICK
    with patch.object(parts.activities, "record_activity", slowly):
        slow = asyncio.create_task(parts.session_code(token))
        await pause.reached()
        parts.clock.now += TICK
        assert await other.session_code(token) is VerdictCode.EXPIRED
        pause.open()
        assert await slow is VerdictCode.EXPIRED
    for worker in (parts, other):
        assert await worker.session_code(token) is VerdictCode.EXPIRED
