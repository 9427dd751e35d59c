"""Creates the monthly partitions of the audit log in advance, and drops those past the retention.

Mechanism: functions of the schema do both, since the role of the service has no right to. Whole months are
dropped. For each owner, the link to the last event that was dropped is kept, so that the chain continues, and
an EVENTS_DROPPED event is recorded.

Bound: one worker of all replicas at a time, four times a day. The schema never drops events that are younger
than the retention that its owner has set, or than 90 days.

Failure: what failed is tried again at the next check. An event of a month without a partition goes to the
default partition, and is moved when the partition is created.
"""

import logging
from collections.abc import Callable
from datetime import date, datetime, timedelta

from dateutil.relativedelta import relativedelta

from authsvc.store import audit as audit_store
from authsvc.store import purge as jobs
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)

CHECK_INTERVAL = timedelta(hours=6)
# How many partitions are created in advance.
MONTHS_AHEAD = 3


class AuditMonths:
    """Creates and drops the partitions of the audit log. A `retention` of zero keeps all events forever."""

    def __init__(self, database: Database, *, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock
        self.dropped = 0

    async def step(self) -> bool:
        """Create and drop partitions; return False if that is not due, or another worker does it."""
        now = self._clock()
        async with self._database.transaction() as connection:
            if await jobs.take(connection, "audit", now) is None:
                return False
            for ahead in range(MONTHS_AHEAD + 1):
                await audit_store.make_month(connection, _month(now) + relativedelta(months=ahead))
        # In a second transaction: the first one blocks the listing of events, and dropping may take long.
        async with self._database.transaction() as connection:
            if await jobs.take(connection, "audit", now) is None:
                return False
            dropped = 0
            if retention := self._effective_retention(await audit_store.retention(connection)):
                dropped = await audit_store.drop_before(connection, _month(now - retention))
            await jobs.put_back(connection, "audit", "", now + CHECK_INTERVAL)
        self.dropped += dropped
        return True

    def _effective_retention(self, kept: timedelta | None) -> timedelta:
        """Return the longer one of the configured retention and that of the schema; zero is forever."""
        if kept is None or not self._retention or (kept and self._retention >= kept):
            return self._retention
        _log.warning(
            "audit events are kept %s, as set in the schema, which is longer than the %d days of "
            "AUTHSVC_AUDIT_RETENTION; to shorten it, run `authsvc migrate` with that setting as the owner "
            "of the schema",
            f"for {kept.days} days" if kept else "forever",
            self._retention.days,
        )
        return kept


def _month(moment: datetime) -> date:
    """Return the first day of the month, in UTC."""
    return moment.date().replace(day=1)
