"""rate_limits of keys and of policies: what is allowed, shared by all workers, and what is refused."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import pytest_asyncio

from authsvc.model.errors import Unavailable
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, MovedStopwatch, Service, serving
from tests.rpc.budget_time import BudgetTime, budgets
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_update import make, update


def limit(name: str = "requests", units: int = 10, seconds: float = 60) -> resources_pb2.RateLimit:
    message = resources_pb2.RateLimit(name=name, limit=units)
    message.period.FromMicroseconds(int(seconds * 1_000_000))
    return message


def code_of(verdict: Any) -> str:
    return resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")


async def verify(service: Service, key_string: str, **fields: Any) -> Any:
    return await service.admin.VerifyKey(key_string=key_string, **fields)


async def code(service: Service, key_string: str, **fields: Any) -> str:
    return code_of(await verify(service, key_string, **fields))


async def counted(service: Service, key_string: str, calls: int, **fields: Any) -> Counter[str]:
    """Return how often each verdict came, of calls one after the other."""
    return Counter([await code(service, key_string, **fields) for _ in range(calls)])


@pytest.fixture
def stopwatch() -> MovedStopwatch:
    return MovedStopwatch()


@pytest_asyncio.fixture
async def budget_time(database_url: str) -> BudgetTime:
    """The time of budgets, which stands still."""
    time = BudgetTime(database_url)
    await time.set()
    return time


@pytest_asyncio.fixture
async def service(
    database_url: str, clock: Clock, stopwatch: MovedStopwatch, budget_time: BudgetTime
) -> AsyncIterator[Service]:
    async with serving(database_url, clock) as running:
        # Not that of the whole worker, whose lease would be over.
        budgets = running.app.budgets
        budgets._stopwatch = budgets._store._stopwatch = stopwatch  # type: ignore[attr-defined]
        yield running


@pytest_asyncio.fixture
async def six(database_url: str, budget_time: BudgetTime) -> AsyncIterator[list[Service]]:
    """As many workers as two replicas of three have, on one database."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(serving(database_url, None, lease=60))
        others = [await stack.enter_async_context(serving(database_url, None, lease=60)) for _ in range(5)]
        for other in others:
            other.admin_key = first.admin_key
        yield [first, *others]


async def advance(budget_time: BudgetTime, stopwatch: MovedStopwatch, seconds: float) -> None:
    """Let time pass for the database and for the worker."""
    await budget_time.set(seconds)
    stopwatch.advance(seconds)


async def test_a_limit_is_exact_and_comes_back_one_by_one(
    service: Service, budget_time: BudgetTime, stopwatch: MovedStopwatch
) -> None:
    """Ten at once, then one each six seconds. The answers say what is left and how long to wait."""
    made = await make(service, rate_limits=[limit()])
    assert [(each.name, each.limit, each.period.seconds) for each in made.key.rate_limits] == [
        ("requests", 10, 60)
    ]
    for left in range(9, -1, -1):
        verdict = await verify(service, made.key_string)
        [state] = verdict.rate_limits
        assert (code_of(verdict), state.remaining, state.reset.seconds) == ("VALID", left, 6 * (10 - left))
        assert (state.name, state.limit, state.period.seconds, state.of_owner) == ("requests", 10, 60, False)
        assert not verdict.HasField("retry_after")
    verdict = await verify(service, made.key_string)
    assert (code_of(verdict), verdict.valid, verdict.rate_limits[0].remaining) == ("RATE_LIMITED", False, 0)
    assert 5 < verdict.retry_after.ToMicroseconds() / 1e6 <= 6
    assert (verdict.key_id, verdict.owner_id) == (made.key.key_id, "acme")
    await advance(budget_time, stopwatch, 5.9)
    assert await code(service, made.key_string) == "RATE_LIMITED"
    await advance(budget_time, stopwatch, 0.1)
    assert await counted(service, made.key_string, 3) == {"VALID": 1, "RATE_LIMITED": 2}
    await advance(budget_time, stopwatch, 24)
    assert await counted(service, made.key_string, 6) == {"VALID": 4, "RATE_LIMITED": 2}
    await advance(budget_time, stopwatch, 3600)
    assert await counted(service, made.key_string, 12) == {"VALID": 10, "RATE_LIMITED": 2}


