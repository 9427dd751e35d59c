"""The deliveries to webhooks: which line is due, and how each attempt went.

The deliveries of a webhook are its line: they are made one after the other. A notifier claims a line by
setting the webhook's `held_until`, and nobody else claims it before that time. The time also proves that the
line is still held, so no two holders have the same.
"""

from datetime import datetime
from typing import NamedTuple

from authsvc.model.notification import Notification
from authsvc.model.webhook import DisableReason, Webhook
from authsvc.store import notifications, webhooks
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
    """A delivery to make now. `attempt_count` is that of the attempts before.

    `trace_parent` is the `traceparent` of the call that it is about; "" if that is not traced.
    """

    delivery_id: str
    attempt_count: int
    webhook: Webhook
    notification: Notification
    trace_parent: str = ""


async def claim_lines(
    connection: Connection, now: datetime, until: datetime, *, size: int, failing_size: int, owner_size: int
) -> list[Line]:
    """Claim up to `size` lines that have a delivery to make, of failing webhooks at most `failing_size`.

    So many that all notifiers hold at most `owner_size` of an owner, and as many of its failing webhooks.
    """
    rows = await connection.fetch(_SQL["claim_lines"], now, size, failing_size, until, owner_size)
    return [Line(row["webhook_id"], until, row["is_failing"], row["idle_since"]) for row in rows]


async def next_delivery(connection: Connection, line: Line, now: datetime) -> DueDelivery | None:
    """Return the oldest delivery that is due; None if there is none, or the line is not held any more."""
    row = await connection.fetchrow(_SQL["next_delivery"], line.webhook_id, line.until, now)
    if row is None:
        return None
    # Both the webhook and the notification have an owner.
    webhook = webhooks.from_row({**row, "owner_id": row["webhook_owner_id"]})
    return DueDelivery(
        row["delivery_id"],
        row["attempt_count"],
        webhook,
        notifications.from_row(row),
        row["trace_parent"] or "",
    )


async def give_line_back(connection: Connection, line: Line, again_at: datetime) -> None:
    """Let anybody claim a line that is held, from a time on."""
    await connection.execute(_SQL["give_line_back"], line.webhook_id, line.until, again_at)


async def note_success(
    connection: Connection,
    line: Line,
    due: DueDelivery,
    *,
    status: int,
    attempt_time: datetime,
    until: datetime,
) -> Line | None:
    """Note that a delivery was made, so the webhook does not fail, and hold its line for longer.

    Returns None if the line is not held any more.
    """
    is_held = await connection.fetchval(
        _SQL["note_success"], due.delivery_id, attempt_time, status, line.webhook_id, line.until, until
    )
    return line._replace(until=until) if is_held else None


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
