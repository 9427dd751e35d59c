"""ListWebhookDeliveries, RedeliverWebhook, TestWebhook."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio

from authsvc.model.webhook import Attempt, Webhook
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.v1 import webhook_service_pb2 as pb
from tests.conftest import Clock, Service, eventually
from tests.notifications.test_webhook_service import line_time, register, set_columns, tenant, update
from tests.rpc.refusal import refused

NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
PENDING = pb.WEBHOOK_DELIVERY_STATE_PENDING
DELIVERED = pb.WEBHOOK_DELIVERY_STATE_DELIVERED
FAILED = pb.WEBHOOK_DELIVERY_STATE_FAILED
# The states of twelve deliveries, the oldest first.
STATES = ["pending", "delivered", "failed", "delivered", "delivered", "pending"] * 2
_INSERT_NOTIFICATIONS = """
    INSERT INTO authsvc.notifications (notification_id, type, owner_id, event_time, target_id, actor_id,
                                       actor_owner_id, actor_type, details, subject, contacts, spread_time)
    SELECT 'evt_' || n, 'key.created', $1, $3, '', '', '', '', '{}', '{}', '[]', $3
      FROM generate_series(1, $2::int) AS n
"""
# Attempts are due in a year, so that none is made.
_INSERT_DELIVERIES = """
    INSERT INTO authsvc.webhook_deliveries (
        delivery_id, webhook_id, notification_id, state, attempt_count, create_time, next_time, attempt_time,
        response_status, error)
    SELECT 'dlv_' || lpad(s.n::text, 26, '0'), $1, 'evt_' || s.n, s.state, 3, $3,
           $3::timestamptz + interval '1 year', $3, 500, 'answered with the status 500'
      FROM unnest($2::text[]) WITH ORDINALITY AS s (state, n)
