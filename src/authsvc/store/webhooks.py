"""Webhooks in the database, and their deliveries as they are shown."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from authsvc.model.key import TechnicalContact
from authsvc.model.webhook import DisableReason, SecretVersion, Webhook
from authsvc.model.webhook_delivery import DeliveryQuery, DeliveryState, WebhookDelivery
from authsvc.store.audit import instant_text
from authsvc.store.pages import fetch, page_of
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("webhooks.sql")


async def count(connection: Connection, owner_id: str) -> int:
    """Return the number of an owner's webhooks. Until this transaction ends, no other one counts them."""
    await connection.execute(_SQL["lock_webhook_count"], owner_id)
    return int(await connection.fetchval(_SQL["count_webhooks"], owner_id))


async def insert(connection: Connection, webhook: Webhook) -> None:
    """Insert a new webhook."""
    await connection.execute(
        _SQL["insert_webhook"],
        webhook.webhook_id,
        webhook.owner_id,
        webhook.url,
        webhook.description,
        webhook.event_types,
        _contacts_json(webhook),
        webhook.enabled,
        webhook.create_time,
        webhook.creator_id,
        webhook.update_time,
        webhook.version,
        _secrets_json(webhook),
    )


async def find(
    connection: Connection, webhook_id: str, *, owner_id: str | None, lock: bool = False
) -> Webhook | None:
    """Return a webhook, if there is one; with `owner_id`, only of this owner.

    With `lock`, nobody else changes it until the transaction ends.
    """
    name = "lock_webhook" if lock else "find_webhook"
    row = await connection.fetchrow(_SQL[name], webhook_id, owner_id)
    return None if row is None else from_row(row)


async def page(
    connection: Connection, owner_id: str, *, size: int, after: str
) -> tuple[Sequence[Webhook], bool]:
    """Return at most `size` webhooks of an owner that follow an id, and whether there are more."""
    found = await fetch(connection, _SQL["list_webhooks"], owner_id, after, size + 1, size=size)
    return page_of(found, size, from_row)


async def update(connection: Connection, webhook: Webhook, *, call_at: datetime | None = None) -> None:
    """Write all that can change of a locked webhook. Calls of it that are paused go on at `call_at`."""
    await connection.execute(
        _SQL["update_webhook"],
        webhook.webhook_id,
        webhook.url,
        webhook.description,
        webhook.event_types,
        _contacts_json(webhook),
        webhook.enabled,
        webhook.disable_reason.value,
        webhook.update_time,
        webhook.version,
        _secrets_json(webhook),
        webhook.failing_since,
        webhook.warn_time,
        call_at,
    )


async def delete_deliveries(connection: Connection, webhook_id: str, *, size: int) -> int:
    """Delete up to `size` deliveries of a webhook; return how many. Until the commit, no purge does."""
    await connection.execute(_SQL["hold_purge"])
    return len(await connection.fetch(_SQL["delete_deliveries"], webhook_id, size))


async def delete(connection: Connection, webhook_id: str) -> None:
    """Delete a webhook and its deliveries."""
    await connection.execute(_SQL["delete_webhook"], webhook_id)


async def delivery_page(
    connection: Connection, query: DeliveryQuery, *, size: int, before: str
) -> tuple[Sequence[WebhookDelivery], bool]:
    """Return at most `size` deliveries that come before an id, and whether there are more."""
    where = query.webhook_id, [state.value for state in query.states], before or None
    found = await fetch(connection, _SQL["list_deliveries"], *where, size + 1, size=size)
    return page_of(found, size, _delivery)


async def lock_delivery(
    connection: Connection, delivery_id: str, *, owner_id: str | None, call_at: datetime
) -> tuple[WebhookDelivery, bool] | None:
    """Lock a delivery; return it, and whether its webhook is enabled.

    Calls of the webhook that are paused because they fail go on at `call_at`. None if there is no such
    delivery, or, with `owner_id`, none of a webhook of this owner.
    """
    await connection.execute(_SQL["hasten"], delivery_id, owner_id, call_at)
    row = await connection.fetchrow(_SQL["lock_delivery"], delivery_id, owner_id)
    return None if row is None else (_delivery(row), row["enabled"])


async def update_delivery(connection: Connection, delivery: WebhookDelivery) -> None:
    """Write the state, the attempts and the next time of a locked delivery."""
    await connection.execute(
        _SQL["update_delivery"],
        delivery.delivery_id,
        delivery.state.value,
        delivery.attempt_count,
        delivery.next_time,
    )


async def count_by_key(connection: Connection, now: datetime) -> Mapping[str, int]:
    """Return how many webhooks sign with a secret of each key of the operator, by the id of the key."""
    rows = await connection.fetch(_SQL["count_webhooks_by_key"], now)
    return {row["key_id"]: row["webhooks"] for row in rows}


def from_row(row: asyncpg.Record | Mapping[str, Any]) -> Webhook:
    """Return the webhook of a row of `webhooks`."""
    return Webhook(
        webhook_id=row["webhook_id"],
        owner_id=row["owner_id"],
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
        secrets=tuple(
            SecretVersion(
                each["generation"],
                each["key_id"],
                datetime.fromisoformat(each["expire_time"]) if each["expire_time"] else None,
            )
            for each in json.loads(row["secrets"])
        ),
        failing_since=row["failing_since"],
        warn_time=row["warn_time"],
    )


def _delivery(row: asyncpg.Record) -> WebhookDelivery:
    return WebhookDelivery(
        delivery_id=row["delivery_id"],
        webhook_id=row["webhook_id"],
        notification_id=row["notification_id"],
        owner_id=row["owner_id"],
        type=row["type"],
        state=DeliveryState(row["state"]),
        attempt_count=row["attempt_count"],
        create_time=row["create_time"],
        next_time=row["next_time"],
        attempt_time=row["attempt_time"],
        response_status=row["response_status"],
        error=row["error"],
    )


def _contacts_json(webhook: Webhook) -> str:
    return json.dumps([{"name": each.name, "email": each.email} for each in webhook.technical_contacts])


def _secrets_json(webhook: Webhook) -> str:
    return json.dumps([version._asdict() for version in webhook.secrets], default=instant_text)
