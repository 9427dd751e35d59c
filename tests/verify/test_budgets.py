"""What a worker takes from memory, borrows and gives back; the database is a hand-written one that counts."""

import asyncio
import gc
from collections.abc import Sequence
from math import inf

import pytest

from authsvc.model.budget import Budget
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.loan import Lent, Loan, Need
from authsvc.model.rate_limit import RateLimit, RateLimits
from authsvc.verify.budgets import Budgets
from tests.verify.parts import Pause

SMALL, LARGE = RateLimit("small", 10, 60), RateLimit("large", 1000, 60)


class FakeBudgetStore:
    """Budgets of which nothing comes back. A paused loan is answered when the test lets it."""

    def __init__(self) -> None:
        self.used: dict[tuple[str, str], float] = {}
        self.loans: list[list[tuple[int, int]]] = []
        self.pause: Pause | None = None
        self.fault: Exception | None = None
        self.now = 100.0

    def stopwatch(self) -> float:
        return self.now

    async def borrow(self, loan: Loan) -> tuple[Sequence[Need], Sequence[Lent], float]:
        if self.pause is not None:
            await self.pause.here()
        needs = loan.needs()
        self.loans.append([(need.least, need.most) for need in needs])
        if self.fault is not None:
            raise self.fault
        free = [need.budget.size - self._used(need.budget) for need in needs]
        is_met = all(need.least <= left for need, left in zip(needs, free, strict=True))
        answers = []
        for need, left in zip(needs, free, strict=True):
            units = int(min(need.most, left)) if is_met else 0
            self.used[need.budget.subject, need.budget.limit.name] = used = self._used(need.budget) + units
            answers.append(Lent(units, used))
        return needs, answers, self.now

    async def give_back(self, units: Sequence[tuple[Budget, int]]) -> None:
        if self.fault is not None:
            raise self.fault
        for budget, each in units:
            self.used[budget.subject, budget.limit.name] -= each

    def _used(self, budget: Budget) -> float:
        return self.used.get((budget.subject, budget.limit.name), 0.0)


@pytest.fixture
def store() -> FakeBudgetStore:
    return FakeBudgetStore()


@pytest.fixture
def budgets(store: FakeBudgetStore) -> Budgets:
    return Budgets(store, store.stopwatch, max_per_owner=2)


def limits(*of_key: RateLimit, number: int = 1, of_owner: Sequence[RateLimit] = ()) -> RateLimits:
    return RateLimits(f"key_{number}", "acme", of_key, of_owner)


async def taken(budgets: Budgets, one: RateLimits, cost: int = 1) -> float:
    """Take units as a verification does; return how long to wait."""
    while (wait := budgets.take(one, cost)) is None:
        await budgets.borrow(one, cost)
    return wait


async def test_a_slice_is_used_from_memory(budgets: Budgets, store: FakeBudgetStore) -> None:
    one = limits(LARGE)
    assert [await taken(budgets, one) for _ in range(25)] == [0.0] * 25
    assert store.loans == [[(1, 10)]] * 3
    assert (budgets.held, budgets.loans.outcomes["granted"]) == (5, 3)


async def test_all_limits_or_none(budgets: Budgets, store: FakeBudgetStore) -> None:
    """What the second refuses is not borrowed of the first, and the refusal is remembered."""
    one = limits(SMALL, RateLimit("two", 2, 60))
    assert await taken(budgets, one) == 0.0
    store.used["key_1", "two"] = 2  # by another worker
    assert await taken(budgets, one) == pytest.approx(30.0)
    assert await taken(budgets, one) == pytest.approx(30.0)
    assert store.used == {("key_1", "small"): 1, ("key_1", "two"): 2}
    assert (budgets.loans.outcomes, budgets.held) == ({"granted": 1, "refused": 1, "failed": 0}, 0)


async def test_a_cost_that_is_too_high_asks_nobody(budgets: Budgets, store: FakeBudgetStore) -> None:
    assert await taken(budgets, limits(SMALL), 11) == inf
    assert store.loans == []


async def test_the_budget_of_an_owner_is_one_for_its_keys(budgets: Budgets, store: FakeBudgetStore) -> None:
    """Not one for each key in memory, which would hold a slice each."""
    for number in range(5):
        assert await taken(budgets, limits(number=number, of_owner=[LARGE])) == 0.0
    assert (store.used, budgets.held) == ({("owner acme", "large"): 10}, 5)


async def test_those_who_wait_share_a_loan(budgets: Budgets, store: FakeBudgetStore) -> None:
    """Those who come before it is sent are part of it; those who come later get another one."""
    one, store.pause = limits(SMALL), Pause()
    early = [asyncio.create_task(taken(budgets, one)) for _ in range(4)]
    await store.pause.reached()
    store.pause.open()
    assert [await each for each in early] == [0.0] * 4
    assert store.loans == [[(1, 4)]]
    late = [asyncio.create_task(taken(budgets, one)) for _ in range(8)]
    waits = [await each for each in late]
    assert (waits.count(0.0), budgets.held) == (6, 0)


