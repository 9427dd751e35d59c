"""What is to be sent, was sent or has failed, by mail and to webhooks, as operators see it."""

from datetime import datetime
from typing import NamedTuple

from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("sending.sql")


class Sending(NamedTuple):
    """A notification for one recipient: an address, or a webhook."""

    notification_id: str
    type: str
    owner_id: str
    recipient: str
    state: str  # pending, sent, delivered or failed
    attempt_count: int
    attempt_time: datetime | None  # of the last attempt
    next_time: datetime | None  # of the next attempt; None if there is none
    status: int  # of the last answer, by SMTP or HTTP; 0: none
    error: str


class Pending(NamedTuple):
    """How much of a kind waits to be sent, and since when the oldest of it that is due has been."""

    kind: str  # notification: its recipients are not written down; mail; webhook
    number: int
    due_since: datetime | None


async def find(
    connection: Connection, *, states: list[str], owner_id: str, notification_id: str, size: int
) -> list[Sending]:
    """Return the newest `size` of these states; those of an owner and of a notification, if given."""
    rows = await connection.fetch(_SQL["list_sending"], states, owner_id, notification_id, size)
    return [Sending(*row) for row in rows]


async def retry(connection: Connection, notification_id: str, at: datetime, *, size: int) -> int:
    """Have what had failed `at` a time sent again; of all notifications if the id is empty.

    At most `size` mails and as many deliveries. Webhooks that are disabled are left out. Returns how many
    will be sent.
    """
    retried: int = await connection.fetchval(_SQL["retry"], notification_id, at, size)
    return retried


async def count_pending(connection: Connection, now: datetime) -> list[Pending]:
    """Return what waits, by kind. The numbers are bounded, so that counting takes milliseconds."""
    return [Pending(*row) for row in await connection.fetch(_SQL["count_pending"], now)]
