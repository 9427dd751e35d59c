"""Which keys a warning is due for, and the warnings that were given."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from authsvc.model.identifier import new_identifier
from authsvc.model.key_warning import (
    EXPIRY_THRESHOLDS,
    UNUSED_PERIOD,
    GivenWarning,
    KeyWarning,
    WatchedKey,
)
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("key_warnings.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What decides on warnings besides the keys: who gets mail, and the policy of owners without one."""

    mailed: Collection[str]  # the types of notifications that are mailed
    has_operator: bool  # who gets the mail about keys without a contact
    rotation_period: timedelta
    keys_enabled: bool


@dataclass(frozen=True, slots=True)
class DueKeys:
    """The keys of a batch for which a warning is due, with the kinds that somebody would be told of.

    `position` is the last key that was looked at; "" at the end of the table.
    """

    position: str
    keys: Sequence[tuple[WatchedKey, frozenset[str]]]


async def begun(connection: Connection, now: datetime) -> datetime:
    """Return when the first walk began, which is now if there was none."""
    found: datetime | None = await connection.fetchval(_SQL["when_begun"])
    if found is None:
        await connection.execute(_SQL["begin"], now)
    return found or now


async def has_enabled_webhook(connection: Connection) -> bool:
    """Return whether a webhook is enabled."""
    return bool(await connection.fetchval(_SQL["has_enabled_webhook"]))


async def has_backlog(connection: Connection, now: datetime, size: int) -> bool:
    """Return whether `size` notifications, mails, or deliveries to the platform are to be sent already."""
    return bool(await connection.fetchval(_SQL["has_backlog"], now, size))


async def list_due(
    connection: Connection, terms: Terms, now: datetime, *, since: datetime, after: str, size: int, most: int
) -> DueKeys:
    """Return at most `most` of the next `size` keys for which a warning is due."""
    rows = await connection.fetch(
        _SQL["list_due_keys"],
        after,
        now,
        since,
        terms.rotation_period,
        terms.keys_enabled,
        list(terms.mailed),
        terms.has_operator,
        list(EXPIRY_THRESHOLDS),
        UNUSED_PERIOD,
        size,
        most,
    )
    keys = [(_from_row(row), frozenset(row["kinds"])) for row in rows if row["key_id"] is not None]
    position: str = (rows[0]["position"] or "") if rows[0]["looked_at"] == size else ""
    if len(keys) == most:
        position = keys[-1][0].key_id
    return DueKeys(position, keys)


async def give(connection: Connection, warnings: Iterable[KeyWarning], now: datetime) -> list[str]:
    """Note warnings and have their contacts told, in this transaction; return the kinds of those given.

    Left out are keys that a change has locked or has ended meanwhile, and warnings that were given meanwhile.
    """
    rows = [_row(warning, now) for warning in warnings]
    if not rows:
        return []
    key_ids = sorted({str(row["key_id"]) for row in rows})
    given = await connection.fetch(_SQL["give_warnings"], key_ids, json.dumps(rows), now)
    return [row["type"] for row in given]


def _row(warning: KeyWarning, now: datetime) -> Mapping[str, object]:
    return {
        "notification_id": new_identifier("evt", now),
        "key_id": warning.key_id,
        "kind": warning.kind,
        "threshold_days": warning.threshold_days,
        "about_time": warning.about_time.isoformat(),
        "details": dict(warning.details),
    }


def _from_row(row: asyncpg.Record) -> WatchedKey:
    given = zip(
        row["given_kinds"] or (), row["given_thresholds"] or (), row["given_times"] or (), strict=True
    )
    return WatchedKey(
        key_id=row["key_id"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        last_use_time=row["last_use_time"],
        is_delivered=row["is_delivered"],
        is_enabled=row["is_enabled"],
        rotation_period=row["rotation_period"],
        given=[GivenWarning(*each) for each in given],
    )
