"""Credits of keys: exact for all workers, refilled by calendar months, given back once for each refund."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio

from authsvc.model.errors import Unavailable
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, MovedStopwatch, Service, serving
from tests.rpc.budget_time import BudgetTime
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_rate_limits import advance, budget_time, code, counted, limit, stopwatch, verify
from tests.rpc.test_update import make, update

__all__ = ["budget_time", "stopwatch"]

NOT_FOUND, DENIED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED
PRECONDITION, INVALID = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
EXISTS = grpc.StatusCode.ALREADY_EXISTS


def some(remaining: int | None = None, refill: tuple[int, int] | None = None) -> resources_pb2.Credits:
    message = resources_pb2.Credits(remaining=remaining)
    if refill is not None:
        message.refill.amount, message.refill.day_of_month = refill
    return message


async def orders(service: Service, **fields: Any) -> Any:
    return await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["orders:read"], **fields)


async def account(database_url: str, key_id: str) -> tuple[int, int]:
    """Return what the database says remains, and what was spent."""
    connection = await asyncpg.connect(database_url)
    try:
        row = await connection.fetchrow(
            "SELECT remaining, spent FROM authsvc.credit_accounts WHERE account_id = $1", key_id
        )
    finally:
        await connection.close()
    assert row is not None
    return row["remaining"], row["spent"]


@pytest_asyncio.fixture
async def service(
    database_url: str, clock: Clock, stopwatch: MovedStopwatch, budget_time: BudgetTime
) -> AsyncIterator[Service]:
    async with serving(database_url, clock) as running:
        # Not that of the whole worker, whose lease would be over.
        budgets, accounts = running.app.budgets, running.app.credit_accounts
        budgets._stopwatch = budgets._store._stopwatch = stopwatch  # type: ignore[attr-defined]
        accounts._stopwatch = accounts._store._stopwatch = stopwatch  # type: ignore[attr-defined]
        yield running


@pytest_asyncio.fixture
async def three(database_url: str, budget_time: BudgetTime) -> AsyncIterator[list[Service]]:
    """Three workers on one database."""
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(serving(database_url, None, lease=60)) for _ in range(3)]
        for other in workers[1:]:
            other.admin_key = workers[0].admin_key
        yield workers


async def test_credits_are_spent_one_by_one(service: Service) -> None:
    """Answers say what remains. What is refused takes nothing, and a cost of 0 only asks."""
    made = await make(service, credits=some(5))
    assert (made.key.credits.remaining, made.key.credits.HasField("refill")) == (5, False)
    for left in (4, 3):
        verdict = await verify(service, made.key_string)
        assert (verdict.valid, verdict.credits_remaining) == (True, left)
    verdict = await verify(service, made.key_string, cost=4)
    assert (verdict.code, verdict.valid) == (resources_pb2.VERDICT_CODE_CREDITS_EXHAUSTED, False)
    assert (verdict.key_id, verdict.credits_remaining) == (made.key.key_id, 3)
    assert not verdict.HasField("retry_after"), "without a refill, no wait helps"
    assert (await verify(service, made.key_string, cost=3)).credits_remaining == 0
    for _ in range(2):
        verdict = await verify(service, made.key_string, cost=0)
        assert (verdict.valid, verdict.HasField("credits_remaining"), verdict.credits_remaining) == (
            True,
            True,
            0,
        )
    assert await code(service, made.key_string) == "CREDITS_EXHAUSTED"
    assert (await service.admin.GetKey(key_id=made.key.key_id)).credits.remaining == 0


async def test_three_workers_spend_exactly_what_there_is(three: list[Service], database_url: str) -> None:
    """Calls at the same time, by VerifyKey and in batches, for few credits and for many."""
    for units, calls in ((10, 20), (250, 150)):
        made = await make(three[0], credits=some(units))
        batch = [{"key_string": made.key_string}] * 20
        single = [code(each, made.key_string) for each in three for _ in range(calls)]
        batches = [each.admin.BatchVerifyKeys(requests=batch) for each in three]
        *codes, first, second, third = await asyncio.gather(*single, *batches)
        found = Counter(codes)
        for answer in (first, second, third):
            for each in answer.responses:
                found[resources_pb2.VerdictCode.Name(each.code).removeprefix("VERDICT_CODE_")] += 1
        assert set(found) == {"VALID", "CREDITS_EXHAUSTED"}
        for each in three:
            await each.app.credit_accounts.give_back(everything=True)
        remaining, spent = await account(database_url, made.key.key_id)
        assert (found["VALID"], found["VALID"] + remaining) == (spent, units)
        if units == 10:
            assert remaining == 0, "of few credits, nobody holds any in advance"


async def test_credits_are_borrowed_in_slices_and_given_back(
    service: Service, budget_time: BudgetTime, stopwatch: MovedStopwatch, database_url: str
) -> None:
    """A hundredth, at most a thousand. What is not used within a second comes back."""
    made = await make(service, credits=some(5000))
    before = service.app.credit_accounts.loans.outcomes["granted"]
    assert await counted(service, made.key_string, 50) == {"VALID": 50}
    assert service.app.credit_accounts.loans.outcomes["granted"] == before + 1
    assert await account(database_url, made.key.key_id) == (4950, 50)
    await verify(service, made.key_string)
    assert await account(database_url, made.key.key_id) == (4901, 99)
    await advance(budget_time, stopwatch, 1)
    await service.app.credit_accounts.give_back()
    assert await account(database_url, made.key.key_id) == (4949, 51)
    rich = await make(service, credits=some(1_000_000))
    await verify(service, rich.key_string)
    assert await account(database_url, rich.key.key_id) == (999_000, 1000)
    # A worker that stops gives back what it holds; one that dies cannot.
    await service.app.credit_accounts.give_back(everything=True)
    assert await account(database_url, rich.key.key_id) == (999_999, 1)


@pytest.mark.parametrize(
    ("now", "day", "due"),
    [
        ("2026-11-21T12:00", 1, "2026-12-01"),
        ("2026-11-21T12:00", 21, "2026-12-21"),
        ("2026-11-21T12:00", 22, "2026-11-22"),
        ("2026-11-21T12:00", 31, "2026-11-30"),
        ("2026-12-31T00:00", 31, "2027-01-31"),
        ("2027-01-31T00:00", 31, "2027-02-28"),
        ("2027-01-30T12:00", 29, "2027-02-28"),
        ("2028-01-31T00:00", 30, "2028-02-29"),
        ("2028-02-28T23:59", 29, "2028-02-29"),
        ("2028-02-29T00:00", 29, "2028-03-29"),
        ("2028-02-29T00:00", 31, "2028-03-31"),
    ],
)
async def test_the_next_refill(
    service: Service, budget_time: BudgetTime, now: str, day: int, due: str
) -> None:
    """The next such day at 00:00 UTC, or the last day of a month without it."""
    moment = datetime.fromisoformat(f"{now}Z")
    await budget_time.set((moment - budget_time.now).total_seconds())
    made = await make(service, credits=some(1, (10, day)))
    refill_time = made.key.credits.refill.refill_time.ToDatetime(tzinfo=UTC)
    assert refill_time == datetime.fromisoformat(f"{due}T00:00Z")


async def test_a_refill_sets_what_remains(
    service: Service, budget_time: BudgetTime, stopwatch: MovedStopwatch
) -> None:
    """At the month's end, also after months without a call. Nothing is carried over, or done twice."""
    made = await make(service, credits=some(refill=(3, 31)))
    assert made.key.credits.remaining == 3
    assert await counted(service, made.key_string, 4) == {"VALID": 3, "CREDITS_EXHAUSTED": 1}
    until = (datetime(2026, 11, 30, tzinfo=UTC) - budget_time.now).total_seconds()
    verdict = await verify(service, made.key_string)
    assert verdict.retry_after.ToTimedelta().total_seconds() == pytest.approx(until, abs=2)
    assert not (await verify(service, made.key_string, cost=4)).HasField("retry_after")
    await advance(budget_time, stopwatch, until - 1)
    assert await code(service, made.key_string) == "CREDITS_EXHAUSTED"
    await advance(budget_time, stopwatch, 1)
    assert await counted(service, made.key_string, 2) == {"VALID": 2}
    await advance(budget_time, stopwatch, 100 * 86_400)  # 10 March; the one left is not added
    assert (await service.admin.GetKey(key_id=made.key.key_id)).credits.remaining == 3
    assert await counted(service, made.key_string, 4) == {"VALID": 3, "CREDITS_EXHAUSTED": 1}
    # The clock of the database is set back over the refill, and goes over it again.
    await advance(budget_time, stopwatch, -20 * 86_400)
    stopwatch.advance(40 * 86_400)
    assert await code(service, made.key_string) == "CREDITS_EXHAUSTED"
    await advance(budget_time, stopwatch, 20 * 86_400)
    assert await code(service, made.key_string) == "CREDITS_EXHAUSTED"


