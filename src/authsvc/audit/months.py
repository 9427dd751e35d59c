"""The months of the audit log: makes the partitions of those to come, drops those past the retention.

Mechanism: both are done by functions of the schema, since the role that serves can do neither.
Months are dropped in whole. What is dropped leaves, for each owner, the link with which its
chain goes on, and an EVENTS_DROPPED event.

Bound: one worker of all replicas at a time, four times a day. Whatever is asked for, the schema
drops nothing younger than the retention that its owner set, and 90 days.

Failure: what could not be done is tried again at the next look. An event of a month without a
partition goes to the default one, and moves when its partition is made.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta

from dateutil.relativedelta import relativedelta

from authsvc.model.errors import RetryableError
from authsvc.store import audit as audit_store
from authsvc.store import purge as jobs
from authsvc.store.pool import Database

_log = logging.getLogger(__name__)

EVERY = timedelta(hours=6)
# Months besides this one that there are partitions for.
AHEAD = 3


class AuditMonths:
    """Looks after the partitions of the audit log. A `retention` of zero keeps all for good."""

    def __init__(self, database: Database, *, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._retention = retention
        self._clock = clock
        self.dropped = 0

    async def step(self) -> bool:
        """Do what is to be done, in transactions of its own; return False when it is not due here."""
        now = self._clock()
        async with self._database.transaction() as connection:
            if await jobs.take(connection, "audit", now) is None:
                return False
            for ahead in range(AHEAD + 1):
                await audit_store.make_month(connection, _month(now) + relativedelta(months=ahead))
        # Nobody can list events while a month is made, and to drop one may take long.
        async with self._database.transaction() as connection:
            if await jobs.take(connection, "audit", now) is None:
                return False
            dropped = 0
            if retention := self._allowed(await audit_store.retention(connection)):
                dropped = await audit_store.drop_before(connection, _month(now - retention))
            await jobs.put_back(connection, "audit", "", now + EVERY)
        self.dropped += dropped
        return True

    def _allowed(self, kept: timedelta | None) -> timedelta:
        """Return the longer of our retention and the schema's; zero is for good."""
        if kept is None or not self._retention or (kept and self._retention >= kept):
            return self._retention
        _log.warning(
            "audit events are kept %s, as the schema says, and not for the %d days of "
            "AUTHSVC_AUDIT_RETENTION; to shorten it, run `authsvc migrate` with that setting as the owner "
            "of the schema",
            f"for {kept.days} days" if kept else "for good",
            self._retention.days,
        )
        return kept

    async def run(self, tick: Callable[[], Awaitable[object]]) -> None:
        """After each tick, do what is due, for ever."""
        while True:
            await tick()
            try:
                await self.step()
            except RetryableError as error:
                _log.debug("the months of the audit log cannot be seen to now: %s", error)
            except Exception:  # noqa: BLE001 - a fault here must not end it for good
                _log.exception("a fault in seeing to the months of the audit log")


def _month(moment: datetime) -> date:
    """Return the first day of the month of an instant in UTC."""
    return moment.date().replace(day=1)
