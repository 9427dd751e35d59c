"""The credits of keys: what this worker takes from memory, borrows from the database and gives back.

Mechanism: a verification takes its cost from what this worker has borrowed, without an await. When that is
not enough, the worker borrows from the account of the key, a row of the database, and the key is judged
again. Of 200 credits or more, it borrows a hundredth in advance, at most 1000, and gives back what is left
after a second. Of fewer, it borrows only what is needed now.

Bound: what was borrowed counts as spent, durably, before it is used. So all workers of all replicas together
never take more credits than there are, whatever fails. Credits that other workers hold are not there for this
one: up to a hundredth for each of them, for two seconds at most. That an account has too few credits is
remembered for a second. For each account, one borrow is under way, and `max_per_owner` for those of one
owner. Memory has an account for as long as a credential that is cached refers to it.

Failure: without the database nothing can be borrowed, and the verification is UNAVAILABLE. What a worker
holds when it dies, and what cannot be given back, is lost to the key.
"""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol
from weakref import WeakValueDictionary

from authsvc.model.credit_account import CreditAccount, CreditLoan
from authsvc.model.errors import Overloaded, RetryableError
from authsvc.model.rate_limit import RateLimits
from authsvc.verify.loans_under_way import MAX_PER_OWNER, LoansUnderWay

# After how many seconds credits that were not used are given back, and how old an answer to `cost` 0 may be.
_MAX_AGE_SECONDS = 1.0


class CreditStore(Protocol):
    """The accounts in the database."""

    async def borrow(self, loan: CreditLoan) -> bool:
        """Borrow what is needed at this moment, and tell the account. Return whether that was any use.

        Raises RetryableError when the database cannot answer or too many wait.
        """

    async def give_back(self, held: Sequence[tuple[str, int, int]]) -> None:
        """Give back credits: ids of accounts, their epochs, and how many. Raises RetryableError."""


class CreditAccounts:
    """The accounts that this worker knows, for verifications of keys that have one."""

    def __init__(
        self, store: CreditStore, stopwatch: Callable[[], float], *, max_per_owner: int = MAX_PER_OWNER
    ) -> None:
        self._store = store
        self._stopwatch = stopwatch
        self._known: WeakValueDictionary[str, CreditAccount] = WeakValueDictionary()
        # Those of which credits are held, even if no credential in memory refers to them.
        self._holding: set[CreditAccount] = set()
        #: Those that are under way, and how those before have ended.
        self.loans: LoansUnderWay[CreditAccount, CreditLoan] = LoansUnderWay(
            self._carry_out, full=_full, max_per_owner=max_per_owner
        )
        #: Credits that were given back, or that could not be.
        self.given_back, self.lost = 0, 0

    def wait(self, limits: RateLimits, cost: int) -> float | None:
        """Return 0 if `cost` can be taken, None if the database has to be asked; otherwise how long to wait.

        That is infinite without a refill that is enough. A cost of 0 can always be taken, after a question to
        the database within the last second.
        """
        account, now = self.of(limits), self._stopwatch()
        if cost == 0:
            return None if account.asked_time < now - _MAX_AGE_SECONDS else 0.0
        return account.wait(cost, now)

    def take(self, limits: RateLimits, cost: int) -> None:
        """Take what `wait` says is there, with no await in between."""
        self.of(limits).held -= cost

    def of(self, limits: RateLimits) -> CreditAccount:
        """Return the account of a key that has credits."""
        account = limits.account
        if account is None:
            account = self._known.get(limits.account_id)
            if account is None:
                account = self._known[limits.account_id] = CreditAccount(limits.account_id)
            account.see(limits.account_epoch)
            limits.account = account
        return account

    async def borrow(self, limits: RateLimits, *costs: int) -> None:
        """Borrow what is missing to take these costs, or learn that it is not there. Then judge again.

        With a cost of 0, only learn how much is left. Raises RetryableError when the database cannot answer,
        or too many wait.
        """
        account = self.of(limits)
        loan = self.loans.find(account)
        if loan is None:
            loan = self.loans.begin(account, limits.owner_id, CreditLoan(account))
        if not loan.is_sent:
            for cost in costs:
                loan.add(cost)
        await self.loans.end(account)

    async def prepare(self, wanted: Sequence[tuple[RateLimits, int]]) -> bool:
        """Borrow for many verifications, so that they can be judged at one instant, as far as possible.

        Returns whether anything had to be asked. Raises what `borrow` raises.
        """
        costs: dict[CreditAccount, tuple[RateLimits, list[int]]] = {}
        for limits, cost in wanted:
            # Others are refused by what is known.
            if limits.account_id and not self.wait(limits, cost):
                costs.setdefault(self.of(limits), (limits, []))[1].append(cost)
        loans = [self.borrow(limits, *each) for limits, each in costs.values() if self._lacks(limits, each)]
        if not loans:
            return False  # with nothing awaited
        await asyncio.gather(*loans)
        return True

    async def give_back(self, *, everything: bool = False) -> None:
        """Give back what was borrowed more than a second ago, or `everything`. Raises RetryableError."""
        latest = inf if everything else self._stopwatch() - _MAX_AGE_SECONDS
        old = [
            account
            for account in self._holding
            # What is held counts in a loan that is under way.
            if account.borrow_time <= latest and (everything or account not in self.loans)
        ]
        self._holding.difference_update(old)
        unused = [(account.account_id, account.epoch, account.held) for account in old if account.held]
        for account in old:
            account.release()
        if not unused:
            return
        total = sum(held for _, _, held in unused)
        try:
            await self._store.give_back(unused)
        except RetryableError:
            # It may have been carried out, so it cannot be repeated.
            self.lost += total
            raise
        self.given_back += total

    @property
    def held(self) -> int:
        """How many credits this worker holds."""
        return sum(account.held for account in self._holding)

    def _lacks(self, limits: RateLimits, costs: Sequence[int]) -> bool:
        """Return whether less is held than is needed, and there may be more; or if that is asked."""
        if 0 in costs and self.wait(limits, 0) is None:
            return True
        held = self.of(limits).held
        return held < sum(costs) and self.wait(limits, held + 1) is None

    async def _carry_out(self, loan: CreditLoan) -> bool:
        is_granted = await self._store.borrow(loan)
        if loan.account.held:
            self._holding.add(loan.account)
        return is_granted


def _full() -> Overloaded:
    return Overloaded(
        "too many keys with credits are being verified for this owner; retry after the delay in RetryInfo",
        reason="CREDIT_QUEUE_FULL",
        retry_after=0.5,
    )