async def test_what_was_borrowed_before_a_refill_is_not_added_to_it(
    service: Service, budget_time: BudgetTime, stopwatch: MovedStopwatch, database_url: str
) -> None:
    """A slice of the old month that comes back late is gone."""
    made = await make(service, credits=some(1000, (1000, 1)))
    await verify(service, made.key_string)
    assert await account(database_url, made.key.key_id) == (990, 10)
    await budget_time.set(30 * 86_400)
    other = service.app.credit_accounts
    assert (await verify(service, made.key_string, cost=20)).credits_remaining == 980
    await other.give_back(everything=True)
    assert await account(database_url, made.key.key_id) == (980, 20)


async def test_the_order_of_verdicts(
    service: Service, budget_time: BudgetTime, stopwatch: MovedStopwatch
) -> None:
    """Without credits, nothing is taken from limits; beyond a limit, no credits. The limit is told first."""
    made = await orders(service, credits=some(0), rate_limits=[limit("few", 2)])
    assert await counted(service, made.key_string, 5) == {"CREDITS_EXHAUSTED": 5}
    verdict = await verify(service, made.key_string)
    assert verdict.rate_limits[0].remaining == 2
    assert await code(service, made.key_string, cost=3) == "RATE_LIMITED"
    assert await code(service, made.key_string, required_scopes=["orders:write"]) == "INSUFFICIENT_SCOPE"
    await update(service, made.key.key_id, "credits", credits=some(5))
    assert await counted(service, made.key_string, 5) == {"VALID": 2, "RATE_LIMITED": 3}
    assert (await verify(service, made.key_string, cost=0)).credits_remaining == 3
    await advance(budget_time, stopwatch, 3600)
    assert await code(service, made.key_string, cost=2) == "VALID"
    # Both are reached: also a worker that knows neither tells the limit.
    await update(service, made.key.key_id, "credits", credits=some(0))
    assert await code(service, made.key_string) == "RATE_LIMITED"
    await service.admin.DisableKey(key_id=made.key.key_id)
    assert await code(service, made.key_string) == "DISABLED"
    wrong = made.key_string[:-9] + ("a" if made.key_string[-9] != "a" else "b") + made.key_string[-8:]
    assert (await verify(service, wrong)) == await verify(service, "eg_live_x")


