"""How much waits to be sent, for the metrics.

Bound: a look counts at most 10,000 rows of each kind, by their indexes, and looks up one delivery of each
webhook. Between two looks the last numbers are shown. Failure: the last numbers stay.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from authsvc.store import sending
from authsvc.store.pool import Database
from authsvc.store.sending import Pending


class Backlog:
    """What the last look has found."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._found: Sequence[Pending] = ()

    async def look(self) -> None:
        """Count what waits."""
        async with self._database.transaction() as connection:
            self._found = await sending.count_pending(connection, self._clock())

    @property
    def pending(self) -> Mapping[str, float]:
        """How many wait: notifications whose recipients are not written down, mails, and deliveries."""
        return {each.kind: each.number for each in self._found}

    @property
    def oldest_seconds(self) -> Mapping[str, float]:
        """How long the oldest of each kind that is due has been; 0 without any."""
        now = self._clock()
        return {
            each.kind: 0.0 if each.due_since is None else max(0.0, (now - each.due_since).total_seconds())
            for each in self._found
        }
