"""What a worker asks the database to lend it of the budgets of a key, and the answer."""

from collections.abc import Sequence
from typing import NamedTuple

from authsvc.model.budget import Budget


class Need(NamedTuple):
    """The units to borrow from a budget: at least so many, or none of the whole loan; and at most so many."""

    budget: Budget
    least: int
    most: int


class Loan:
    """What to borrow for one key. It grows while it waits to be sent."""

    def __init__(self, budgets: Sequence[Budget], cost: int) -> None:
        self._budgets = budgets
        self._least = cost
        self._wanted = cost
        # Whether what is held now is for others.
        self.goes_beyond_held = False
        self.is_sent = False

    @property
    def budgets(self) -> Sequence[Budget]:
        """The budgets of which units are borrowed."""
        return self._budgets

    def add(self, cost: int) -> None:
        """Borrow for another verification, too, as far as possible."""
        self._least = min(self._least or cost, cost or self._least)
        self._wanted += cost

    def needs(self) -> list[Need]:
        """Return what to borrow, as it is sent now."""
        self.is_sent = True
        return [self._need(budget) for budget in self._budgets]

    def _need(self, budget: Budget) -> Need:
        least = max(0, self._least - budget.held)
        wanted = self._wanted if self.goes_beyond_held else max(0, self._wanted - budget.held)
        return Need(budget, least, max(wanted, budget.limit.slice - budget.held) if wanted else 0)


class Lent(NamedTuple):
    """The answer about one need: the units that were lent, and how many count as taken since."""

    units: int
    used: float
