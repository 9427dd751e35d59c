"""From a change of a key to the request that a webhook receives, through the whole service."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from authsvc.model.webhook import SecretVersion
from authsvc.notifications.webhooks import sender as sender_module
from tests.conftest import Clock, eventually, serving
from tests.notifications.receiver import Receiver, answering, receiving
from tests.notifications.webhook_rows import KEYS, SETTING, insert_deliveries, insert_webhook, webhook


async def _ids(receiver: Receiver) -> list[str]:
    await asyncio.sleep(0.01)
    return receiver.ids


async def _types(receiver: Receiver) -> list[str]:
    await asyncio.sleep(0.01)
    return [json.loads(request.body)["type"] for request in receiver.requests]


# rule 29
async def test_webhooks_are_told_of_changes(database_url: str) -> None:
    """That of the owner, and that of the platform; each with the position in the owner's chain."""
    connection = await asyncpg.connect(database_url)
    now = datetime.now(UTC) - timedelta(minutes=1)
    async with receiving() as receiver, receiving() as platform, receiving() as other:
        for name, owner_id, to in (
            ("a", "acme", receiver),
            ("b", "authsvc", platform),
            ("c", "other", other),
        ):
            await insert_webhook(
                connection, now, f"whk_{name}", url=f"http://127.0.0.1:{to.port}/", owner_id=owner_id
            )
        async with serving(
            database_url, None, notifies=True, webhook_keys=SETTING, webhook_networks="127.0.0.0/8"
        ) as service:
            key = (await service.admin.CreateKey(owner_id="acme", display_name="ci")).key
            await service.admin.RevokeKey(key_id=key.key_id)
            events = (await service.admin.ListAuditEvents(owner_id="acme")).events
            await eventually(lambda: _ids(receiver), lambda ids: len(ids) == 2)
            await eventually(lambda: _types(platform), lambda types: types[-1:] == ["key.revoked"])
    for request, kind, position in zip(
        receiver.requests, ("key.created", "key.revoked"), (1, 2), strict=True
    ):
        verifier = Verifier(KEYS.shown("whk_a", SecretVersion(1, KEYS.current_id)))
        body = verifier.verify(request.body, request.headers)
        assert (body["type"], body["data"]["position"]) == (kind, position)
        assert body["data"]["key_id"] == key.key_id
        assert body["data"]["owner_id"] == "acme"
        assert request.headers["webhook-id"] == body["data"]["event_id"]
    assert sorted(receiver.ids) == sorted(event.event_id for event in events)
    assert other.connections == 0
    await connection.close()


async def test_a_webhook_that_is_gone(database_url: str, clock: Clock) -> None:
    """Its technical contacts get a mail; of one without contacts, the operator does."""
    connection = await asyncpg.connect(database_url)
    async with receiving(answering(410)) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
        contacts = [{"name": "Ann", "email": "ann@example.org"}]
        await insert_webhook(connection, clock(), "whk_a", url=url, contacts=contacts)
        await insert_webhook(connection, clock(), "whk_b", url=url)
        async with serving(
            database_url,
            clock,
            notifies=True,
            webhook_keys=SETTING,
            webhook_networks="127.0.0.0/8",
            smtp_url="smtp://127.0.0.1:1",
            mail_from="a@b.example",
            mail_operator="operator@example.org",
        ) as service:
            await service.admin.CreateKey(owner_id="acme", display_name="ci")

            async def mails() -> set[tuple[str, str]]:
                rows = await connection.fetch(
                    "SELECT n.target_id, m.address FROM authsvc.mails m"
                    "  JOIN authsvc.notifications n USING (notification_id) WHERE n.type = 'webhook.disabled'"
                )
                return {(row["target_id"], row["address"]) for row in rows}

            await eventually(mails, lambda found: len(found) == 2)
            metrics = {
                sample.labels["outcome"]: sample.value
                for family in service.notifier_registry.collect()
                for sample in family.samples
                if sample.name == "authsvc_notification_attempts_total"
            }
            assert (metrics["webhook_delivered"], metrics["webhook_failed"]) == (0, 2)
            assert await mails() == {("whk_a", "ann@example.org"), ("whk_b", "operator@example.org")}
    assert receiver.connections == 2
    await connection.close()


async def test_a_stop_of_the_service_gives_lines_back(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that never answers does not hold it up, and another replica goes on at once."""
    monkeypatch.setattr(sender_module, "_STOP_SECONDS", 0.01)
    called = asyncio.Event()

    async def hang(*_: object) -> None:
        called.set()
        await asyncio.Event().wait()

    connection = await asyncpg.connect(database_url)
    async with receiving(hang) as receiver:
        await insert_webhook(connection, clock(), url=f"http://127.0.0.1:{receiver.port}/")
        await insert_deliveries(connection, clock())
        async with serving(
            database_url, clock, notifies=True, webhook_keys=SETTING, webhook_networks="127.0.0.0/8"
        ):
            await called.wait()
            assert (await webhook(connection))["held_until"] is not None
        assert (await webhook(connection))["held_until"] is None
    await connection.close()


@pytest.mark.parametrize("keys", ["", SETTING])
async def test_without_keys_nothing_is_delivered(keys: str, database_url: str, clock: Clock) -> None:
    async with serving(database_url, clock, webhook_keys=keys) as service:
        assert (service.notifier.webhooks is None) is (not keys)