async def test_batches_with_limits_and_credits(service: Service, database_url: str) -> None:
    """Each item takes from both or from none."""
    made = await make(service, credits=some(10), rate_limits=[limit("few", 4)])
    requests = [{"key_string": made.key_string, "cost": cost} for cost in (0, 1, 3, 1, 5, 0)]
    answer = await service.admin.BatchVerifyKeys(requests=requests)
    assert [each.valid for each in answer.responses] == [True, True, True, False, False, True]
    await service.app.credit_accounts.give_back(everything=True)
    assert await account(database_url, made.key.key_id) == (6, 4)
    # A batch that wants more than what is known to be left gets that.
    answer = await service.admin.BatchVerifyKeys(requests=[{"key_string": made.key_string}] * 3)
    assert {each.code for each in answer.responses} == {resources_pb2.VERDICT_CODE_RATE_LIMITED}
    plain = await make(service, credits=some(5))
    assert (await verify(service, plain.key_string, cost=2)).credits_remaining == 3
    answer = await service.admin.BatchVerifyKeys(requests=[{"key_string": plain.key_string}] * 6)
    assert [each.valid for each in answer.responses] == [True] * 3 + [False] * 3
    poor = await make(service, credits=some(2), rate_limits=[limit("many", 100)])
    answer = await service.admin.BatchVerifyKeys(requests=[{"key_string": poor.key_string}] * 5)
    assert Counter(each.code for each in answer.responses) == {
        resources_pb2.VERDICT_CODE_VALID: 2,
        resources_pb2.VERDICT_CODE_CREDITS_EXHAUSTED: 3,
    }
    assert answer.responses[4].rate_limits[0].remaining == 98