async def test_six_workers_never_allow_eleven(six: list[Service]) -> None:
    """In a burst of concurrent calls, by VerifyKey, batches and tokens' keys, exactly ten are valid."""
    made = await make(six[0], rate_limits=[limit()])
    calls = [code(service, made.key_string) for service in six for _ in range(20)]
    codes = Counter(await asyncio.gather(*calls))
    assert codes == {"VALID": 10, "RATE_LIMITED": 110}
    batches = await asyncio.gather(
        *(service.admin.BatchVerifyKeys(requests=[{"key_string": made.key_string}] * 50) for service in six)
    )
    assert {code_of(each) for batch in batches for each in batch.responses} == {"RATE_LIMITED"}


async def test_batches_of_six_workers_are_exact(six: list[Service]) -> None:
    """Two keys that share a limit of their owner, many times in each batch."""
    await set_policy(six[0], rate_limits=[limit("all", 30)])
    keys = [await make(six[0], rate_limits=[limit("own", 20)]) for _ in range(2)]
    asked = [{"key_string": keys[number % 2].key_string} for number in range(40)]
    batches = await asyncio.gather(*(service.admin.BatchVerifyKeys(requests=asked) for service in six))
    codes = Counter((code_of(each), each.key_id) for batch in batches for each in batch.responses)
    assert sum(count for (verdict, _), count in codes.items() if verdict == "VALID") == 30
    assert all(codes["VALID", made.key.key_id] <= 20 for made in keys)


