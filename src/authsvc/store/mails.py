"""Mails: one for each notification and address. Those to one address may be parts of one message."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from authsvc.model.notification import Notification
from authsvc.store import notifications as notification_store
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("mails.sql")


class DueMail(NamedTuple):
    """A mail that is due. `message_id` is empty if it is not yet part of a message.

    `inbox` is what the limit of an address counts: addresses of one person have the same.
    """

    mail_number: int
    notification_id: str
    owner_id: str
    address: str
    inbox: str
    message_id: str


class Message(NamedTuple):
    """A message to send: its first notifications, and how many it is about."""

    message_id: str
    address: str
    contact_name: str
    attempt_count: int
    first_attempt_time: datetime
    notifications: Sequence[Notification]
    mail_count: int


async def has_due(connection: Connection, now: datetime) -> bool:
    """Return whether mails are due."""
    return bool(await connection.fetchval(_SQL["has_due_mails"], now))


async def list_due(connection: Connection, now: datetime, *, size: int) -> list[DueMail]:
    """Return the mails that are due for the longest time."""
    return [DueMail(*row) for row in await connection.fetch(_SQL["list_due_mails"], now, size)]


async def list_due_to(connection: Connection, address: str, now: datetime, *, size: int) -> list[DueMail]:
    """Return the oldest due mails to an address that are not yet parts of a message."""
    rows = await connection.fetch(_SQL["list_due_mails_to"], address, now, size)
    return [DueMail(*row) for row in rows]


async def list_of_message(connection: Connection, message_id: str, now: datetime) -> list[DueMail]:
    """Return the due mails of a message."""
    return [DueMail(*row) for row in await connection.fetch(_SQL["list_mails_of_message"], message_id, now)]


async def messages_to(connection: Connection, inbox: str, *, after: datetime) -> dict[str, datetime]:
    """Return when each message to an inbox was attempted last, by its id, the oldest first."""
    return _times(await connection.fetch(_SQL["list_messages_to"], inbox, after))


async def messages_about(connection: Connection, owner_id: str, *, after: datetime) -> dict[str, datetime]:
    """Return when each message about an owner was attempted last, by its id, the oldest first."""
    return _times(await connection.fetch(_SQL["list_messages_about"], owner_id, after))


def _times(rows: Sequence[asyncpg.Record]) -> dict[str, datetime]:
    return {row["message_id"]: row["attempt_time"] for row in rows}


async def claim(
    connection: Connection, mails: Sequence[DueMail], message_id: str, *, now: datetime, until: datetime
) -> None:
    """Make mails parts of a message that is being sent; `until` then, nobody else sends it."""
    numbers = [mail.mail_number for mail in mails]
    await connection.execute(_SQL["claim_mails"], numbers, message_id, now, until)


async def defer(connection: Connection, mails: Sequence[DueMail], until: datetime) -> None:
    """Let mails wait."""
    await connection.execute(_SQL["defer_mails"], [mail.mail_number for mail in mails], until)


async def defer_new_about(
    connection: Connection, owner_id: str, now: datetime, until: datetime, *, limit: int, size: int
) -> None:
    """Let up to `size` new mails about an owner wait: `limit` until a time, and others for hours longer."""
    await connection.execute(_SQL["defer_new_mails_about"], owner_id, now, until, limit, size)


async def read_message(connection: Connection, message_id: str, *, size: int) -> Message | None:
    """Return a message with the first `size` of its notifications; None if nothing of it is to be sent."""
    rows = await connection.fetch(_SQL["read_message"], message_id, size)
    if not rows:
        return None
    first = rows[0]
    return Message(
        message_id,
        first["address"],
        first["contact_name"],
        first["attempt_count"],
        first["first_attempt_time"],
        [notification_store.from_row(row) for row in rows],
        first["mail_count"],
    )


async def note_sent(connection: Connection, message_id: str, reply_code: int) -> None:
    """Note that the server has taken a message."""
    await connection.execute(_SQL["note_sent"], message_id, reply_code)


async def note_failed(connection: Connection, message_id: str, reply_code: int, error: str) -> None:
    """Note that a message is given up."""
    await connection.execute(_SQL["note_failed"], message_id, reply_code, error)


async def note_retry(
    connection: Connection, message_id: str, reply_code: int, error: str, next_time: datetime
) -> None:
    """Note that an attempt failed, and when the next one is."""
    await connection.execute(_SQL["note_retry"], message_id, reply_code, error, next_time)


async def release(connection: Connection, message_ids: Sequence[str], next_time: datetime) -> None:
    """Give back messages that were claimed and not attempted."""
    await connection.execute(_SQL["release_messages"], list(message_ids), next_time)


async def note_unreachable(
    connection: Connection,
    now: datetime,
    reply_code: int,
    error: str,
    *,
    given_up_before: datetime,
    size: int,
) -> int:
    """Note that due mails wait for a server out of reach; return how many are given up.

    These were first attempted before `given_up_before`.
    """
    rows = await connection.fetch(_SQL["note_unreachable"], now, given_up_before, size, reply_code, error)
    return sum(row["state"] == "failed" for row in rows)