async def test_an_update_holds_at_once(three: list[Service], database_url: str) -> None:
    """What workers have borrowed before is gone when UpdateKey answers, and is not added later."""
    made = await make(three[0], credits=some(10_000))
    for each in three:
        assert await code(each, made.key_string) == "VALID"
    await update(three[1], made.key.key_id, "credits", credits=some(2))
    codes = Counter([await code(each, made.key_string) for each in three for _ in range(3)])
    assert codes == {"VALID": 2, "CREDITS_EXHAUSTED": 7}
    for each in three:
        await each.app.credit_accounts.give_back(everything=True)
    assert await account(database_url, made.key.key_id) == (0, 2)
    # Without `remaining`, only the refill changes.
    changed = await update(three[2], made.key.key_id, "credits", credits=some(refill=(7, 15)))
    assert (changed.credits.remaining, changed.credits.refill.amount) == (0, 7)
    assert await account(database_url, made.key.key_id) == (0, 2)
    unlimited = await update(three[0], made.key.key_id, "credits")
    assert not unlimited.HasField("credits")
    for each in three:
        verdict = await verify(each, made.key_string)
        assert (verdict.valid, verdict.HasField("credits_remaining")) == (True, False)


async def test_keys_that_are_rotated_share_their_credits(
    service: Service, database_url: str, clock: Clock
) -> None:
    """Also with a later successor, and when the first one is deleted. Nobody gets new ones by a rotation."""
    made = await make(service, credits=some(5))
    rotated = await service.admin.RotateKey(key_id=made.key.key_id, grace_period={"seconds": 3600})
    assert rotated.key.credits.remaining == 5
    assert await code(service, made.key_string, cost=2) == "VALID"
    assert await code(service, rotated.key_string, cost=4) == "CREDITS_EXHAUSTED"
    latest = await service.admin.RotateKey(key_id=rotated.key.key_id)
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)
    await service.app.purge.step()
    assert await counted(service, latest.key_string, 4) == {"VALID": 3, "CREDITS_EXHAUSTED": 1}
    refunded = await service.admin.RefundCredits(key_id=latest.key.key_id, amount=5, refund_id="all")
    assert refunded.credits.remaining == 5
    for key_id in (rotated.key.key_id, latest.key.key_id):
        if key_id == latest.key.key_id:
            await service.admin.RevokeKey(key_id=key_id)
        await service.admin.DeleteKey(key_id=key_id)
    clock.advance(hours=2)
    await service.app.purge.step()
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM authsvc.credit_accounts") == 0
    await connection.close()


async def test_refunds(service: Service, database_url: str, clock: Clock) -> None:
    """Once for each id, and never more than was spent since the credits were set or refilled."""
    made = await make(service, credits=some(10))
    key_id = made.key.key_id
    assert await code(service, made.key_string, cost=6) == "VALID"
    refund = service.admin.RefundCredits
    answers = await asyncio.gather(*(refund(key_id=key_id, amount=2, refund_id="r1") for _ in range(5)))
    assert {each.credits.remaining for each in answers} == {6}
    with refused(EXISTS, "REFUND_REPEATED"):
        await refund(key_id=key_id, amount=3, refund_id="r1")
    with refused(PRECONDITION, "REFUND_EXCEEDS_SPENT"):
        await refund(key_id=key_id, amount=5, refund_id="r2")
    outcomes = await asyncio.gather(
        *(refund(key_id=key_id, amount=3, refund_id=f"race{number}") for number in range(4)),
        return_exceptions=True,
    )
    assert sum(not isinstance(each, BaseException) for each in outcomes) == 1
    assert await account(database_url, key_id) == (9, 1)
    await update(service, key_id, "credits", credits=some(20))
    with refused(PRECONDITION, "REFUND_EXCEEDS_SPENT"):
        await refund(key_id=key_id, amount=1, refund_id="r3")
    events = await service.admin.ListAuditEvents(owner_id="acme", filter={"target_id": key_id})
    told = [dict(each.details) for each in events.events if each.action == 24]
    assert len(told) == 2
    assert {"amount": "2", "refund_id": "r1"} in told
    # Forgotten after 30 days.
    clock.advance(days=31)
    await service.app.purge.step()
    with refused(PRECONDITION, "REFUND_EXCEEDS_SPENT"):
        await refund(key_id=key_id, amount=2, refund_id="r1")