@pytest.mark.parametrize("units", [1000, 20_000])
async def test_the_bound_of_a_larger_limit(six: list[Service], units: int) -> None:
    """While no time passes, all workers together allow what the limit is, whatever they have borrowed.

    What they hold afterwards, and may use later, is no more than a hundredth each.
    """
    made = await make(six[0], rate_limits=[limit(units=units)])
    cost = units // 400
    calls = [code(service, made.key_string, cost=cost) for service in six for _ in range(100)]
    codes = Counter(await asyncio.gather(*calls))
    held = sum(service.app.budgets.held for service in six)
    assert codes["VALID"] * cost + held <= units
    assert codes["VALID"] * cost >= units - 6 * (units // 100)
    assert all(service.app.budgets.held <= units // 100 for service in six)


async def test_the_bound_is_reached_by_slices_that_are_used_later(
    six: list[Service], budget_time: BudgetTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst case: each worker holds a slice, all units come back, and all are used at one instant."""
    for service in six:
        budgets, now = service.app.budgets, service.app.budgets._stopwatch()
        monkeypatch.setattr(budgets, "_stopwatch", lambda now=now: now)  # it gives nothing back
        monkeypatch.setattr(budgets._store, "_stopwatch", lambda now=now: now)
    made = await make(six[0], rate_limits=[limit(units=1000)])
    for service in six:
        assert await code(service, made.key_string) == "VALID"
    assert sum(service.app.budgets.held for service in six) == 6 * 9
    await budget_time.set(60)
    codes = Counter(
        await asyncio.gather(*(code(service, made.key_string) for service in six for _ in range(300)))
    )
    assert codes["VALID"] == 1000 + 6 * 9


async def test_units_that_were_not_used_are_given_back(
    service: Service, database_url: str, stopwatch: MovedStopwatch
) -> None:
    """A second after they were borrowed, and all when told so. Then others have them."""
    made = await make(service, rate_limits=[limit(units=1000)])
    subject = made.key.key_id, "requests"
    assert await code(service, made.key_string) == "VALID"
    assert (service.app.budgets.held, (await budgets(database_url))[subject]) == (9, 10)
    stopwatch.advance(1.1)
    await service.app.budgets.give_back()
    assert (service.app.budgets.held, (await budgets(database_url))[subject]) == (0, 1)
    assert await code(service, made.key_string, cost=999) == "VALID"
    assert await code(service, made.key_string) == "RATE_LIMITED"
    assert (await budgets(database_url))[subject] == 1000


async def test_what_is_refused_takes_nothing(
    service: Service, database_url: str, stopwatch: MovedStopwatch
) -> None:
    """By scope, pause or network, by another limit, or by a cost that is too high: all limits keep theirs."""
    made = await make(service, rate_limits=[limit("a", 100), limit("b", 3)])
    subject = made.key.key_id
    assert await code(service, made.key_string, required_scopes=["orders:none"]) == "INSUFFICIENT_SCOPE"
    assert await budgets(database_url) == {}
    assert await counted(service, made.key_string, 10) == {"VALID": 3, "RATE_LIMITED": 7}
    assert await code(service, made.key_string, cost=101) == "RATE_LIMITED"
    stopwatch.advance(2)
    await service.app.budgets.give_back()
    assert await budgets(database_url) == {(subject, "a"): 3, (subject, "b"): 3}
    await service.admin.DisableKey(key_id=subject)
    assert await code(service, made.key_string) == "DISABLED"
    assert await budgets(database_url) == {(subject, "a"): 3, (subject, "b"): 3}


async def test_a_wrong_secret_takes_nothing_and_learns_nothing(service: Service, database_url: str) -> None:
    made = await make(service, rate_limits=[limit(units=1)])
    wrong = made.key_string[:-1] + ("a" if made.key_string[-1] != "a" else "b")
    assert await code(service, made.key_string) == "VALID"
    assert await code(service, made.key_string) == "RATE_LIMITED"
    verdict = await verify(service, wrong)
    assert (code_of(verdict), list(verdict.rate_limits)) == ("NOT_FOUND", [])
    assert (await budgets(database_url))[made.key.key_id, "requests"] == 1


async def test_costs(service: Service, budget_time: BudgetTime, stopwatch: MovedStopwatch) -> None:
    """A cost takes so many; 0 only asks; more than a limit is never valid, with no time to wait for."""
    made = await make(service, rate_limits=[limit()])
    asked = await verify(service, made.key_string, cost=0)
    assert (code_of(asked), asked.rate_limits[0].remaining) == ("VALID", 10)
    assert (await verify(service, made.key_string, cost=7)).rate_limits[0].remaining == 3
    too_high = await verify(service, made.key_string, cost=11)
    assert (code_of(too_high), too_high.HasField("retry_after")) == ("RATE_LIMITED", False)
    absurd = await verify(service, made.key_string, cost=2**32 - 1)
    assert (code_of(absurd), absurd.HasField("retry_after")) == ("RATE_LIMITED", False)
    waits = await verify(service, made.key_string, cost=5)
    assert (code_of(waits), round(waits.retry_after.ToMicroseconds() / 1e6)) == ("RATE_LIMITED", 12)
    assert await code(service, made.key_string, cost=3) == "VALID"
    stopwatch.advance(1.1)
    asked = await verify(service, made.key_string, cost=0)
    assert (code_of(asked), asked.rate_limits[0].remaining) == ("VALID", 0)


async def test_the_limits_of_an_owner_are_for_all_its_keys(service: Service) -> None:
    """Old and new keys, beside their own limits; other owners, the platform and sessions have none."""
    old, other = await make(service), await service.admin.CreateKey(owner_id="globex", display_name="x")
    assert await code(service, old.key_string) == "VALID"
    await set_policy(service, rate_limits=[limit("all", 5)])
    new = await make(service, rate_limits=[limit("own", 3)])
    assert await counted(service, new.key_string, 4) == {"VALID": 3, "RATE_LIMITED": 1}
    verdict = await verify(service, old.key_string)
    assert [(each.name, each.of_owner, each.remaining) for each in verdict.rate_limits] == [("all", True, 1)]
    assert await counted(service, old.key_string, 2) == {"VALID": 1, "RATE_LIMITED": 1}
    assert await counted(service, other.key_string, 7) == {"VALID": 7}
    opened = await service.admin.CreateSession(owner_id="acme")
    for _ in range(7):
        assert (await service.admin.VerifySession(session_token=opened.session_token)).valid
    await set_policy(service, rate_limits=[])
    assert await counted(service, old.key_string, 7) == {"VALID": 7}


def made_elsewhere() -> tuple[str, str]:
    """Return a string that a client has made, and its digest."""
    text = secrets.token_urlsafe(32)
    return text, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


async def test_a_key_whose_string_the_client_made_is_limited(service: Service) -> None:
    """As one that is minted, and its successor takes from the same units."""
    text, digest = made_elsewhere()
    made = await make(service, key_hash=digest, rate_limits=[limit(units=3)])
    assert [each.limit for each in made.key.rate_limits] == [3]
    assert await counted(service, text, 4) == {"VALID": 3, "RATE_LIMITED": 1}
    rotated = await service.admin.RotateKey(key_id=made.key.key_id)
    assert await code(service, rotated.key_string) == "RATE_LIMITED"


async def test_imported_keys_are_limited(service: Service) -> None:
    """By their own limits and, all together, by those of their owner."""
    await set_policy(service, rate_limits=[limit("all", 5)])
    (one, one_hash), (other, other_hash) = made_elsewhere(), made_elsewhere()
    answer = await service.admin.ImportKeys(
        owner_id="acme",
        keys=[
            {"hash": one_hash, "display_name": "Old", "rate_limits": [limit("own", 3)]},
            {"hash": other_hash, "display_name": "Old"},
        ],
    )
    assert [each.error.reason for each in answer.results] == ["", ""]
    assert await counted(service, one, 4) == {"VALID": 3, "RATE_LIMITED": 1}
    assert await counted(service, other, 3) == {"VALID": 2, "RATE_LIMITED": 1}
    await update(service, answer.results[0].key_id, "rate_limits")
    await set_policy(service, rate_limits=[])
    assert await counted(service, one, 4) == {"VALID": 4}


async def test_an_owner_cannot_pose_as_a_key(service: Service) -> None:
    """An owner whose id is that of another owner's key has a budget of its own."""
    victim = await make(service, rate_limits=[limit(units=5)])
    await set_policy(service, owner_id=victim.key.key_id, rate_limits=[limit(units=5)])
    hostile = await service.admin.CreateKey(owner_id=victim.key.key_id, display_name="x")
    assert await counted(service, hostile.key_string, 6) == {"VALID": 5, "RATE_LIMITED": 1}
    assert await counted(service, victim.key_string, 6) == {"VALID": 5, "RATE_LIMITED": 1}


async def test_changes_hold_at_once_and_keep_what_was_taken(six: list[Service]) -> None:
    """A limit that is lowered, raised or removed is so on every worker when UpdateKey has answered."""
    made = await make(six[0], rate_limits=[limit(units=1000)])
    for service in six:
        assert await code(service, made.key_string) == "VALID"
    key_id = made.key.key_id
    await update(six[0], key_id, "rate_limits", rate_limits=[limit(units=3)])
    codes = await asyncio.gather(*(code(service, made.key_string) for service in six for _ in range(5)))
    assert Counter(codes) == {"RATE_LIMITED": 30}, "more than three were taken, or are lent to workers"
    await update(six[0], key_id, "rate_limits")
    assert {await code(service, made.key_string) for service in six for _ in range(5)} == {"VALID"}
    verdict = await verify(six[1], made.key_string)
    assert not verdict.rate_limits


async def test_a_rotation_gives_no_new_units(service: Service, budget_time: BudgetTime) -> None:
    """The successor has the same limits, and shares with its predecessor what is left: also a third one."""
    made = await make(service, rate_limits=[limit()])
    assert await counted(service, made.key_string, 6) == {"VALID": 6}
    once = await service.admin.RotateKey(key_id=made.key.key_id, grace_period={"seconds": 3600})
    assert list(once.key.rate_limits) == list(made.key.rate_limits)
    assert await counted(service, once.key_string, 2) == {"VALID": 2}
    twice = await service.admin.RotateKey(key_id=once.key.key_id, grace_period={"seconds": 3600})
    assert await counted(service, twice.key_string, 3) == {"VALID": 2, "RATE_LIMITED": 1}
    assert await code(service, made.key_string) == "RATE_LIMITED"


async def test_a_caller_is_not_limited(service: Service) -> None:
    """A key that calls authsvc itself, for instance to end itself, takes nothing from its limits."""
    made = await make(service, rate_limits=[limit(units=1)])
    caller = await service.admin.CreateKey(
        owner_id="acme", display_name="x", scopes=["keys:verify"], rate_limits=[limit(units=1)]
    )
    for _ in range(3):
        await service.as_caller(caller.key_string).VerifyKey(key_string=made.key_string)
    assert await counted(service, caller.key_string, 2) == {"VALID": 1, "RATE_LIMITED": 1}


async def test_a_flood_on_a_limit_that_is_reached_asks_no_database(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand calls, one after the other and at once, are refused from memory."""
    made = await make(service, rate_limits=[limit()])
    await counted(service, made.key_string, 11)
    loans = dict(service.app.budgets.loans.outcomes)
    assert await counted(service, made.key_string, 500) == {"RATE_LIMITED": 500}
    codes = await asyncio.gather(*(code(service, made.key_string) for _ in range(500)))
    assert Counter(codes) == {"RATE_LIMITED": 500}
    assert service.app.budgets.loans.outcomes == loans


async def test_callers_at_the_same_time_share_a_loan(service: Service) -> None:
    made = await make(service, rate_limits=[limit(units=150)])
    assert await code(service, made.key_string) == "VALID"
    before = service.app.budgets.loans.outcomes["granted"]
    codes = await asyncio.gather(*(code(service, made.key_string) for _ in range(100)))
    assert Counter(codes) == {"VALID": 100}
    assert service.app.budgets.loans.outcomes["granted"] - before < 50


async def test_steps_of_the_clock_of_the_database(
    service: Service, budget_time: BudgetTime, stopwatch: MovedStopwatch
) -> None:
    """Set back, nothing comes back for that time, and nothing is locked for longer. Others do nothing."""
    made = await make(service, rate_limits=[limit()])
    await counted(service, made.key_string, 10)
    stopwatch.advance(3600)
    assert await code(service, made.key_string) == "RATE_LIMITED", "the stopwatch of a worker gave units back"
    await budget_time.set(-7200)
    stopwatch.advance(6)
    assert await code(service, made.key_string) == "RATE_LIMITED"
    await advance(budget_time, stopwatch, 6)
    assert await counted(service, made.key_string, 2) == {"VALID": 1, "RATE_LIMITED": 1}
    service.clock.advance(hours=1)
    stopwatch.advance(6)
    assert await code(service, made.key_string) == "RATE_LIMITED"


async def test_without_the_database(
    service: Service, stopwatch: MovedStopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker holds can be used; then the answer is UNAVAILABLE. Keys without limits go on."""
    made, free = await make(service, rate_limits=[limit(units=1000)]), await make(service)
    assert await code(service, made.key_string) == await code(service, free.key_string) == "VALID"

    async def fails(*_: object) -> Any:
        raise Unavailable("the database is out of reach", reason="DATABASE_UNAVAILABLE", retry_after=1)

    store: Any = service.app.budgets._store
    monkeypatch.setattr(store._borrowing, "_execute", fails)
    monkeypatch.setattr(store, "give_back", fails)
    assert await counted(service, made.key_string, 9) == {"VALID": 9}
    with refused(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
        await verify(service, made.key_string)
    with refused(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
        await service.admin.BatchVerifyKeys(requests=[{"key_string": made.key_string}])
    assert await code(service, made.key_string, cost=0) == "VALID"
    assert await counted(service, free.key_string, 5) == {"VALID": 5}
    assert service.app.budgets.loans.outcomes["failed"] >= 2
    monkeypatch.undo()
    assert await code(service, made.key_string) == "VALID"


async def test_a_worker_that_restarts_loses_what_it_held(database_url: str, budget_time: BudgetTime) -> None:
    """It is not used twice: the units that a dead worker held count as taken, until they come back."""
    async with serving(database_url, None) as first:
        made = await make(first, rate_limits=[limit(units=1000)])
        assert await code(first, made.key_string) == "VALID"
        admin_key = first.admin_key
        first.app.budgets._holding.clear()  # as a process that is killed
    async with serving(database_url, None) as second:
        second.admin_key = admin_key
        assert (await verify(second, made.key_string, cost=0)).rate_limits[0].remaining == 990


async def test_a_worker_that_stops_gives_back_what_it_holds(
    database_url: str, budget_time: BudgetTime
) -> None:
    async with serving(database_url, None) as service:
        made = await make(service, rate_limits=[limit(units=1000)])
        assert await code(service, made.key_string) == "VALID"
    assert (await budgets(database_url))[made.key.key_id, "requests"] == 1


async def test_bad_limits_are_refused_and_named(service: Service) -> None:
    """Names twice or malformed, units and periods out of bounds, and more than five."""
    for wrong, field in (
        ([limit(), limit()], "rate_limits[1].name"),
        ([limit("Requests")], "rate_limits[0].name"),
        ([limit("")], "rate_limits[0].name"),
        ([limit("x" * 33)], "rate_limits[0].name"),
        ([limit(units=0)], "rate_limits[0].limit"),
        ([limit(units=1_000_000_001)], "rate_limits[0].limit"),
        ([limit(seconds=0.5)], "rate_limits[0].period"),
        ([limit(seconds=1.5)], "rate_limits[0].period"),
        ([limit(seconds=31 * 86400 + 1)], "rate_limits[0].period"),
        ([resources_pb2.RateLimit(name="a", limit=1)], "rate_limits[0].period"),
        ([limit(f"a{number}") for number in range(6)], "rate_limits"),
    ):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await make(service, rate_limits=wrong)
        assert list(refusal.fields) == [field]
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await set_policy(service, rate_limits=wrong)
        assert list(refusal.fields) == [f"policy.{field}"]


async def test_only_who_has_the_scopes_of_a_key_loosens_its_limits(service: Service) -> None:
    """Fewer units, longer periods and further limits need no scope; more, shorter or none do."""
    made = await make(service, rate_limits=[limit()])
    manager = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:write"])
    weak = service.as_caller(manager.key_string)

    async def change(*limits: resources_pb2.RateLimit) -> Any:
        key = resources_pb2.Key(key_id=made.key.key_id, rate_limits=limits)
        return await weak.UpdateKey(key=key, update_mask={"paths": ["rate_limits"]})

    for looser in ([limit(units=11)], [limit(seconds=59)], [limit("other")], []):
        with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_NOT_GRANTABLE"):
            await change(*looser)
    await change(limit(units=9))
    await change(limit(units=9, seconds=61))
    changed = await change(limit("more", 1), limit(units=9, seconds=61))
    assert [each.name for each in changed.rate_limits] == ["more", "requests"]


async def test_due_budgets_are_deleted(
    service: Service, database_url: str, budget_time: BudgetTime, clock: Clock
) -> None:
    """Those of which nothing counts as taken: of a key that is gone as of one that was not used lately."""
    made, used = (
        await make(service, rate_limits=[limit()]),
        await make(service, rate_limits=[limit("a", 1, 86400)]),
    )
    await verify(service, made.key_string)
    await verify(service, used.key_string)
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)
    await budget_time.set(120)
    await service.app.purge.step()
    assert list(await budgets(database_url)) == [(used.key.key_id, "a")]
