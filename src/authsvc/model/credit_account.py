"""What one worker knows of the credits of a key, and what it holds of them.

The account itself is a row of the database. A worker borrows credits from it, which count as spent at once,
takes the costs of verifications from what it holds, and gives back what it did not need. So the credits that
are taken are never more than there were.
"""

from math import inf

# How long a worker relies on how many credits the database had, when these are not enough.
_TRUST_SECONDS = 1.0


class CreditAccount:
    """All times are seconds on one stopwatch of the worker. Mutable.

    What is known holds for one `epoch`, which is greater each time that the credits are set or refilled. What
    was borrowed in an earlier one is gone.
    """

    __slots__ = (
        "__weakref__",
        "account_id",
        "asked_time",
        "borrow_time",
        "epoch",
        "held",
        "left",
        "refill_amount",
        "refill_time",
        "trusted_until",
    )

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id
        self.epoch = 0
        # Credits that this worker has borrowed and not used yet, and how many the database had then.
        self.held = self.left = 0
        self.borrow_time = self.asked_time = self.trusted_until = -inf
        self.refill_amount, self.refill_time = 0, inf

    def wait(self, cost: int, now: float) -> float | None:
        """Return 0 if `cost` is held, None if the database has to be asked; otherwise it is not there.

        That is the seconds until a refill that is enough, or infinite.
        """
        if cost <= self.held:
            return 0.0
        if cost <= self.held + self.left or now >= self.trusted_until:
            return None
        return max(0.001, self.refill_time - now) if cost <= self.refill_amount else inf

    def see(self, epoch: int) -> None:
        """Take note that the credits were set since, so that what was borrowed before is gone."""
        if epoch > self.epoch:
            self.epoch = epoch
            self.held = self.left = 0
            self.asked_time = self.trusted_until = -inf

    def learn(
        self,
        *,
        epoch: int,
        lent: int,
        left: int,
        asked_time: float,
        answer_time: float,
        refill_amount: int | None,
        refill_seconds: float | None,
    ) -> None:
        """Take over the answer of `answer_time` to a question that was sent at `asked_time`."""
        self.see(epoch)
        if epoch < self.epoch:
            return
        self.left, self.asked_time = left, asked_time
        if lent:
            self.held += lent
            self.borrow_time = asked_time
        until_refill = inf if refill_seconds is None else max(0.0, refill_seconds)
        self.refill_amount, self.refill_time = refill_amount or 0, asked_time + until_refill
        # From the answer on, so that a slow one still answers those who have asked.
        self.trusted_until = min(answer_time + _TRUST_SECONDS, self.refill_time)

    def release(self) -> None:
        """Hold no credits any more, since they are given back."""
        self.left += self.held
        self.held = 0

    @property
    def remaining(self) -> int | None:
        """How many credits are left, as far as this worker knows; None if it does not."""
        return None if self.asked_time == -inf else self.held + self.left


class CreditLoan:
    """What to borrow from one account for some verifications. It grows while it waits to be sent."""

    def __init__(self, account: CreditAccount, *costs: int) -> None:
        self.account = account
        self._costs = [*costs]
        self.is_sent = False

    def add(self, cost: int) -> None:
        """Borrow for another verification, too, if there is enough for it."""
        self._costs.append(cost)

    def need(self) -> tuple[int, list[int]]:
        """Return what is held, and the costs to be paid, the smallest first, as they are sent now."""
        self.is_sent = True
        return self.account.held, sorted(self._costs)
