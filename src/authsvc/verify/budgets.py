"""The budgets of rate limits: what this worker takes from memory, borrows from the database and gives back.

Mechanism: a verification takes its cost from all limits of a key or from none, in one step without an await,
from what this worker has borrowed. When that is not enough, it borrows, and is judged again. A borrow is all
or nothing for the limits of one key. The database grants no more than the limit allows, by its own clock. Of
a limit of 200 or more, a worker borrows a hundredth in advance, and gives back what is left after a second.

Bound: units that are used later than they were granted are those that workers hold. So at most a slice of
each worker is accepted beyond the limit, in any span of time; of a limit below 200, none, because only what
is needed now is borrowed. For each key, one borrow is under way, which all who wait share. `max_per_owner`
borrows are under way for the keys of one owner, so that other owners find room in the queue of the database.
A limit that is reached is remembered until units can have come back, so a flood of refused calls asks the
database about a hundred times in each period, and not more than once in 5 ms. Memory has a budget for as long
as a credential that is cached refers to it.

Failure: without the database nothing can be borrowed, and the verification is UNAVAILABLE: to let it pass
would lift all limits. What a worker holds when it dies comes back with time, as if it had been used.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol
from weakref import WeakValueDictionary

from authsvc.model.budget import Budget
from authsvc.model.errors import Overloaded, RetryableError
from authsvc.model.loan import Lent, Loan, Need
from authsvc.model.rate_limit import RateLimit, RateLimits
from authsvc.verify.loans_under_way import MAX_PER_OWNER, LoansUnderWay

# After how many seconds units that were not used are given back, and how old an answer to `cost` 0 may be.
_MAX_AGE_SECONDS = 1.0
# No name of an owner or key has a space.
_OF_OWNER = "owner "


class BudgetStore(Protocol):
    """The budgets in the database."""

    async def borrow(self, loan: Loan) -> tuple[Sequence[Need], Sequence[Lent], float]:
        """Borrow what is needed at this moment; return that, what was lent, and when it was asked for.

        Nothing was lent if any need could not be met. Raises RetryableError when the database cannot answer
        or too many wait.
        """

    async def give_back(self, units: Sequence[tuple[Budget, int]]) -> None:
        """Give back units that were not used. Raises RetryableError when the database cannot answer."""


class Budgets:
    """The budgets that this worker knows, for verifications."""

    def __init__(
        self, store: BudgetStore, stopwatch: Callable[[], float], *, max_per_owner: int = MAX_PER_OWNER
    ) -> None:
        self._store = store
        self._stopwatch = stopwatch
        self._known: WeakValueDictionary[tuple[str, RateLimit], Budget] = WeakValueDictionary()
        # Those of which units are held, even if no credential in memory refers to them.
        self._holding: set[Budget] = set()
        #: Those that are under way, and how those before have ended.
        self.loans: LoansUnderWay[RateLimits, Loan] = LoansUnderWay(
            self._carry_out, full=_full, max_per_owner=max_per_owner
        )
        #: Units that were given back, or that could not be, so that they are back later.
        self.given_back, self.lost = 0, 0

    def take(self, limits: RateLimits, cost: int) -> float | None:
        """Take units from all limits and return 0, or take none and return how long to wait, inf for ever.

        Returns None, with nothing taken, when the database has to be asked first (`borrow`).
        """
        budgets = limits.budgets or self.of(limits)
        for budget in budgets:
            if budget.held < cost:
                break
        else:
            for budget in budgets:
                budget.held -= cost
            return None if cost == 0 and self._is_stale(budgets) else 0.0
        now = self._stopwatch()
        return max(budget.wait(cost, now) for budget in budgets) or None

    def wait(self, limits: RateLimits, cost: int) -> float:
        """Return how long to wait until all limits may have these units, inf for ever. Takes nothing."""
        now = self._stopwatch()
        return max((budget.wait(cost, now) for budget in self.of(limits)), default=0.0)

    def lacks(self, limits: RateLimits, cost: int) -> bool:
        """Return whether this worker holds too few units of some limit."""
        return any(budget.held < cost for budget in self.of(limits))

    def are_known(self, limits: RateLimits) -> bool:
        """Return whether the database was ever asked about each limit."""
        return all(budget.known_time > -inf for budget in self.of(limits))

    def of(self, limits: RateLimits) -> tuple[Budget, ...]:
        """Return the budget of each limit."""
        if not limits.budgets:
            owner = _OF_OWNER + limits.owner_id
            limits.budgets = (
                *(self._budget(limits.budget_id, limit, of_owner=False) for limit in limits.of_key),
                *(self._budget(owner, limit, of_owner=True) for limit in limits.of_owner),
            )
        return limits.budgets

    async def borrow(self, limits: RateLimits, cost: int, *, beyond_held: bool = False) -> None:
        """Borrow what is missing to take `cost` units, or learn that it is not there. Then judge again.

        With a cost of 0, only learn how much is left. `beyond_held` if what is held is for others. Raises
        RetryableError when the database cannot answer, or too many wait.
        """
        loan = self.loans.find(limits)
        if loan is None:
            loan = self.loans.begin(limits, limits.owner_id, Loan(self.of(limits), cost))
        elif not loan.is_sent:
            loan.add(cost)
        loan.goes_beyond_held = loan.goes_beyond_held or beyond_held
        await self.loans.end(limits)

    async def prepare(self, wanted: Sequence[tuple[RateLimits, int]]) -> bool:
        """Borrow for many verifications, so that they can be judged at one instant, as far as possible.

        Returns whether anything had to be asked. Raises what `borrow` raises.
        """
        demand: Counter[Budget] = Counter()
        costs: dict[RateLimits, list[int]] = {}
        now, loans = self._stopwatch(), []
        for limits, cost in wanted:
            budgets = self.of(limits)
            if any(budget.wait(cost, now) for budget in budgets):
                continue  # refused by what is known
            costs.setdefault(limits, []).append(cost)
            demand.update(dict.fromkeys(budgets, cost))
        for limits, each in costs.items():
            budgets = self.of(limits)
            if min(each) == 0 and self._is_stale(budgets):
                loans.append(self.borrow(limits, 0))
            if any(_lacks(budget, demand[budget], now) for budget in budgets):
                # Keys of one owner share a budget, and so what is held of it.
                loans.extend(self.borrow(limits, cost, beyond_held=True) for cost in each)
        if not loans:
            return False  # with nothing awaited
        await asyncio.gather(*loans)
        return True

    async def give_back(self, *, everything: bool = False) -> None:
        """Give back what was borrowed more than a second ago, or `everything`. Raises RetryableError."""
        latest = inf if everything else self._stopwatch() - _MAX_AGE_SECONDS
        old = [budget for budget in self._holding if budget.borrow_time <= latest]
        self._holding.difference_update(old)
        units = [(budget, budget.held) for budget in old if budget.held]
        total = sum(held for _, held in units)
        for budget in old:
            budget.release()
        if not units:
            return
        try:
            await self._store.give_back(units)
        except RetryableError:
            self.lost += total
            raise
        self.given_back += total

    @property
    def held(self) -> int:
        """How many units this worker holds."""
        return sum(budget.held for budget in self._holding)

    def _is_stale(self, budgets: Sequence[Budget]) -> bool:
        since = self._stopwatch() - _MAX_AGE_SECONDS
        return any(budget.asked_time < since for budget in budgets)

    def _budget(self, subject: str, limit: RateLimit, *, of_owner: bool) -> Budget:
        budget = self._known.get((subject, limit))
        if budget is None:
            budget = self._known[subject, limit] = Budget(subject, limit, of_owner=of_owner)
        return budget

    async def _carry_out(self, loan: Loan) -> bool:
        needs, answers, asked_time = await self._store.borrow(loan)
        is_granted = True
        for (budget, least, _), (units, used) in zip(needs, answers, strict=True):
            budget.learn(used, asked_time)
            if units:
                budget.lent(units, asked_time)
                self._holding.add(budget)
            elif least:
                is_granted = False
                budget.refused(least, asked_time)
        return is_granted


def _lacks(budget: Budget, demand: int, now: float) -> bool:
    """Return whether less is held than is needed, and more may be borrowed."""
    return budget.held < demand and not budget.wait(budget.held + 1, now)


def _full() -> Overloaded:
    return Overloaded(
        "too many keys with rate limits are being verified for this owner; retry after the delay in "
        "RetryInfo",
        reason="RATE_LIMIT_QUEUE_FULL",
        retry_after=0.5,
    )
