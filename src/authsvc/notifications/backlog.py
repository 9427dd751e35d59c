"""How much waits to be sent, for the metrics.

Bound: a look counts at most 10,000 rows of each kind, by their indexes. Between two looks the last numbers
are shown. Failure: the last numbers stay.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from authsvc.store import sending
from authsvc.store.pool import Database
from authsvc.store.sending import Pending


class Backlog:
    """What the last look has found."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._found: Pending | None = None

    async def look(self) -> None:
        """Count what waits."""
        async with self._database.connection() as connection:
            self._found = await sending.count_pending(connection)

    @property
    def pending(self) -> Mapping[str, float]:
        """How many wait: notifications whose recipients are not written down, mails, and deliveries."""
        if self._found is None:
            return {}
        return {
            "notification": self._found.unspread,
            "mail": self._found.mails,
            "webhook": self._found.webhook_deliveries,
        }

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest of them has waited; 0 without any."""
        if self._found is None or self._found.oldest is None:
            return 0.0
        return max(0.0, (self._clock() - self._found.oldest).total_seconds())