async def test_who_leaves_does_not_end_the_loan_of_others(budgets: Budgets, store: FakeBudgetStore) -> None:
    one, store.pause = limits(SMALL), Pause()
    leaves, stays = (asyncio.create_task(taken(budgets, one)) for _ in range(2))
    await store.pause.reached()
    leaves.cancel()
    store.pause.open()
    assert await stays == 0.0
    assert budgets.held == 1
    store.now += 1.1
    await budgets.give_back()
    assert (budgets.held, store.used["key_1", "small"]) == (0, 1)


async def test_the_keys_of_one_owner_have_a_share_of_the_queue(
    budgets: Budgets, store: FakeBudgetStore
) -> None:
    """Beyond it they are refused at once, and those of others are not."""
    store.pause = Pause()
    waiting = [asyncio.create_task(taken(budgets, limits(SMALL, number=number))) for number in range(2)]
    await store.pause.reached()
    with pytest.raises(Overloaded) as caught:
        await taken(budgets, limits(SMALL, number=3))
    assert caught.value.reason == "RATE_LIMIT_QUEUE_FULL"
    other = asyncio.create_task(taken(budgets, RateLimits("key_9", "globex", [SMALL], [])))
    await asyncio.sleep(0)
    assert len(budgets.loans) == 3
    store.pause.open()
    assert [await each for each in (*waiting, other)] == [0.0] * 3
    assert await taken(budgets, limits(SMALL, number=3)) == 0.0
    assert (len(budgets.loans), len(budgets.loans._per_owner)) == (0, 0)


async def test_a_failed_loan_fails_all_who_wait_and_is_tried_again(
    budgets: Budgets, store: FakeBudgetStore
) -> None:
    one, store.fault = limits(SMALL), Unavailable("x", reason="DATABASE_UNAVAILABLE", retry_after=1)
    results = await asyncio.gather(*(taken(budgets, one) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in results)
    assert budgets.loans.outcomes["failed"] == 1
    store.fault = None
    assert await taken(budgets, one) == 0.0


async def test_what_cannot_be_given_back_is_lost(budgets: Budgets, store: FakeBudgetStore) -> None:
    """It is not used later, and not given back twice."""
    one = limits(LARGE)
    await taken(budgets, one)
    store.now, store.fault = store.now + 2, Unavailable("x", reason="DATABASE_UNAVAILABLE", retry_after=1)
    with pytest.raises(Unavailable):
        await budgets.give_back()
    store.fault = None
    await budgets.give_back()
    assert (budgets.held, budgets.lost, budgets.given_back, store.used["key_1", "large"]) == (0, 9, 0, 10)


async def test_only_what_is_older_than_a_second_is_given_back(
    budgets: Budgets, store: FakeBudgetStore
) -> None:
    await taken(budgets, limits(LARGE, number=1))
    store.now += 0.9
    await taken(budgets, limits(LARGE, number=2))
    store.now += 0.2
    await budgets.give_back()
    assert (budgets.held, budgets.given_back) == (9, 9)
    await budgets.give_back(everything=True)
    assert (budgets.held, budgets.given_back) == (0, 18)


async def test_memory_has_a_budget_for_as_long_as_it_is_referred_to(budgets: Budgets) -> None:
    """By a credential in memory, or because units of it are held. Neither grows with the keys seen."""
    for number in range(100):
        await taken(budgets, limits(LARGE, number=number))
    gc.collect()
    assert len(budgets._known) == len(budgets._holding) == 100
    await budgets.give_back(everything=True)
    gc.collect()
    assert len(budgets._known) == len(budgets._holding) == 0


async def test_another_limit_of_the_same_name_is_another_budget(
    budgets: Budgets, store: FakeBudgetStore
) -> None:
    """So what is held of the old one is not used under the new one."""
    await taken(budgets, limits(LARGE))
    changed = limits(RateLimit("large", 10, 60))
    assert budgets.take(changed, 1) is None
    await budgets.borrow(changed, 1)
    assert budgets.take(changed, 1) not in (0.0, None)


async def test_a_batch_borrows_for_all_of_its_keys(budgets: Budgets, store: FakeBudgetStore) -> None:
    """Also for the budget that they share; what memory would refuse is left out."""
    wanted = [(limits(number=number % 2, of_owner=[SMALL]), 1) for number in range(2)]
    wanted = [wanted[number % 2] for number in range(8)]
    assert await budgets.prepare(wanted)
    assert store.used == {("owner acme", "small"): 8}
    assert not await budgets.prepare(wanted), "it has all that it needs"
    assert [budgets.take(one, cost) for one, cost in wanted] == [0.0] * 8
    assert not await budgets.prepare([(wanted[0][0], 11)])
