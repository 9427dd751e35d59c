"""The quotas of keys: the rate limits and the credits of a key, taken together.

Mechanism: the rate limits are judged first. A verification takes its cost from all limits and from the
credits of a key, or from none of them, in one step without an await. When this worker has not borrowed
enough, it borrows, and the key is judged again. Failure: without the database nothing can be borrowed.
"""

from collections.abc import Sequence

from authsvc.model.rate_limit import RateLimits
from authsvc.model.verdict import VerdictCode
from authsvc.verify.budgets import Budgets
from authsvc.verify.credit_accounts import CreditAccounts

# To look them up in the class takes longer.
_VALID, _LIMITED, _EXHAUSTED = VerdictCode.VALID, VerdictCode.RATE_LIMITED, VerdictCode.CREDITS_EXHAUSTED


class Quotas:
    """What this worker may take from rate limits and credits, for verifications of keys that have any."""

    def __init__(self, budgets: Budgets, accounts: CreditAccounts) -> None:
        self._budgets = budgets
        self._accounts = accounts

    def take(self, limits: RateLimits, cost: int) -> tuple[VerdictCode, float] | None:
        """Take the cost and return VALID, or take nothing and return the verdict and how long to wait.

        In seconds, inf for ever. Returns None, with nothing taken, when the database has to be asked first
        (`borrow`).
        """
        until_refill = self._accounts.wait(limits, cost) if limits.account_id else 0.0
        if until_refill == 0:
            wait = self._budgets.take(limits, cost)
            if wait is None:
                return None
            if wait:
                return _LIMITED, wait
            if limits.account_id:
                self._accounts.take(limits, cost)
            return _VALID, wait
        if wait := self._budgets.wait(limits, cost):
            return _LIMITED, wait
        if until_refill is None or not self._budgets.are_known(limits):
            return None
        return _EXHAUSTED, until_refill

    async def borrow(self, limits: RateLimits, cost: int) -> None:
        """Borrow what is missing to take `cost`, or learn that it is not there. Then judge again.

        With a cost of 0, only learn how much is left. Raises RetryableError when the database cannot answer,
        or too many wait.
        """
        budgets, accounts = self._budgets, self._accounts
        if not limits.account_id:
            await budgets.borrow(limits, cost)
            return
        if self._is_exhausted(limits, cost):
            # Which is told only if no limit is reached.
            await budgets.borrow(limits, 0)
            return
        if budgets.of(limits) and (cost == 0 or budgets.lacks(limits, cost)):
            await budgets.borrow(limits, cost)
        if not budgets.wait(limits, cost) and accounts.wait(limits, cost) is None:
            await accounts.borrow(limits, cost)

    async def prepare(self, wanted: Sequence[tuple[RateLimits, int]]) -> bool:
        """Borrow for many verifications, so that they can be judged at one instant, as far as possible.

        Returns whether anything had to be asked. Raises what `borrow` raises.
        """
        if not any(limits.account_id for limits, _ in wanted):
            return await self._budgets.prepare(wanted)
        # For what is refused for want of credits, the limits are only asked.
        costs = [(limits, 0 if self._is_exhausted(limits, cost) else cost) for limits, cost in wanted]
        asked = await self._budgets.prepare(costs)
        # What is refused by a limit takes no credits.
        within = [(limits, cost) for limits, cost in wanted if not self._budgets.wait(limits, cost)]
        return await self._accounts.prepare(within) or asked

    def _is_exhausted(self, limits: RateLimits, cost: int) -> bool:
        return bool(limits.account_id and self._accounts.wait(limits, cost))
