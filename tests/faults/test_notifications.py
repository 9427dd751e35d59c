"""Workers die while they tell contacts and webhooks: nothing is lost, and little is told twice."""

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from authsvc.v1 import webhook_service_pb2 as webhook_pb
from authsvc.v1.webhook_service_pb2_grpc import WebhookServiceStub
from tests.e2e.process import eventually, free_port
from tests.faults.workers import Fleet, fleet

_CONTACTS = [{"name": f"Contact {n}", "email": f"contact-{n}@example.org"} for n in range(4)]
# So that no wait has to pass by itself: what dead workers have claimed becomes free.
_FREE = (
    "UPDATE authsvc.mails SET next_time = now() WHERE state = 'pending'",
    "UPDATE authsvc.webhooks SET line_time = now(), held_until = NULL",
    "UPDATE authsvc.webhook_deliveries SET next_time = now() WHERE state = 'pending'",
)


_LEFT = """
    SELECT (SELECT count(*) FROM authsvc.notifications WHERE spread_time IS NULL)
         + (SELECT count(*) FROM authsvc.mails WHERE state = 'pending')
         + (SELECT count(*) FROM authsvc.webhook_deliveries WHERE state = 'pending') AS number
"""


@dataclass
class Inbox:
    """What has arrived: by mail, the ids of messages; by HTTP, the ids of notifications."""

    messages: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    positions: set[int] = field(default_factory=set)

    @property
    def all(self) -> Counter[str]:
        return self.messages + self.calls

    async def more(self, number: int) -> None:
        """Wait until some more have arrived, or for a second."""
        wanted = self.all.total() + number
        with suppress(AssertionError):
            await eventually(lambda: self.all.total() >= wanted, 1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.messages[message_from_bytes(envelope.content)["Message-ID"]] += 1
        return "250 OK"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a call of the webhook, and accept it."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.calls[headers["webhook-id"]] += 1
            if body["data"]["owner_id"] == "acme":
                self.positions.add(body["data"]["position"])
            writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The worker was killed.
        finally:
            writer.close()


@asynccontextmanager
async def told(directory: Path, url: str) -> AsyncIterator[tuple[Fleet, Inbox]]:
    """Run two workers that send mail and call a webhook, and the receivers of both."""
    inbox, smtp_port = Inbox(), free_port()
    mail_server = Controller(inbox, hostname="127.0.0.1", port=smtp_port)
    mail_server.start()
    receiver = await asyncio.start_server(inbox.answer, "127.0.0.1", 0)
    try:
        settings: dict[str, Any] = {
            "smtp_url": f"smtp://127.0.0.1:{smtp_port}",
            "mail_from": "authsvc@example.org",
            "mail_operator": "operator@example.org",
            "mail_address_limit": 10_000,
            "mail_owner_limit": 100_000,
            "webhook_keys": base64.b64encode(b"k" * 32).decode(),
            "webhook_networks": "127.0.0.0/8",
        }
        async with fleet(directory, url, workers=2, lease=2, **settings) as on:
            [socket] = receiver.sockets
            address = f"http://127.0.0.1:{socket.getsockname()[1]}/hook"
            await WebhookServiceStub(on.workers[0].channel).CreateWebhook(
                webhook_pb.CreateWebhookRequest(owner_id="acme", url=address),
                metadata=[("authorization", f"Bearer {on.admin_key}")],
            )
            yield on, inbox
    finally:
        receiver.close()
        mail_server.stop()


async def _change(on: Fleet, numbers: list[int]) -> None:
    """Create a key for each number, and revoke it. Who has no answer asks the next worker."""
    for number in numbers:
        for attempt in range(40):
            try:
                worker = on.serving[(number + attempt) % len(on.serving)]
                made = await on.client(worker).CreateKey(
                    owner_id="acme", display_name=f"key {number}", technical_contacts=[_CONTACTS[number % 4]]
                )
                await on.client(worker).RevokeKey(key_id=made.key.key_id)
                break
            except Exception:  # noqa: BLE001 - it was killed
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_workers_are_killed_while_they_tell(tmp_path: Path, database_url: str) -> None:
    """Each audit event of a key is told by mail and to the webhook; a kill repeats one message at most."""
    dice, kills = random.Random(18), 6  # noqa: S311
    async with told(tmp_path, database_url) as (on, inbox):
        changing = asyncio.create_task(_change(on, list(range(60))))
        for _ in range(kills):
            await inbox.more(10)
            victim = dice.choice(on.workers)
            await victim.kill()
            await victim.start()
        await changing
        # What the dead had claimed becomes free by itself, but too late for a test. Nobody sends meanwhile.
        await on.end()
        for statement in _FREE:
            await on.sql(statement)
        await on.workers[0].start()
        async with asyncio.timeout(60):
            while (await on.sql(_LEFT))[0]["number"]:
                await inbox.more(1)
        events = await on.sql(
            "SELECT event_id, position FROM authsvc.audit_events WHERE owner_id = 'acme'"
            " AND action IN ('KEY_CREATED', 'KEY_REVOKED')"
        )
        mailed = await on.sql(
            "SELECT notification_id, message_id, state FROM authsvc.mails WHERE owner_id = 'acme'"
        )
    assert len(events) >= 120
    ids = {event["event_id"] for event in events}
    assert ids <= set(inbox.calls)
    assert {event["position"] for event in events} <= inbox.positions
    assert {mail["notification_id"] for mail in mailed} == ids
    assert {mail["state"] for mail in mailed} == {"sent"}
    assert {f"<{mail['message_id'].strip('<>')}>" for mail in mailed} <= set(inbox.messages)
    repeated = {name: count for name, count in inbox.all.items() if count > 1}
    assert sum(repeated.values()) - len(repeated) <= 2 * kills, repeated
