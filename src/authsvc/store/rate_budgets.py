"""The budgets of rate limits in the database. Implements `BudgetStore` of `verify`."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from authsvc.model.budget import Budget
from authsvc.model.loan import Lent, Loan, Need
from authsvc.model.rate_limit import RateLimit
from authsvc.store.pool import Connection, Database
from authsvc.store.queries import load_queries
from authsvc.store.shared_statement import SharedStatement

_SQL = load_queries("rate_budgets.sql")
#: How many loans may wait.
MAX_WAITING_LOANS = 1000
# What is needed, what was lent, and when that was asked for.
_Answer: TypeAlias = tuple[Sequence[Need], Sequence[Lent], float]


class RateBudgetStore:
    """Each statement is a transaction of its own, which takes the locks of budgets in the order of names."""

    def __init__(self, database: Database, stopwatch: Callable[[], float]) -> None:
        self._database = database
        self._stopwatch = stopwatch
        self._borrowing = SharedStatement(
            self._borrow,
            max_waiting=MAX_WAITING_LOANS,
            full="too many keys with rate limits are being verified",
        )

    async def borrow(self, loan: Loan) -> _Answer:
        """Borrow what is needed when the statement is sent, which loans that wait at the same time share.

        Raises Overloaded when too many wait, and Unavailable when the database cannot answer.
        """
        return await self._borrowing.ask(loan)

    async def give_back(self, units: Sequence[tuple[Budget, int]]) -> None:
        """Give back units that were not used. Raises Unavailable when the database cannot answer."""
        ordered = sorted(units, key=lambda each: _name(each[0]))
        names = [_name(budget) for budget, _ in ordered]
        async with self._database.connection() as connection:
            await connection.execute(
                _SQL["give_back_units"],
                [subject for subject, _ in names],
                [name for _, name in names],
                [float(each) for _, each in ordered],
            )

    async def _borrow(self, loans: Sequence[Loan]) -> list[_Answer]:
        answers: dict[Loan, _Answer] = {}
        left = list(loans)
        while left:
            alike = _alike(left)
            answers.update(zip(alike, await self._borrow_alike(alike), strict=True))
            left = [loan for loan in left if loan not in answers]
        return [answers[loan] for loan in loans]

    async def _borrow_alike(self, loans: Sequence[Loan]) -> list[_Answer]:
        needs = [loan.needs() for loan in loans]
        budgets = {_name(need.budget): need.budget for each in needs for need in each}
        names = sorted(budgets)
        places = {name: place for place, name in enumerate(names, 1)}
        ordered = [budgets[name] for name in names]
        flat = [(number, need) for number, each in enumerate(needs, 1) for need in each]
        async with self._database.connection() as connection:
            asked_time = self._stopwatch()
            row = await connection.fetchrow(
                _SQL["borrow_units"],
                [subject for subject, _ in names],
                [name for _, name in names],
                [float(budget.limit.limit) for budget in ordered],
                [float(budget.limit.period) for budget in ordered],
                [number for number, _ in flat],
                [places[_name(need.budget)] for _, need in flat],
                [float(need.least) for _, need in flat],
                [float(need.most) for _, need in flat],
            )
        if row is None:
            raise AssertionError("a function that returns no set returns a row")
        lent = iter([Lent(int(units), used) for units, used in zip(row["lent"], row["used"], strict=True)])
        return [(each, [next(lent) for _ in each], asked_time) for each in needs]


async def delete_due(connection: Connection, *, size: int) -> int:
    """Delete up to `size` budgets of which nothing counts as taken any more; return how many."""
    deleted: int = await connection.fetchval(_SQL["delete_due_budgets"], size)
    return deleted


def _alike(loans: Sequence[Loan]) -> list[Loan]:
    """Return loans, the first among them, that know each budget by the same limit.

    A key that was rotated and its successor have one budget, and may have different limits.
    """
    limits: dict[tuple[str, str], RateLimit] = {}
    alike = []
    for loan in loans:
        own = {_name(budget): budget.limit for budget in loan.budgets}
        if all(limits.get(name, limit) == limit for name, limit in own.items()):
            limits |= own
            alike.append(loan)
    return alike


def _name(budget: Budget) -> tuple[str, str]:
    return budget.subject, budget.limit.name
