"""The loans of rate limits or of credits that are under way.

Bound: for each subject, a key or an account, one loan, which all who wait share; and `max_per_owner` for the
keys of one owner, so that other owners find room in the queue of the database. A loan goes on until it ends,
even if all who wait for it have gone.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from authsvc.model.errors import Overloaded

#: How many loans may be under way for the keys of one owner.
MAX_PER_OWNER = 250

Subject = TypeVar("Subject", bound=Hashable)
AnyLoan = TypeVar("AnyLoan")


class LoansUnderWay(Generic[Subject, AnyLoan]):
    """Carries out loans."""

    def __init__(
        self,
        carry_out: Callable[[AnyLoan], Awaitable[bool]],
        *,
        full: Callable[[], Overloaded],
        max_per_owner: int,
    ) -> None:
        """`carry_out` returns whether a loan was granted, and `full` the error beyond `max_per_owner`."""
        self._carry_out = carry_out
        self._full = full
        self._max_per_owner = max_per_owner
        self._loans: dict[Subject, tuple[AnyLoan, asyncio.Task[bool]]] = {}
        self._per_owner: Counter[str] = Counter()
        #: The number of loans, by their outcome.
        self.outcomes = {"granted": 0, "refused": 0, "failed": 0}

    def __len__(self) -> int:
        """Return how many loans are under way."""
        return len(self._loans)

    def __contains__(self, subject: Subject) -> bool:
        """Return whether a loan for this subject is under way."""
        return subject in self._loans

    def find(self, subject: Subject) -> AnyLoan | None:
        """Return the loan for this subject; None if none is under way."""
        known = self._loans.get(subject)
        return None if known is None else known[0]

    def begin(self, subject: Subject, owner_id: str, loan: AnyLoan) -> AnyLoan:
        """Begin a loan for a subject that has none, and return it. Raises Overloaded."""
        if self._per_owner[owner_id] >= self._max_per_owner:
            raise self._full()
        # Counted until the loan ends, which may be after all who wait have gone.
        self._per_owner[owner_id] += 1
        task = asyncio.ensure_future(self._carry_out(loan))
        self._loans[subject] = loan, task
        task.add_done_callback(lambda task: self._ended(subject, owner_id, task))
        return loan

    async def end(self, subject: Subject) -> None:
        """Wait for the end of the loan of this subject. Raises what it raises."""
        await asyncio.shield(self._loans[subject][1])

    def _ended(self, subject: Subject, owner_id: str, task: "asyncio.Future[bool]") -> None:
        del self._loans[subject]
        self._per_owner[owner_id] -= 1
        if not self._per_owner[owner_id]:
            del self._per_owner[owner_id]
        # Retrieve the error in case every caller has gone; those that wait see it anyway.
        if task.cancelled() or task.exception():
            self.outcomes["failed"] += 1
        else:
            self.outcomes["granted" if task.result() else "refused"] += 1