async def test_what_is_lent_cannot_be_refunded_twice(service: Service, database_url: str) -> None:
    """Slices count as spent. When they come back after a refund, no credit is made of nothing."""
    made = await make(service, credits=some(1000))
    await verify(service, made.key_string)
    await service.admin.RefundCredits(key_id=made.key.key_id, amount=10, refund_id="all")
    await service.app.credit_accounts.give_back(everything=True)
    assert await account(database_url, made.key.key_id) == (1000, 0)


async def test_refunds_that_are_refused(service: Service) -> None:
    """Other owners' keys are not found; who lacks a scope of the key, or credits, is told."""
    made = await orders(service, credits=some(3))
    await verify(service, made.key_string)
    asked = {"key_id": made.key.key_id, "amount": 1, "refund_id": "x"}
    for owner_id, scopes, status, reason in (
        ("other", ["keys:write", "orders:read"], NOT_FOUND, "KEY_NOT_FOUND"),
        ("acme", ["keys:write"], DENIED, "SCOPE_NOT_GRANTABLE"),
        ("acme", ["keys:verify"], DENIED, "SCOPE_MISSING"),
    ):
        caller = await service.admin.CreateKey(owner_id=owner_id, display_name="x", scopes=scopes)
        with refused(status, reason):
            await service.admin.with_key(caller.key_string).RefundCredits(**asked)
    plain = await make(service)
    with refused(PRECONDITION, "KEY_HAS_NO_CREDITS"):
        await service.admin.RefundCredits(key_id=plain.key.key_id, amount=1, refund_id="x")
    for field in ({"amount": 0}, {"amount": -1}, {"refund_id": ""}, {"refund_id": "a b"}, {"key_id": ""}):
        with refused(INVALID, "INVALID_FIELD"):
            await service.admin.RefundCredits(**asked | field)
    caller = await service.admin.CreateKey(
        owner_id="acme", display_name="x", scopes=["keys:write", "orders:read"]
    )
    assert (await service.admin.with_key(caller.key_string).RefundCredits(**asked)).credits.remaining == 3


async def test_who_may_give_and_take_credits(service: Service) -> None:
    """Whoever manages keys takes credits away; only who has all scopes of the key gives more."""
    made = await orders(service, credits=some(10, (10, 1)))
    manager = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:write"])
    caller = service.admin.with_key(manager.key_string)

    async def change(wanted: resources_pb2.Credits | None) -> Any:
        key = resources_pb2.Key(key_id=made.key.key_id, credits=wanted)
        return await caller.UpdateKey(key=key, update_mask={"paths": ["credits"]})

    for wanted in (None, some(11, (10, 1)), some(10, (11, 1)), some(10, (10, 2))):
        with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
            await change(wanted)
    assert (await change(some(9, (8, 1)))).credits.remaining == 9
    assert not (await change(some(9))).credits.HasField("refill")
    with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
        await change(some(9, (1, 1)))
    with refused(INVALID, "INVALID_FIELD"):
        await make(service, credits=some())
    for wrong in (
        some(-1),
        some(10**12 + 1),
        some(1, (0, 1)),
        some(1, (1, 0)),
        some(1, (1, 32)),
    ):
        with refused(INVALID, "INVALID_FIELD"):
            await make(service, credits=wrong)
    await set_policy(service, key_edits="KEY_EDITS_DETAILS")
    with refused(PRECONDITION, "KEY_EDIT_NOT_ALLOWED"):
        await change(some(1))


