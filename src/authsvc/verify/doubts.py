"""What the database has to be asked before a credential can be judged.

That is the activity of a session, or units of rate limits and credits. Then the credential is judged again.
"""

from collections.abc import Sequence

from authsvc.model.credential import Credential
from authsvc.model.errors import Overloaded, RetryableError
from authsvc.model.rate_limit import RateLimits
from authsvc.verify.activity_check import ActivityCheck
from authsvc.verify.budgets import Budgets
from authsvc.verify.credit_accounts import CreditAccounts
from authsvc.verify.question import Question

# How often units are borrowed for one verification, when others take them first.
_MAX_LOANS = 10


class Doubts:
    """Asks the database about what a judge does not know for certain."""

    def __init__(
        self, activity_check: ActivityCheck, budgets: Budgets | None, accounts: CreditAccounts | None = None
    ) -> None:
        self._activity_check = activity_check
        self._budgets = budgets
        self._accounts = accounts

    async def settle(self, question: Question, credential: Credential | None, attempt: int) -> Question:
        """Ask; return what is to be asked of the judge next. `attempt` counts from 1.

        Raises RetryableError when the database cannot answer.
        """
        limits = None if credential is None else credential.limits
        if limits is None or question.cost is None or self._budgets is None:
            await self._activity_check.check(question, credential)
            return question
        if question.cost:
            if attempt > _MAX_LOANS:
                raise Overloaded(
                    "others have used what was borrowed for this call of a rate limit or of credits; retry "
                    "after the delay in RetryInfo",
                    reason="RATE_LIMIT_QUEUE_FULL",
                    retry_after=0.5,
                )
            await self._borrow(self._budgets, limits, question.cost)
            return question
        try:
            await self._borrow(self._budgets, limits, 0)
        except RetryableError:
            attempt = _MAX_LOANS
        # The verdict does not depend on what is left, which is not shown then.
        return question if attempt == 1 else question._replace(cost=None)

    async def prepare(self, wanted: Sequence[tuple[RateLimits, int]]) -> bool:
        """Borrow for many keys at once; return whether anything had to be asked. See `Budgets`."""
        budgets, accounts = self._budgets, self._accounts
        if budgets is None:
            return False
        if accounts is None or not any(limits.account_id for limits, _ in wanted):
            return await budgets.prepare(wanted)
        # For what is refused for want of credits, the limits are only asked.
        costs = [(limits, 0 if _is_exhausted(accounts, limits, cost) else cost) for limits, cost in wanted]
        asked = await budgets.prepare(costs)
        # What is refused by a limit takes no credits.
        within = [(limits, cost) for limits, cost in wanted if not budgets.wait(limits, cost)]
        return await accounts.prepare(within) or asked

    async def _borrow(self, budgets: Budgets, limits: RateLimits, cost: int) -> None:
        accounts = self._accounts
        if accounts is None or not limits.account_id:
            await budgets.borrow(limits, cost)
            return
        if _is_exhausted(accounts, limits, cost):
            # Which is told only if no limit is reached.
            await budgets.borrow(limits, 0)
            return
        if budgets.of(limits) and (cost == 0 or budgets.lacks(limits, cost)):
            await budgets.borrow(limits, cost)
        if not budgets.wait(limits, cost) and accounts.wait(limits, cost) is None:
            await accounts.borrow(limits, cost)


def _is_exhausted(accounts: CreditAccounts, limits: RateLimits, cost: int) -> bool:
    return bool(limits.account_id and accounts.wait(limits, cost))
