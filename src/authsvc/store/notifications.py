"""The outbox of notifications, and who is to get each of them."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from authsvc.model.client_hints import ClientHints
from authsvc.model.key import TechnicalContact
from authsvc.model.look_up import shown
from authsvc.model.notification import Notification
from authsvc.store.audit import instant_text
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("notifications.sql")
# How many sessions of an owner are compared, to say whether a device was seen before.
_MAX_SESSIONS_READ = 10_000
# How many different user agents of these, since each takes some 0.2 ms to read.
_MAX_AGENTS_READ = 1000


class Mail(NamedTuple):
    """A notification for one address, which is to be sent."""

    notification_id: str
    owner_id: str
    address: str
    contact_name: str


class WebhookDelivery(NamedTuple):
    """A notification for one webhook, which is to be sent."""

    delivery_id: str
    webhook_id: str
    notification_id: str


@dataclass(frozen=True, slots=True)
class ListeningWebhook:
    """An enabled webhook, and what it wants to be told. No types: all of them."""

    webhook_id: str
    owner_id: str
    event_types: frozenset[str]


async def list_unspread(
    connection: Connection, *, size: int, excluding: Collection[str] = ()
) -> list[Notification]:
    """Return the oldest notifications whose recipients are not written down."""
    rows = await connection.fetch(_SQL["list_unspread"], size, list(excluding))
    return [from_row(row) for row in rows]


async def has_unspread(connection: Connection, *, excluding: Collection[str] = ()) -> bool:
    """Return whether there are notifications whose recipients are not written down."""
    return bool(await connection.fetchval(_SQL["has_unspread"], list(excluding)))


async def mark_spread(connection: Connection, notification_ids: Collection[str], at: datetime) -> None:
    """Note that the recipients of notifications are written down."""
    await connection.execute(_SQL["mark_spread"], list(notification_ids), at)


async def drop(connection: Connection, notification_ids: Collection[str]) -> None:
    """Delete notifications that nobody is to be told of."""
    await connection.execute(_SQL["drop_notifications"], list(notification_ids))


async def insert(connection: Connection, notifications: Iterable[Notification]) -> None:
    """Insert notifications that are no audit events, such as warnings."""
    rows = [
        {
            "notification_id": each.notification_id,
            "type": each.type,
            "owner_id": each.owner_id,
            "event_time": each.event_time,
            "target_id": each.target_id,
            "actor_id": each.actor_id,
            "actor_owner_id": each.actor_owner_id,
            "actor_type": each.actor_type,
            "details": dict(each.details),
            "subject": dict(each.subject),
            "contacts": _plain(each.contacts),
        }
        for each in notifications
    ]
    await connection.execute(_SQL["insert_notifications"], json.dumps(rows, default=instant_text))


async def add_contacts(
    connection: Connection, notification_id: str, contacts: Sequence[TechnicalContact]
) -> None:
    """Have a notification go to further contacts, in the transaction that wrote it."""
    await connection.execute(_SQL["add_contacts"], notification_id, json.dumps(_plain(contacts)))


async def contacts_of_revoked_keys(
    connection: Connection, owner_id: str, at: datetime
) -> list[TechnicalContact]:
    """Return the contacts of all keys of an owner that were revoked at once; each address once."""
    rows = await connection.fetch(_SQL["list_contacts_of_revoked_keys"], owner_id, at, timeout=60)
    return [TechnicalContact(row["name"], row["email"]) for row in rows]


async def insert_mails(connection: Connection, mails: Sequence[Mail], at: datetime) -> None:
    """Write down the mails to send, once each."""
    if mails:
        await connection.execute(_SQL["insert_mails"], json.dumps([mail._asdict() for mail in mails]), at)


async def listening_webhooks(connection: Connection, owner_ids: Collection[str]) -> list[ListeningWebhook]:
    """Return the enabled webhooks of these owners and of the platform."""
    rows = await connection.fetch(_SQL["list_listening_webhooks"], list(owner_ids))
    return [
        ListeningWebhook(row["webhook_id"], row["owner_id"], frozenset(row["event_types"])) for row in rows
    ]


async def insert_webhook_deliveries(
    connection: Connection, deliveries: Sequence[WebhookDelivery], at: datetime
) -> None:
    """Write down the deliveries to make, once each."""
    if deliveries:
        rows = json.dumps([delivery._asdict() for delivery in deliveries])
        await connection.execute(_SQL["insert_webhook_deliveries"], rows, at)


async def insert_trace_parents(connection: Connection, parents: Mapping[str, str]) -> None:
    """Write down the `traceparent` of notifications, by their ids; those that are deleted are left out."""
    await connection.execute(_SQL["insert_trace_parents"], list(parents), list(parents.values()))


async def devices_before(
    connection: Connection, owner_id: str, session_id: str, created: datetime
) -> list[tuple[str, ClientHints]]:
    """Return the user agents and hints of an owner's sessions that were created before this one."""
    rows = await connection.fetch(
        _SQL["list_devices"], owner_id, session_id, created, _MAX_SESSIONS_READ, _MAX_AGENTS_READ
    )
    return [(row["user_agent"], ClientHints.of_json(row["client_hints"])) for row in rows]


async def delete_old(
    connection: Connection, *, spread_before: datetime, kept_after: datetime, size: int
) -> tuple[int, int]:
    """Delete up to `size` old notifications with their deliveries; return how many, and how many waited.

    Those of which something waits to be sent are only deleted if they were spread before `kept_after`.
    """
    rows = await connection.fetch(_SQL["delete_old_notifications"], spread_before, kept_after, size)
    return len(rows), sum(row["waits"] for row in rows)


def _plain(contacts: Iterable[TechnicalContact]) -> list[dict[str, str]]:
    return [{"name": contact.name, "email": contact.email} for contact in contacts]


def from_row(row: asyncpg.Record | Mapping[str, Any]) -> Notification:
    """Return the notification of a row of `notifications`."""
    return Notification(
        notification_id=row["notification_id"],
        type=row["type"],
        owner_id=row["owner_id"],
        event_time=row["event_time"],
        position=row["position"],
        target_id=row["target_id"],
        actor_id=row["actor_id"],
        actor_owner_id=row["actor_owner_id"],
        actor_type=row["actor_type"],
        details=json.loads(row["details"]),
        subject=_subject(row["subject"]),
        contacts=tuple(TechnicalContact(each["name"], each["email"]) for each in json.loads(row["contacts"])),
    )


def _subject(text: str) -> dict[str, Any]:
    """Return what a notification is about; of an imported key, the beginning of its digest."""
    subject: dict[str, Any] = json.loads(text)
    if prefix := subject.get("key_prefix"):
        subject["key_prefix"] = shown(prefix)
    return subject
