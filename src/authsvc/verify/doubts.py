"""What the database has to be asked before a credential can be judged.

That is the activity of a session, or units of rate limits. Then the credential is judged again.
"""

from collections.abc import Sequence

from authsvc.model.credential import Credential
from authsvc.model.errors import RetryableError
from authsvc.model.rate_limit import RateLimits
from authsvc.verify.activity_check import ActivityCheck
from authsvc.verify.budgets import Budgets
from authsvc.verify.question import Question

#: How often units are borrowed for one verification, when others take them first.
MAX_LOANS = 10


class Doubts:
    """Asks the database about what a judge does not know for certain."""

    def __init__(self, activity_check: ActivityCheck, budgets: Budgets | None) -> None:
        self._activity_check = activity_check
        self._budgets = budgets

    async def settle(self, question: Question, credential: Credential | None, attempt: int) -> Question:
        """Ask; return what is to be asked of the judge next. `attempt` counts from 1.

        Raises RetryableError when the database cannot answer.
        """
        limits = None if credential is None else credential.limits
        if limits is None or question.cost is None or self._budgets is None:
            await self._activity_check.check(question, credential)
            return question
        if question.cost:
            await self._budgets.borrow(limits, question.cost)
            return question
        try:
            await self._budgets.borrow(limits, 0)
        except RetryableError:
            attempt = MAX_LOANS
        # The verdict does not depend on what is left, which is not shown then.
        return question if attempt == 1 else question._replace(cost=None)

    async def prepare(self, wanted: Sequence[tuple[RateLimits, int]]) -> bool:
        """Borrow units for many keys at once; return whether anything had to be asked. See `Budgets`."""
        return self._budgets is not None and await self._budgets.prepare(wanted)
