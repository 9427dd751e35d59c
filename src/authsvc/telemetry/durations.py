"""How long something took: a histogram that costs a hot path a quarter of a microsecond.

That of prometheus_client takes locks, since it may be used by several threads. Calls are served, and metrics
scraped, by one.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import inf

#: In seconds. A verification from memory takes less than a millisecond; a change that waits for the lease of
#: a worker takes up to a minute.
BOUNDS = (
    *(0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, inf),
)


class Durations:
    """How many durations were at most each bound, and more than the one before; and their sum."""

    __slots__ = ("_counts", "is_sparse", "total")

    def __init__(self, *, is_sparse: bool = False) -> None:
        """`is_sparse`: where there are many of these, buckets are shown from the first duration on only."""
        self._counts = [0] * len(BOUNDS)
        self.is_sparse = is_sparse
        #: The sum, in seconds.
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    @property
    def counts(self) -> Sequence[int]:
        """How many were at most each of the bounds; the last is the number of all."""
        return tuple(accumulate(self._counts))