async def test_who_may_change_the_credits_of_a_key_that_another_key_shares(service: Service) -> None:
    """What a key without credits gets is what its successor has, so it takes the scopes as well."""
    made = await orders(service)
    rotated = await service.admin.RotateKey(key_id=made.key.key_id, grace_period={"seconds": 3600})
    await update(service, rotated.key.key_id, "credits", credits=some(100, (100, 1)))
    manager = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:write"])
    caller = service.admin.with_key(manager.key_string)
    for wanted in (some(10**12), some(101), some(100, (101, 1)), some(100, (100, 2))):
        key = resources_pb2.Key(key_id=made.key.key_id, credits=wanted)
        with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
            await caller.UpdateKey(key=key, update_mask={"paths": ["credits"]})
    key = resources_pb2.Key(key_id=made.key.key_id, credits=some(99, (100, 1)))
    await caller.UpdateKey(key=key, update_mask={"paths": ["credits"]})
    for key_id in (made.key.key_id, rotated.key.key_id):
        assert (await service.admin.GetKey(key_id=key_id)).credits.remaining == 99


async def test_the_same_number_again_is_a_change_if_some_were_taken(
    three: list[Service], database_url: str
) -> None:
    """`remaining` is what there is from now on, without what workers have borrowed before."""
    made = await make(three[0], credits=some(10_000))
    for each in three:
        assert await code(each, made.key_string) == "VALID"
    before = await three[0].admin.GetKey(key_id=made.key.key_id)
    again = await update(three[0], made.key.key_id, "credits", credits=some(before.credits.remaining))
    assert again.etag != before.etag
    for each in three:
        await each.app.credit_accounts.give_back(everything=True)
    assert await account(database_url, made.key.key_id) == (before.credits.remaining, 0)
    # Now it is no change.
    once_more = await update(three[0], made.key.key_id, "credits", credits=some(before.credits.remaining))
    assert once_more.etag == again.etag


async def test_one_high_cost_keeps_nothing_from_others(three: list[Service], database_url: str) -> None:
    """A worker borrows for the costs that can be paid, and a hundredth in advance only if all can."""
    made = await make(three[0], credits=some(1_000))
    asked = [{"key_string": made.key_string, "cost": cost} for cost in (1, 4_000_000_000)]
    answer = await three[0].admin.BatchVerifyKeys(requests=asked)
    assert [each.valid for each in answer.responses] == [True, False]
    assert await account(database_url, made.key.key_id) == (999, 1)
    assert await code(three[1], made.key_string, cost=999) == "VALID"


async def test_without_the_database(
    service: Service, stopwatch: MovedStopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker holds is used; then the key is UNAVAILABLE. A cost of 0 is answered, without a number."""
    made = await make(service, credits=some(1000))
    assert (await verify(service, made.key_string)).credits_remaining == 999

    async def cut_off(*_: object) -> None:
        raise Unavailable("no database", reason="DATABASE_UNAVAILABLE", retry_after=1)

    store = service.app.credit_accounts._store
    monkeypatch.setattr(store, "borrow", cut_off)
    monkeypatch.setattr(store, "give_back", cut_off)
    assert await counted(service, made.key_string, 9) == {"VALID": 9}
    with refused(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
        await verify(service, made.key_string)
    stopwatch.advance(2)
    verdict = await verify(service, made.key_string, cost=0)
    assert (verdict.valid, verdict.HasField("credits_remaining")) == (True, False)
    assert service.app.credit_accounts.loans.outcomes["failed"] == 2
    monkeypatch.undo()
    assert await code(service, made.key_string) == "VALID"
    monkeypatch.setattr(store, "give_back", cut_off)
    with pytest.raises(Unavailable):
        await service.app.credit_accounts.give_back(everything=True)
    # They may have come back, so they are not given back again.
    assert (service.app.credit_accounts.held, service.app.credit_accounts.lost) == (0, 8)


async def test_the_credits_of_a_key_with_a_hash_of_its_own(service: Service) -> None:
    """A key whose string the client has made has the rate limits and credits that it was created with."""
    text = "own-key-string-with-enough-random-bits-7f3a9c"
    made = await make(
        service,
        key_hash="sha256:" + sha256(text.encode()).hexdigest(),
        credits=some(2),
        rate_limits=[limit("few", 3)],
    )
    assert (made.key.credits.remaining, made.key.rate_limits[0].limit) == (2, 3)
    assert await counted(service, text, 3) == {"VALID": 2, "CREDITS_EXHAUSTED": 1}
    assert (await service.admin.GetKey(key_id=made.key.key_id)).rate_limits[0].limit == 3
