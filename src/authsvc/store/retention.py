"""How long the schema keeps audit events, whatever the setting of a worker is."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from authsvc.store.short_transaction import DirectConnection

_RETENTION = "SELECT retention FROM authsvc.audit_retention"
_SET_RETENTION = """
    INSERT INTO authsvc.audit_retention (retention) VALUES (interval '{days} days {seconds} seconds')
    ON CONFLICT (is_set) DO UPDATE SET retention = excluded.retention;
"""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long audit events are kept; zero means for ever.

    The schema enforces it against the serving role. A retention that is shorter than the stored one takes
    effect only if it `was_asked_for`, because a default must not shorten what an operator has set.
    """

    length: timedelta
    was_asked_for: bool

    def __str__(self) -> str:
        return f"for {self.length.days} days" if self.length else "forever"

    def replaces(self, kept: timedelta | None) -> bool:
        """Return whether this replaces the stored retention; None if none was stored yet."""
        if kept is None or self.was_asked_for:
            return self.length != kept
        return bool(kept) and (not self.length or self.length > kept)

    @property
    def sql(self) -> str:
        """The statement that stores it."""
        return _SET_RETENTION.format(days=self.length.days, seconds=self.length.seconds)


async def stored(connection: "DirectConnection", *, timeout: float | None = None) -> timedelta | None:
    """Return the stored retention; None if none was stored yet. Not within a transaction."""
    try:
        kept: timedelta | None = await connection.fetchval(_RETENTION, timeout=timeout)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return kept


async def store(connection: "DirectConnection", retention: Retention) -> bool:
    """Store a retention, if it replaces the stored one; return whether it did."""
    replaces = retention.replaces(await connection.fetchval(_RETENTION))
    if replaces:
        await connection.execute(retention.sql)
    return replaces
