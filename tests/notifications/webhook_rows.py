"""Rows of webhooks and deliveries, as the service would write them."""

import json
from base64 import b64encode
from datetime import datetime
from typing import Any

import asyncpg

from authsvc.notifications.webhooks.signing_keys import SigningKeys

KEY = b"k" * 32
#: A value of AUTHSVC_WEBHOOK_KEYS.
SETTING = b64encode(KEY).decode()
KEYS = SigningKeys([KEY])

_WEBHOOK = """
INSERT INTO authsvc.webhooks (
    webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, create_time, creator_id,
    update_time, version, secrets, line_time)
VALUES ($1, $2, $3, '', $4, $5, true, $6, 'key_1', $6, 1, $7, $6)
"""
_DELIVERY = """
WITH told AS (
    INSERT INTO authsvc.notifications (
        notification_id, type, owner_id, event_time, position, target_id, actor_id, actor_owner_id,
        actor_type, details, subject, contacts, spread_time)
    VALUES ($2, 'key.created', 'acme', $4, 1, 'key_1', '', '', '', '{}', '{}', '[]', $4)
    RETURNING notification_id)
INSERT INTO authsvc.webhook_deliveries (delivery_id, webhook_id, notification_id, create_time, next_time)
SELECT $1, $3, notification_id, $4, $4 FROM told
"""


async def insert_webhook(
    connection: "asyncpg.Connection[asyncpg.Record]",
    now: datetime,
    webhook_id: str = "whk_1",
    *,
    url: str = "https://hooks.example.com/",
    owner_id: str = "acme",
    contacts: list[dict[str, str]] | None = None,
    event_types: list[str] | None = None,
    key_id: str = KEYS.current_id,
) -> None:
    """Insert a webhook with one secret."""
    secrets = json.dumps([{"generation": 1, "key_id": key_id, "expire_time": None}])
    await connection.execute(
        _WEBHOOK, webhook_id, owner_id, url, event_types or [], json.dumps(contacts or []), now, secrets
    )


async def insert_deliveries(
    connection: "asyncpg.Connection[asyncpg.Record]",
    now: datetime,
    count: int = 1,
    webhook_id: str = "whk_1",
    *,
    start: int = 1,
) -> list[str]:
    """Insert deliveries; return the ids of their notifications, in the order of creation."""
    numbers = range(start, start + count)
    for number in numbers:
        await connection.execute(
            _DELIVERY, f"dlv_{webhook_id}_{number:05}", f"evt_{webhook_id}_{number}", webhook_id, now
        )
    return [f"evt_{webhook_id}_{number}" for number in numbers]


async def deliveries(connection: "asyncpg.Connection[asyncpg.Record]") -> list[dict[str, Any]]:
    """Return all deliveries, in the order of creation."""
    rows = await connection.fetch("SELECT * FROM authsvc.webhook_deliveries ORDER BY delivery_id")
    return [dict(row) for row in rows]


async def webhook(
    connection: "asyncpg.Connection[asyncpg.Record]", webhook_id: str = "whk_1"
) -> dict[str, Any]:
    """Return a webhook."""
    row = await connection.fetchrow("SELECT * FROM authsvc.webhooks WHERE webhook_id = $1", webhook_id)
    assert row is not None
    return dict(row)
