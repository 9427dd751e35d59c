"""Each type of notification: the mail that arrived, and the request that a webhook received (rule 29)."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from standardwebhooks.webhooks import Webhook as Verifier

from authsvc.model.notification import NotificationType
from tests.conftest import Clock, Service, eventually, serving
from tests.notifications.receiver import Receiver, Request, answering, receiving
from tests.notifications.smtp import Arrived, StubServer, mail_server
from tests.notifications.test_warnings import walk

DOCUMENT = Path(__file__).parents[2] / "docs/notifications.md"
DAY = timedelta(days=1)
OPERATOR, ANN, HOOKS = "operator@example.org", "ann@example.org", "hooks@example.org"
SETTINGS: Mapping[str, Any] = {
    "mail_from": "authsvc@example.org",
    "mail_operator": OPERATOR,
    "mail_address_limit": 1000,
    "webhook_networks": "127.0.0.1",
}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def contact(address: str) -> dict[str, str]:
    return {"name": "Somebody", "email": address}


class Scene:
    """A service, the mail server that it uses, and a webhook of acme for all types."""

    def __init__(self, service: Service, mails: StubServer, receiver: Receiver, secret: str) -> None:
        self.service, self.admin, self.clock = service, service.admin, service.clock
        self._mails, self._receiver, self._verifier = mails, receiver, Verifier(secret)
        self.told, self.fields = set[str](), set[str]()

    async def create(self, name: str, address: str = ANN, **fields: Any) -> Any:
        fields = {
            "owner_id": "acme",
            "display_name": name,
            "technical_contacts": [contact(address)],
            **fields,
        }
        made = await self.admin.CreateKey(**fields)
        await self.notified("key.created", address)
        return made

    async def notified(self, kind: str, address: str = ANN) -> tuple[Arrived, dict[str, Any]]:
        """Return the mail to this address and the body of the request, both about one notification."""

        async def requests() -> list[Request]:
            await self._send()
            return [each for each in self._receiver.requests if json.loads(each.body)["type"] == kind]

        await eventually(requests, lambda found: bool(found))
        [request] = await requests()
        self._receiver.requests.remove(request)
        sent = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
        assert sent == self.clock()
        signature = self._verifier.sign(request.headers["webhook-id"], sent, request.body.decode())
        assert request.headers["webhook-signature"] == signature
        body: dict[str, Any] = json.loads(request.body)
        data = body["data"]
        assert data["event_id"] == request.headers["webhook-id"]
        assert data["owner_id"] == "acme"

        async def mails() -> list[Arrived]:
            await self._send()
            about = f"<{data['event_id']}."
            return [each for each in self._mails.arrived if each.message["Message-ID"].startswith(about)]

        await eventually(mails, lambda found: bool(found))
        [mail] = await mails()
        assert mail.recipient == address
        assert "Owner: acme" in mail.text
        for name, label in (("key_id", "Key ID"), ("key_prefix", "Prefix"), ("display_name", "Key")):
            if name in data:
                assert f"{label}: {data[name]}\n" in mail.text
                assert f"{data[name]}</td>" in mail.html
        self.told.add(kind)
        self.fields |= set(data)
        return mail, data

    async def _send(self) -> None:
        """Do what the service does twice a second."""
        notifier = self.service.notifier
        assert notifier.mail is not None
        assert notifier.webhooks is not None
        await notifier.spread.work()
        await notifier.mail.work()
        await notifier.webhooks.look()
        await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def scene(database_url: str, clock: Clock) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        mails = await stack.enter_async_context(mail_server())
        receiver = await stack.enter_async_context(receiving())
        service = await stack.enter_async_context(
            serving(database_url, clock, smtp_url=f"smtp://127.0.0.1:{mails.port}", **SETTINGS)
        )
        made = await service.admin.CreateWebhook(owner_id="acme", url=f"http://127.0.0.1:{receiver.port}/")
        await walk(service)
        yield Scene(service, mails, receiver, made.secret)


async def test_each_type_by_mail_and_by_webhook(scene: Scene, database_url: str) -> None:  # rule 29
    await _changes(scene)
    await _of_the_owner(scene)
    await _warnings(scene)
    await _of_webhooks(scene, database_url)
    assert scene.told == {each.value for each in NotificationType}
    told = DOCUMENT.read_text("utf-8").partition("`data` has, ")[2].partition("\n\n`webhook-id` is")[0]
    assert set(re.findall(r"`([a-z_]+)`", told)) == scene.fields | {"null", "timestamp"}


async def _changes(scene: Scene) -> None:
    admin = scene.admin
    made = await scene.create("Orders", scopes=["orders:read"])
    key = made.key
    await admin.VerifyKey(key_string=made.key_string)
    await scene.service.flush()

    scene.clock.advance(minutes=1)
    key.description = "of the shop"
    await admin.UpdateKey(key=key, update_mask=FieldMask(paths=["description"]))
    mail, data = await scene.notified("key.updated")
    assert "was changed: description." in mail.text
    assert data["details"]["fields"] == "description"
    assert "Last used: 2026-11-21 12:00 UTC" in mail.text
    assert data["last_use_time"] == "2026-11-21T12:00:00Z"
    assert "By: the key " + data["actor_id"] in mail.text

    until = Timestamp(seconds=int(scene.clock().timestamp()) + 7200)
    await admin.DisableKey(key_id=key.key_id, disabled_until=until, reason="audit")
    mail, data = await scene.notified("key.disabled")
    assert "was disabled until 2026-11-21 14:01 UTC." in mail.text
    assert data["details"] == {"disabled_until": "2026-11-21T14:01:00+00:00", "reason": "audit"}
    await admin.EnableKey(key_id=key.key_id)
    mail, data = await scene.notified("key.enabled")
    assert mail.message["Subject"] == 'API key "Orders" was enabled'

    key = await admin.GetKey(key_id=key.key_id)
    key.allowed_networks.append("192.0.2.0/24")
    await admin.UpdateKey(key=key, update_mask=FieldMask(paths=["allowed_networks"]))
    await scene.notified("key.updated")
    for address in ("198.51.100.7", "198.51.100.8"):
        await admin.VerifyKey(key_string=made.key_string, client_ip=address)
    await scene.service.app.refused_addresses.flush()
    mail, data = await scene.notified("key.address_refused")
    assert "allowed networks: 198.51.100.8." in mail.text
    assert data["details"] == {"address": "198.51.100.8", "count": "2"}

    rotated = await admin.RotateKey(key_id=key.key_id, grace_period=Duration(seconds=3600))
    successor = rotated.key
    mail, data = await scene.notified("key.rotated")
    assert f"Successor: {successor.key_id}" in mail.text
    assert "The old key works until 2026-11-21 13:01 UTC." in mail.text
    assert (data["rotated_to_key_id"], data["revoke_time"]) == (successor.key_id, "2026-11-21T13:01:00Z")

    await admin.RevokeKey(key_id=successor.key_id, revoke_in=Duration(seconds=86400), reason="moved")
    mail, data = await scene.notified("key.revoked")
    assert mail.message["Subject"] == 'API key "Orders" will be revoked at 2026-11-22 12:01 UTC'
    assert (data["revoke_time"], data["details"]["reason"]) == ("2026-11-22T12:01:00Z", "moved")

    await admin.ReportLeakedKeys(leaks=[{"key_string": rotated.key_string, "place": "a chat"}])
    mail, data = await scene.notified("key.revoked")
    assert mail.message["Subject"] == 'API key "Orders" was revoked'
    assert "reported it as leaked" in mail.text
    assert "Reason: leaked: a chat" in mail.text
    assert (data["details"]["cause"], data["details"]["place"]) == ("LEAKED", "a chat")
    assert data["revoke_time"] == "2026-11-21T12:01:00Z"

    root = await admin.CreateKey(owner_id="authsvc", display_name="Root", scopes=["full_access"])
    await scene.service.as_caller(root.key_string).CreateKey(
        owner_id="acme", display_name="Created", technical_contacts=[{"name": "Ann", "email": ANN}]
    )
    await scene.notified("key.created")
    await admin.RevokeKey(key_id=root.key.key_id, cascade=True, reason="lost")
    mail, data = await scene.notified("key.revoked")
    assert mail.message["Subject"] == 'API key "Created" was revoked'
    assert "The key that had created it was revoked, together with all that it had created." in mail.text
    assert data["details"]["revoked_with_key_id"] == root.key.key_id

    await admin.DeleteKey(key_id=successor.key_id)
    mail, data = await scene.notified("key.deleted")
    assert mail.message["Subject"] == 'API key "Orders" was deleted'
    assert data["target_id"] == successor.key_id


async def _of_the_owner(scene: Scene) -> None:
    await scene.admin.CreateSession(owner_id="acme", user_agent=FIREFOX, ip_address="192.0.2.7")
    mail, data = await scene.notified("session.created", OPERATOR)
    assert mail.message["Subject"] == "New sign-in to acme from Firefox 128 on Linux"
    assert (data["user_agent"], data["ip_address"]) == (FIREFOX, "192.0.2.7")
    device = data["device"]
    assert (device["browser"], device["browser_version"], device["os"]) == ("Firefox", "128", "Linux")

    await scene.create("First")
    await scene.admin.BatchRevokeKeys(owner_id="acme", reason="incident")
    mail, data = await scene.notified("key.revoked")
    assert mail.message["Subject"] == "All API keys of acme were revoked"
    assert (data["target_id"], data["details"]["count"]) == ("acme", "2")

    policy = await scene.admin.GetOwnerPolicy(owner_id="acme")
    policy.max_active_keys = 5
    policy.rotation_period.FromTimedelta(120 * DAY)
    paths = ["max_active_keys", "rotation_period"]
    await scene.admin.UpdateOwnerPolicy(policy=policy, update_mask=FieldMask(paths=paths))
    mail, data = await scene.notified("policy.updated", OPERATOR)
    assert "Max active keys: 5\nRotation period: 120 days" in mail.text
    assert data["details"] == {"max_active_keys": "5", "rotation_period": "10368000s"}


async def _warnings(scene: Scene) -> None:
    """Each key has a contact of its own: warnings to one address at the same time are one mail."""
    ends, idle, old = "ends@example.org", "idle@example.org", "old@example.org"
    await scene.create("Ends", ends, ttl=Duration(seconds=60 * 86400))
    await scene.create("Idle", idle, ttl=Duration(seconds=400 * 86400))
    used = await scene.create("Old", old, ttl=Duration(seconds=400 * 86400))

    scene.clock.now += timedelta(days=53, hours=3)
    await walk(scene.service)
    mail, data = await scene.notified("key.expiring", ends)
    assert mail.message["Subject"] == 'API key "Ends" expires in 7 days'
    assert (data["details"], data["position"]) == ({"remaining_days": "7", "threshold_days": "7"}, None)

    scene.clock.now += 7 * DAY
    await walk(scene.service)
    mail, data = await scene.notified("key.expired", ends)
    assert "An API key of acme expired at 2027-01-20 12:01 UTC." in mail.text
    assert data["expire_time"] == "2027-01-20T12:01:00Z"
    await scene.admin.VerifyKey(key_string=used.key_string)
    await scene.service.flush()

    scene.clock.now += 30 * DAY
    await walk(scene.service)
    mail, data = await scene.notified("key.unused", idle)
    assert mail.message["Subject"] == 'API key "Idle" has not been used for 90 days'
    assert (data["details"], data["last_use_time"]) == ({"unused_days": "90"}, None)

    await scene.admin.RevokeKey(key_id=data["key_id"])
    await scene.notified("key.revoked", idle)
    scene.clock.now += 30 * DAY
    await walk(scene.service)
    mail, data = await scene.notified("key.rotation_due", old)
    assert "120 days, where 120 days are allowed" in mail.text
    assert data["details"] == {"age_days": "120", "rotation_period": "10368000s"}


async def _of_webhooks(scene: Scene, database_url: str) -> None:
    """Those of another webhook; the first one is told, and the contacts of the other."""
    connection = await asyncpg.connect(database_url)
    async with receiving(answering(500)) as other:
        url = f"http://127.0.0.1:{other.port}/secret"
        made = await scene.admin.CreateWebhook(owner_id="acme", url=url, technical_contacts=[contact(HOOKS)])
        failing = "UPDATE authsvc.webhooks SET failing_since = $2 WHERE webhook_id = $1"
        await connection.execute(failing, made.webhook.webhook_id, scene.clock() - 3 * DAY)
        await scene.create("Third")
        mail, data = await scene.notified("webhook.failing", HOOKS)
        for text in (data["webhook_id"], "Last error: answered 500", f"Address: 127.0.0.1:{other.port}\n"):
            assert text in mail.text
        since = scene.clock() - 3 * DAY
        assert f"Failing since: {since:%Y-%m-%d %H:%M} UTC" in mail.text
        assert (data["last_error"], data["webhook_id"]) == ("answered 500", made.webhook.webhook_id)
        assert datetime.fromisoformat(data["failing_since"]) == since

        other.answer = answering(410)
        scene.clock.advance(minutes=10)
        mail, data = await scene.notified("webhook.disabled", HOOKS)
        assert "because its receiver answered that it is gone (410)" in mail.text
        assert (data["disable_reason"], data["last_error"]) == ("gone", "answered 410")
        assert "secret" not in mail.text + mail.html + json.dumps(data)
    await connection.close()


async def test_of_an_imported_key(scene: Scene) -> None:
    """Nobody is told of an import. Of later changes, mail and webhooks have the beginning of its digest."""
    digest = "sha256:" + "0123456789abcdef" * 4
    key = {"hash": digest, "display_name": "Old", "technical_contacts": [contact(ANN)]}
    [told] = (await scene.service.admin.ImportKeys(owner_id="acme", keys=[key])).results
    await scene.service.admin.RevokeKey(key_id=told.key_id)
    mail, data = await scene.notified("key.revoked")
    assert data["key_prefix"] == "sha256:01234567"
    assert "sha256:01234567" in mail.text
    assert digest[:16] not in mail.text
