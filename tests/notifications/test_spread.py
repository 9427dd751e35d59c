"""Each change leaves a notification, and each notification gets to those who are to know."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from authsvc.model.notification import NotificationType
from tests.conftest import Clock, Service, serving

OPERATOR = "operator@example.org"
_CONTACTS = [{"name": "Ann", "email": "ann@Example.org"}, {"name": "Bob", "email": "bob@example.org"}]


@pytest_asyncio.fixture
async def told(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    """A service that mails."""
    async with serving(
        database_url, clock, smtp_url="smtp://127.0.0.1:1", mail_from="a@b.example", mail_operator=OPERATOR
    ) as running:
        yield running


async def _mails(database_url: str, service: Service) -> list[asyncpg.Record]:
    """Return all mails, when all notifications are spread."""
    connection = await asyncpg.connect(database_url)
    try:
        while await connection.fetchval(
            "SELECT count(*) FROM authsvc.notifications WHERE spread_time IS NULL"
        ):
            await service.app.notifying.spread.work()
        return await connection.fetch(
            "SELECT n.type, n.position, n.owner_id, n.subject, n.details, m.address, m.contact_name"
            "  FROM authsvc.mails m JOIN authsvc.notifications n USING (notification_id)"
            " ORDER BY n.number, m.address"
        )
    finally:
        await connection.close()


async def _create(service: Service, **fields: Any) -> Any:
    fields = {"owner_id": "acme", "display_name": "ci", "technical_contacts": _CONTACTS, **fields}
    return (await service.admin.CreateKey(**fields)).key


async def test_changes_of_a_key_reach_its_contacts(told: Service, database_url: str) -> None:
    """One mail for each address, with the position of the event in its owner's chain."""
    key = await _create(told)
    rotated = (await told.admin.RotateKey(key_id=key.key_id, grace_period=Duration(seconds=60))).key
    await told.admin.RevokeKey(key_id=rotated.key_id)
    await told.admin.DeleteKey(key_id=rotated.key_id)
    mails = await _mails(database_url, told)
    types = [
        NotificationType.KEY_CREATED,
        NotificationType.KEY_ROTATED,
        NotificationType.KEY_REVOKED,
        NotificationType.KEY_DELETED,
    ]
    assert [
        (mail["type"], mail["position"], mail["address"]) for mail in mails if mail["owner_id"] == "acme"
    ] == [
        (name, position, address)
        for position, name in enumerate(types, 1)
        for address in ("ann@example.org", "bob@example.org")
    ]
