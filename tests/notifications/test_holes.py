"""A receiver that was out of reach finds by the positions that something is missing, and reads it."""

import asyncio
import json
from typing import Any

from authsvc.store import notifications as notification_store
from authsvc.v1 import audit_service_pb2 as audit_pb
from authsvc.v1 import webhook_service_pb2 as webhook_pb
from tests.conftest import Client, Clock, Service, eventually, serving
from tests.notifications.receiver import Receiver, receiving


class Follower:
    """A service of a user that has to know all events of an owner."""

    def __init__(self, caller: Client) -> None:
        self._caller = caller
        self.known: dict[int, str] = {}  # by position, up to one that nothing is missing before

    async def receive(self, body: bytes) -> None:
        data = json.loads(body)["data"]
        if data["position"] is None or data["position"] in self.known:
            return
        last = max(self.known, default=0)
        if data["position"] == last + 1:
            self.known[data["position"]] = data["event_id"]
            return
        token = ""
        while True:
            page = await self._caller.ListAuditEvents(
                owner_id="acme", filter={"after_position": last}, page_size=2, page_token=token
            )
            self.known |= {event.position: event.event_id for event in page.events}
            token = page.next_page_token
            if not token:
                return


async def test_a_receiver_reads_what_it_has_missed(database_url: str, clock: Clock) -> None:
    async with (
        receiving() as receiver,
        serving(database_url, clock, notifies=True, webhook_networks="127.0.0.1") as service,
    ):
        admin = service.admin
        made = await admin.CreateWebhook(owner_id="acme", url=f"http://127.0.0.1:{receiver.port}/")
        reader = await admin.CreateKey(owner_id="acme", display_name="reader", scopes=["audit_logs:read"])
        follower = Follower(service.as_caller(reader.key_string))
        await _arrived(receiver, reader.key.key_id)
        # What happens while a webhook is disabled is not delivered.
        await _enable(admin, made.webhook, enabled=False)
        for number in range(3):
            await admin.CreateKey(owner_id="acme", display_name=f"missed {number}")
        await _spread(service)
        await _enable(admin, made.webhook, enabled=True)
        last = (await admin.CreateKey(owner_id="acme", display_name="last")).key
        await _arrived(receiver, last.key_id)
        assert len(receiver.requests) == 2
        for request in receiver.requests:
            await follower.receive(request.body)
        events = (await admin.ListAuditEvents(owner_id="acme")).events
    assert follower.known == {event.position: event.event_id for event in events}
    assert sorted(follower.known) == list(range(1, 9))
    actions = [audit_pb.AuditAction.Name(event.action) for event in reversed(events)]
    assert [action.removeprefix("AUDIT_ACTION_") for action in actions] == [
        "WEBHOOK_CREATED",
        "KEY_CREATED",
        "WEBHOOK_UPDATED",
        "KEY_CREATED",
        "KEY_CREATED",
        "KEY_CREATED",
        "WEBHOOK_UPDATED",
        "KEY_CREATED",
    ]


async def _arrived(receiver: Receiver, key_id: str) -> None:
    async def ids() -> list[str]:
        await asyncio.sleep(0.01)
        return [json.loads(request.body)["data"]["key_id"] for request in receiver.requests]

    await eventually(ids, lambda found: key_id in found)


async def _spread(service: Service) -> None:
    """Wait until the recipients of all notifications are written down."""

    async def left() -> bool:
        await service.notifier.spread.work()
        async with service.app.database.connection() as connection:
            return await notification_store.has_unspread(connection, excluding=[])

    await eventually(left, lambda found: not found)


async def _enable(admin: Client, webhook: Any, *, enabled: bool) -> None:
    changed = webhook_pb.Webhook(webhook_id=webhook.webhook_id, enabled=enabled)
    await admin.UpdateWebhook(webhook=changed, update_mask={"paths": ["enabled"]})
