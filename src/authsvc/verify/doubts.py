"""What the database has to be asked before a credential can be judged.

That is the activity of a session, or units of rate limits and credits. Then the credential is judged again.
"""

from collections.abc import Sequence

from authsvc.model.credential import Credential
from authsvc.model.errors import RetryableError
from authsvc.model.rate_limit import RateLimits
from authsvc.verify.activity_check import ActivityCheck
from authsvc.verify.question import Question
from authsvc.verify.quotas import Quotas

#: How often units are borrowed for one verification, when others take them first.
MAX_LOANS = 10


class Doubts:
    """Asks the database about what a judge does not know for certain."""

    def __init__(self, activity_check: ActivityCheck, quotas: Quotas | None) -> None:
        self._activity_check = activity_check
        self._quotas = quotas

    async def settle(self, question: Question, credential: Credential | None, attempt: int) -> Question:
        """Ask; return what is to be asked of the judge next. `attempt` counts from 1.

        Raises RetryableError when the database cannot answer.
        """
        limits = None if credential is None else credential.limits
        if limits is None or question.cost is None or self._quotas is None:
            await self._activity_check.check(question, credential)
            return question
        if question.cost:
            await self._quotas.borrow(limits, question.cost)
            return question
        try:
            await self._quotas.borrow(limits, 0)
        except RetryableError:
            attempt = MAX_LOANS
        # The verdict does not depend on what is left, which is not shown then.
        return question if attempt == 1 else question._replace(cost=None)

    async def prepare(self, wanted: Sequence[tuple[RateLimits, int]]) -> bool:
        """Borrow for many keys at once; return whether anything had to be asked. See `Quotas`."""
        return False if self._quotas is None else await self._quotas.prepare(wanted)
