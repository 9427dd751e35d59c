"""Writes rows that were collected in the background; a row that the database refuses is set aside.

Mechanism: the rows of a batch are written together. If PostgreSQL refuses them for their values (a text that
its encoding does not have, a value out of range, a constraint, a trigger), each half is written separately,
and so on, until the row that it refuses is found. That row would be refused again, so it is dropped: it is
counted, and the log names it and the reason, without its values.

Bound: to find one row among 1,000 takes 20 statements; if all are refused, two statements for each.

Failure: other errors do not concern a row. An outage, a conflict, a privilege or a table that is missing is
raised. The caller keeps the rows that were neither written nor set aside, and tries again later.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from asyncpg import exceptions as pg

Row = TypeVar("Row")

_log = logging.getLogger(__name__)

# Errors about the values of rows, including those that the driver cannot encode.
_REFUSALS = (
    pg.DataError,
    pg.IntegrityConstraintViolationError,
    pg.WithCheckOptionViolationError,
    pg.PLPGSQLError,  # raised by a trigger
    pg.ProgramLimitExceededError,  # too large for an index
    UnicodeError,
)


class BatchWriter(Generic[Row]):
    """Calls `write` with batches of rows, and with parts of a batch that is refused."""

    def __init__(
        self, what: str, write: Callable[[Sequence[Row]], Awaitable[object]], name: Callable[[Row], str]
    ) -> None:
        """Take what a row is called in the log, as in "a last use", and a function that says of what."""
        self._what = what
        self._write = write
        self._name = name
        #: The number of rows that were set aside.
        self.refused = 0

    async def write(
        self, rows: Sequence[Row], *, settled: Callable[[Sequence[Row]], object] = lambda _: None
    ) -> None:
        """Write rows, in order, and set aside those that are refused.

        `settled` gets the rows that need not be tried again, each part as soon as it is written or set aside.
        Raises what `write` raises about anything other than the values of rows.
        """
        if not rows:
            return
        try:
            await self._write(rows)
        except _REFUSALS as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                await self.write(rows[:middle], settled=settled)
                await self.write(rows[middle:], settled=settled)
                return
            self.refused += 1
            _log.error(
                "%s of %s is dropped, because the database refuses it: %s; PostgreSQL's log has the details",
                self._what,
                self._name(rows[0]),
                _reason(error),
            )
        settled(rows)


def _reason(error: Exception) -> str:
    """Return the kind of an error and what it is about, without its message, which may have values."""
    told = type(error).__name__
    if isinstance(error, pg.PostgresError):
        told += f" ({error.sqlstate})"
        for kind in ("constraint", "column", "table"):
            if name := getattr(error, f"{kind}_name"):
                told += f", {kind} {name}"
    return told