"""


async def deliver(service: Service, webhook_id: str, states: list[str], owner_id: str = "acme") -> list[str]:
    """Write down deliveries in these states; return their ids."""
    async with service.app.database.connection() as connection:
        await connection.execute(_INSERT_NOTIFICATIONS, owner_id, len(states), service.clock())
        await connection.execute(_INSERT_DELIVERIES, webhook_id, states, service.clock())
    return [f"dlv_{number:026}" for number in range(1, len(states) + 1)]


async def listed(service: Service, webhook_id: str, **fields: Any) -> list[Any]:
    """Return the deliveries on all pages."""
    found: list[Any] = []
    token = ""
    while True:
        page = await service.admin.ListWebhookDeliveries(webhook_id=webhook_id, page_token=token, **fields)
        found += page.deliveries
        if not (token := page.next_page_token):
            return found


# -- Listing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 5, 12, 1000])
@pytest.mark.parametrize("wanted", [[], [PENDING], [FAILED], [DELIVERED, PENDING]])
async def test_pages(service: Service, page_size: int, wanted: list[int]) -> None:
    """Each delivery in one of the states is on one page, the newest first."""
    webhook_id = (await register(service)).webhook.webhook_id
    ids = await deliver(service, webhook_id, STATES)
    names: dict[int, str] = {PENDING: "pending", DELIVERED: "delivered", FAILED: "failed"}
    shown = {names[state] for state in wanted or names}
    expected = [each for each, state in zip(ids, STATES, strict=True) if state in shown][::-1]
    found = await listed(service, webhook_id, states=wanted, page_size=page_size)
    assert [each.delivery_id for each in found] == expected


async def test_what_is_shown(service: Service, clock: Clock) -> None:
    """All that the owner may know; the next attempt only where there will be one."""
    webhook_id = (await register(service)).webhook.webhook_id
    await deliver(service, webhook_id, ["failed", "pending"])
    pending, failed = await listed(service, webhook_id)
    expected = pb.WebhookDelivery(
        delivery_id=failed.delivery_id,
        webhook_id=webhook_id,
        notification_id="evt_1",
        owner_id="acme",
        type="key.created",
        state=FAILED,
        attempt_count=3,
        response_status=500,
        error="answered with the status 500",
    )
    expected.create_time.FromDatetime(clock.now)
    expected.last_attempt_time.FromDatetime(clock.now)
    assert failed == expected
    assert (pending.state, pending.HasField("next_attempt_time")) == (PENDING, True)


async def test_a_change_is_delivered_under_the_id_of_its_event(service: Service) -> None:
    """`notification_id` is the `event_id` in the audit log, for the owner and for the platform."""
    mine = (await register(service, event_types=["key.created"])).webhook.webhook_id
    all_owners = (await register(service, "authsvc", event_types=["key.created"])).webhook.webhook_id
    other = (await register(service, "globex", event_types=[])).webhook.webhook_id
    deaf = (await register(service, event_types=["key.deleted"])).webhook.webhook_id
    key = (await service.admin.CreateKey(owner_id="acme", display_name="x")).key
    [event] = (await service.admin.ListAuditEvents(owner_id="acme", filter={"target_id": key.key_id})).events
    async with asyncio.timeout(10):
        while not await listed(service, mine):
            await service.notifier.spread.work()
    for webhook_id in (mine, all_owners):
        # The first administrator's key was created as well.
        [delivery] = [each for each in await listed(service, webhook_id) if each.owner_id == "acme"]
        assert (delivery.notification_id, delivery.type, delivery.owner_id) == (
            event.event_id,
            "key.created",
            "acme",
        )
        assert delivery.delivery_id.startswith("dlv_")
    for webhook_id in (other, deaf):
        assert await listed(service, webhook_id) == []


async def test_a_page_token_is_of_one_query(service: Service) -> None:
    """That of another webhook or other states is refused."""
    mine, other = [(await register(service)).webhook.webhook_id for _ in range(2)]
    await deliver(service, mine, STATES)
    token = (await service.admin.ListWebhookDeliveries(webhook_id=mine, page_size=1)).next_page_token
    for fields in ({"webhook_id": other}, {"webhook_id": mine, "states": [PENDING]}):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.ListWebhookDeliveries(page_token=token, **fields)
        assert "page_token" in refusal.fields
    # All states, which is what no state means.
    everything = {"webhook_id": mine, "states": [FAILED, PENDING, DELIVERED]}
    assert (await service.admin.ListWebhookDeliveries(page_token=token, **everything)).deliveries


# -- Redelivering -------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "attempts"), [("delivered", 0), ("failed", 0), ("pending", 3)])
async def test_a_delivery_is_made_again(service: Service, clock: Clock, state: str, attempts: int) -> None:
    """It is due now, under the same ids; attempts start again unless it was pending."""
    webhook_id = (await register(service)).webhook.webhook_id
    [delivery_id] = await deliver(service, webhook_id, [state])
    [before] = await listed(service, webhook_id)
    clock.advance(hours=1)
    client = await tenant(service, scope="webhooks:write")
    again = await client.RedeliverWebhook(delivery_id=delivery_id)
    expected = pb.WebhookDelivery()
    expected.CopyFrom(before)
    expected.state, expected.attempt_count = PENDING, attempts
    expected.next_attempt_time.FromDatetime(clock.now)
    assert again == expected


@pytest.mark.parametrize(("failing", "seconds"), [("now()", 20), ("NULL", 300)])
async def test_a_pause_does_not_hold_up_a_redelivery(
    service: Service, clock: Clock, failing: str, seconds: int
) -> None:
    """Calls that are paused because they fail go on; a worker whose calls succeed is not disturbed."""
    webhook_id = (await register(service)).webhook.webhook_id
    [delivery_id] = await deliver(service, webhook_id, ["failed"])
    paused = f"line_time = '{clock.now + timedelta(minutes=5)}'"
    await set_columns(service, webhook_id, f"failing_since = {failing}, {paused}")
    await service.admin.RedeliverWebhook(delivery_id=delivery_id)
    assert await line_time(service, webhook_id) == clock.now + timedelta(seconds=seconds)


async def test_what_cannot_be_delivered_again(service: Service) -> None:
    """Unknown deliveries, and those of disabled webhooks, until they are enabled."""
    webhook_id = (await register(service)).webhook.webhook_id
    [delivery_id] = await deliver(service, webhook_id, ["failed"])
    with refused(NOT_FOUND, "DELIVERY_NOT_FOUND"):
        await service.admin.RedeliverWebhook(delivery_id="dlv_x")
    await update(service, webhook_id, "enabled")
    with refused(PRECONDITION, "WEBHOOK_DISABLED") as refusal:
        await service.admin.RedeliverWebhook(delivery_id=delivery_id)
    assert "enable it first" in refusal.message
    assert [each.state for each in await listed(service, webhook_id)] == [FAILED]
    await update(service, webhook_id, enabled=True)
    assert (await service.admin.RedeliverWebhook(delivery_id=delivery_id)).state == PENDING


async def test_deliveries_of_the_platform_are_its_own(service: Service) -> None:
    """Also those that are about the owner that asks."""
    webhook_id = (await register(service, "authsvc")).webhook.webhook_id
    [delivery_id] = await deliver(service, webhook_id, ["failed"], owner_id="acme")
    client = await tenant(service)
    with refused(NOT_FOUND, "DELIVERY_NOT_FOUND"):
        await client.RedeliverWebhook(delivery_id=delivery_id)
    with refused(NOT_FOUND, "WEBHOOK_NOT_FOUND"):
        await client.ListWebhookDeliveries(webhook_id=webhook_id)


# -- Tests --------------------------------------------------------------------------------------


class Calls:
    """Stands in for the network: what was called, and how that ends."""

    def __init__(self) -> None:
        self.made: list[tuple[Webhook, str, dict[str, Any]]] = []
        self.attempt = Attempt(204)
        self.answers = asyncio.Event()
        self.answers.set()
        self.began = asyncio.Event()

    async def call(self, webhook: Webhook, message_id: str, body: bytes) -> Attempt:
        self.made.append((webhook, message_id, json.loads(body)))
        self.began.set()
        await self.answers.wait()
        return self.attempt


@pytest_asyncio.fixture(autouse=True)
async def calls(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Calls]:
    calls = Calls()
    monkeypatch.setattr(WebhookCaller, "call", lambda _, *given: calls.call(*given))
    yield calls


async def test_a_test_is_one_call(service: Service, calls: Calls) -> None:
    """With a type of its own and an id of its own; nothing is written down, so nothing is retried."""
    client = await tenant(service)
    made = (await register(service)).webhook
    before = await service.admin.ListAuditEvents(owner_id="acme")
    answer = await client.TestWebhook(webhook_id=made.webhook_id)
    assert (answer.delivered, answer.response_status, answer.error) == (True, 204, "")
    [(webhook, message_id, body)] = calls.made
    assert (webhook.webhook_id, message_id) == (made.webhook_id, answer.message_id)
    assert message_id.startswith("test_")
    assert (body["type"], body["timestamp"]) == ("webhook.test", "2026-11-21T12:00:00Z")
    data = body["data"]
    assert (data["owner_id"], data["target_id"], data["position"]) == ("acme", made.webhook_id, None)
    assert data["event_id"] == message_id
    assert await service.admin.GetWebhook(webhook_id=made.webhook_id) == made
    assert await listed(service, made.webhook_id) == []
    assert await service.admin.ListAuditEvents(owner_id="acme") == before


async def test_a_test_that_fails_is_an_answer(service: Service, calls: Calls) -> None:
    """With the status and why; a disabled webhook is called as well."""
    made = (await register(service, disabled=True)).webhook
    calls.attempt = Attempt(503, "answered with the status 503")
    answer = await service.admin.TestWebhook(webhook_id=made.webhook_id)
    assert (answer.delivered, answer.response_status) == (False, 503)
    assert answer.error == "answered with the status 503"
    assert not (await service.admin.GetWebhook(webhook_id=made.webhook_id)).HasField("failing_since")


async def test_a_webhook_is_tested_once_at_a_time(service: Service, calls: Calls) -> None:
    """A second test is refused until the first one has ended, also by a client that went away."""
    made = (await register(service)).webhook.webhook_id
    calls.answers.clear()
    first = asyncio.ensure_future(service.admin.TestWebhook(webhook_id=made))
    await calls.began.wait()
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "WEBHOOK_TEST_IN_PROGRESS") as refusal:
        await service.admin.TestWebhook(webhook_id=made)
    assert refusal.retry_seconds == 1
    other = (await register(service)).webhook.webhook_id
    second = asyncio.ensure_future(service.admin.TestWebhook(webhook_id=other))
    calls.answers.set()
    assert (await first).delivered
    assert (await second).delivered
    calls.answers.clear()
    calls.began.clear()
    left = asyncio.ensure_future(service.admin.TestWebhook(webhook_id=made))
    await calls.began.wait()
    left.cancel()

    async def in_test() -> int:
        await asyncio.sleep(0)
        return len(service.app.webhooks._in_test)

    await eventually(in_test, lambda count: count == 0)
    calls.answers.set()
    assert (await service.admin.TestWebhook(webhook_id=made)).delivered


async def test_a_test_holds_nothing_of_the_database(service: Service, calls: Calls) -> None:
    """However long the receiver takes."""
    made = (await register(service)).webhook.webhook_id
    calls.answers.clear()
    testing = asyncio.ensure_future(service.admin.TestWebhook(webhook_id=made))
    await calls.began.wait()
    async with service.app.database.connection() as connection:
        others = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        )
    assert others == 0
    await service.admin.DeleteWebhook(webhook_id=made)
    calls.answers.set()
    assert (await testing).delivered
