"""The deliveries to webhooks: which line is due, and how each attempt went.

The deliveries of a webhook are its line: they are made one after the other. A worker claims a line by setting
the webhook's `held_until`, and nobody else claims it before that time. The time also proves that the line is
still held, so no two holders have the same.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from authsvc.model.key import TechnicalContact
from authsvc.model.notification import Notification
from authsvc.model.webhook import DisableReason, SecretVersion, Webhook
from authsvc.store import notifications
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("webhook_deliveries.sql")


class Line(NamedTuple):
    """A line that is held until a time. Before it was claimed, it could have been since `idle_since`."""

    webhook_id: str
    until: datetime
    is_failing: bool
    idle_since: datetime


class DueDelivery(NamedTuple):
    """A delivery to make now. `attempt_count` is that of the attempts before."""

    delivery_id: str
    attempt_count: int
    webhook: Webhook
    notification: Notification


async def claim_lines(
    connection: Connection, now: datetime, until: datetime, *, size: int, failing_size: int, owner_size: int
) -> list[Line]:
    """Claim up to `size` lines that have a delivery to make, of failing webhooks at most `failing_size`.

    So many that all workers hold at most `owner_size` of an owner, and as many of its failing webhooks.
    """
    rows = await connection.fetch(_SQL["claim_lines"], now, size, failing_size, until, owner_size)
    return [Line(row["webhook_id"], until, row["is_failing"], row["idle_since"]) for row in rows]


async def next_delivery(connection: Connection, line: Line, now: datetime) -> DueDelivery | None:
    """Return the oldest delivery that is due; None if there is none, or the line is not held any more."""
    row = await connection.fetchrow(_SQL["next_delivery"], line.webhook_id, line.until, now)
    if row is None:
        return None
    return DueDelivery(row["delivery_id"], row["attempt_count"], webhook_of(row), notifications.from_row(row))


async def hold_line(connection: Connection, line: Line, until: datetime) -> Line | None:
    """Hold a line for longer; None if it is not held any more."""
    if not await connection.fetchval(_SQL["hold_line"], line.webhook_id, line.until, until):
        return None
    return line._replace(until=until)


async def give_line_back(connection: Connection, line: Line, again_at: datetime) -> None:
    """Let anybody claim a line that is held, from a time on."""
    await connection.execute(_SQL["give_line_back"], line.webhook_id, line.until, again_at)


async def note_success(
    connection: Connection, due: DueDelivery, *, status: int, attempt_time: datetime
) -> None:
    """Note that a delivery was made, so the webhook does not fail."""
    await connection.execute(_SQL["mark_well"], due.webhook.webhook_id)
    await connection.execute(_SQL["note_success"], due.delivery_id, attempt_time, status)


async def note_failure(
    connection: Connection,
    due: DueDelivery,
    *,
    status: int,
    error: str,
    attempt_time: datetime,
    next_time: datetime | None,
) -> None:
    """Note that an attempt has failed, and when the next one is; None: never."""
    await connection.execute(
        _SQL["note_failure"], due.delivery_id, attempt_time, status, error, next_time, due.attempt_count
    )


async def lock_webhook(connection: Connection, webhook_id: str) -> Webhook | None:
    """Lock a webhook until the transaction ends; None if it was deleted."""
    row = await connection.fetchrow(_SQL["lock_webhook"], webhook_id)
    return None if row is None else webhook_of(row)


async def mark_failing(
    connection: Connection, webhook_id: str, *, since: datetime, warn_time: datetime | None
) -> None:
    """Note since when a webhook fails, and when its owner was warned of that."""
    await connection.execute(_SQL["mark_failing"], webhook_id, since, warn_time)


async def disable(
    connection: Connection, webhook_id: str, reason: DisableReason, *, since: datetime, at: datetime
) -> None:
    """Disable a webhook, which gives its line back."""
    await connection.execute(_SQL["disable_webhook"], webhook_id, reason.value, since, at)


async def fail_deliveries_of_disabled(connection: Connection, *, created_before: datetime, size: int) -> int:
    """Give up to `size` deliveries of disabled webhooks up; return how many.

    Those of a webhook that its owner has disabled wait until they are as old as `created_before`.
    """
    return len(await connection.fetch(_SQL["fail_deliveries_of_disabled"], created_before, size))


def webhook_of(row: asyncpg.Record | Mapping[str, Any]) -> Webhook:
    """Return the webhook of a row, whose owner is in `webhook_owner_id`."""
    return Webhook(
        webhook_id=row["webhook_id"],
        owner_id=row["webhook_owner_id"],
        url=row["url"],
        description=row["description"],
        event_types=tuple(row["event_types"]),
        technical_contacts=tuple(
            TechnicalContact(each["name"], each["email"]) for each in json.loads(row["technical_contacts"])
        ),
        enabled=row["enabled"],
        disable_reason=DisableReason(row["disable_reason"]),
        create_time=row["create_time"],
        creator_id=row["creator_id"],
        update_time=row["update_time"],
        version=row["version"],
        secrets=tuple(map(_secret_version, json.loads(row["secrets"]))),
        failing_since=row["failing_since"],
        warn_time=row["warn_time"],
    )


def _secret_version(value: Mapping[str, Any]) -> SecretVersion:
    expire_time = value.get("expire_time")
    return SecretVersion(
        value["generation"], value["key_id"], datetime.fromisoformat(expire_time) if expire_time else None
    )
