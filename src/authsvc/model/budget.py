"""What one worker knows of a budget, which is what may be taken from a rate limit, and what it holds of it.

The budget itself is a row of the database. Its state is that of GCRA in the form of a leaky bucket: how many
units count as taken, which becomes less at the rate of the limit. A worker borrows units from it: these count
as taken at once. It takes units for verifications from what it holds, without asking, and gives back what it
did not need.

What counts as taken when the worker asked last is a lower bound for later, because only other workers can add
to it. So a worker can refuse by itself what the database would certainly refuse.
"""

from math import inf

from authsvc.model.rate_limit import RateLimit

# A worker that was refused asks again after the time in which a slice comes back, within these bounds.
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.005, 1.0
# Units are added and subtracted as floating point numbers.
_ROUNDING = 1e-6


class Budget:
    """All times are seconds on one stopwatch of the worker. Mutable."""

    __slots__ = (
        "__weakref__",
        "asked_time",
        "borrow_time",
        "closed_until",
        "free",
        "held",
        "known_time",
        "limit",
        "of_owner",
        "rate",
        "size",
        "subject",
        "used",
    )

    def __init__(self, subject: str, limit: RateLimit, *, of_owner: bool) -> None:
        """`subject` and the name of the limit identify the budget in the database."""
        self.subject = subject
        self.limit = limit
        self.of_owner = of_owner
        self.size = limit.limit
        self.rate = limit.rate
        # Units that this worker has borrowed and not used yet.
        self.held = 0
        self.borrow_time = -inf
        # How many units counted as taken at `known_time`; nothing is known before that.
        self.used = 0.0
        self.known_time = -inf
        # The whole units of the rest.
        self.free = limit.limit
        # The database is not asked before this time.
        self.closed_until = -inf
        # When the database was asked last.
        self.asked_time = -inf

    def wait(self, cost: int, now: float) -> float:
        """Return the seconds after which `cost` units may be there; 0 if they may be now, inf for never."""
        if cost > self.limit.limit:
            return inf
        if self.held >= cost or self.known_time == -inf:
            return 0.0
        self._drain(now)
        missing = cost - self.held - (self.limit.limit - self.used)
        return max(0.0, missing / self.rate, self.closed_until - now)

    def learn(self, used: float, asked_time: float) -> None:
        """Take over how many units counted as taken, from an answer to a question that was sent then."""
        self._set_used(used)
        self.known_time = self.asked_time = asked_time

    def lent(self, units: int, asked_time: float) -> None:
        """Hold units that were borrowed by a question that was sent then."""
        self.held += units
        self.borrow_time = asked_time

    def release(self) -> None:
        """Hold no units any more, since they are given back."""
        self._set_used(max(0.0, self.used - self.held))
        self.held = 0

    def refused(self, units: int, asked_time: float) -> None:
        """Take note that the database does not have so many units."""
        if units > self.limit.limit - self.used + _ROUNDING:
            pause = min(max(self.limit.slice / self.rate, _MIN_PAUSE_SECONDS), _MAX_PAUSE_SECONDS)
            self.closed_until = asked_time + pause

    @property
    def remaining(self) -> int:
        """How many units are left, as far as this worker knows."""
        left = self.held + self.free
        return min(self.size, left)

    @property
    def reset(self) -> int:
        """In how many seconds all units are back if none is taken, rounded up."""
        return -((self.remaining - self.size) * self.limit.period // self.size)

    def _drain(self, now: float) -> None:
        if now > self.known_time:
            self._set_used(max(0.0, self.used - (now - self.known_time) * self.rate))
            self.known_time = now

    def _set_used(self, used: float) -> None:
        self.used = used
        self.free = max(0, int(self.size - used + _ROUNDING))
