"""From a change to the mail that arrived, at a stub and at a real mail server (rule 29)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.model.notification import NotificationType
from authsvc.store import notifications as notification_store
from tests.conftest import Clock, Service, eventually, serving
from tests.notifications.postfix import Postfix, postfix
from tests.notifications.smtp import PASSWORD, USER, Arrived, mail_server, notification

ANN, BOB, OPERATOR = "ann@example.org", "bob@example.org", "operator@example.org"
USERS = {ANN: "ann", BOB: "bob", OPERATOR: "operator", "zoë@example.org": "zoe"}
NOBODY = "nobody@example.org"
CONTACTS = [{"name": "Ann", "email": ANN}]


@dataclass(frozen=True)
class Inboxes:
    """A mail server, and what arrived for its users."""

    settings: Mapping[str, Any]
    read: Callable[[str], list[Arrived]]


@pytest.fixture(scope="module")
def real(reachable_dir: Path) -> Iterator[Postfix]:
    """Started once, since that takes two seconds."""
    with postfix(reachable_dir / "postfix", USERS, {}) as running:
        yield running


@pytest_asyncio.fixture(params=["stub", "postfix"])
async def inboxes(request: pytest.FixtureRequest) -> AsyncIterator[Inboxes]:
    if request.param == "postfix":
        real: Postfix = request.getfixturevalue("real")
        url = f"smtp://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{real.port}?ca={real.ca}"
        yield Inboxes({"smtp_url": url}, lambda address: real.mails(USERS[address]))
    else:
        async with mail_server() as stub:
            stub.to[NOBODY] = "550 5.1.1 unknown"

            def read(address: str) -> list[Arrived]:
                return [each for each in stub.arrived if each.recipient == address]

            yield Inboxes({"smtp_url": f"smtp://127.0.0.1:{stub.port}"}, read)


class Scene:
    """A service that mails, and what is new in the inboxes."""

    def __init__(self, service: Service, inboxes: Inboxes) -> None:
        self.service = service
        self._inboxes = inboxes
        self._seen = {mail.message["Message-ID"] for user in USERS for mail in inboxes.read(user)}

    async def send(self) -> None:
        notifier = self.service.notifier
        await notifier.spread.work()
        assert notifier.mail is not None
        await notifier.mail.work()
        await asyncio.sleep(0)

    async def mail(self, address: str = ANN) -> Arrived:
        """Return the one mail that is new for an address."""

        async def new() -> list[Arrived]:
            await self.send()
            mails = self._inboxes.read(address)
            return [mail for mail in mails if mail.message["Message-ID"] not in self._seen]

        await eventually(new, lambda mails: bool(mails))
        [mail] = await new()
        self._seen.add(mail.message["Message-ID"])
        assert mail.recipient == address
        assert mail.message["Auto-Submitted"] == "auto-generated"
        return mail

    async def create(self, **fields: Any) -> Any:
        fields = {"owner_id": "acme", "display_name": "ci", "technical_contacts": CONTACTS, **fields}
        return (await self.service.admin.CreateKey(**fields)).key


@pytest_asyncio.fixture
async def scene(database_url: str, clock: Clock, inboxes: Inboxes) -> AsyncIterator[Scene]:
    async with serving(
        database_url,
        clock,
        mail_from="authsvc <noreply@sender.example>",
        mail_operator=OPERATOR,
        console_url="https://console.example/",
        mail_address_limit=1000,
        **inboxes.settings,
    ) as running:
        scene = Scene(running, inboxes)
        # The key of the administrator has no contact, so the operator is told.
        assert "was created" in (await scene.mail(OPERATOR)).message["Subject"]
        yield scene


async def test_changes_of_a_key(scene: Scene) -> None:  # rule 29
    admin = scene.service.admin
    key = await scene.create()
    mail = await scene.mail()
    assert mail.sender == "noreply@sender.example"
    assert mail.message["Subject"] == 'API key "ci" was created'
    assert f"Prefix: {key.key_prefix}" in mail.text
    assert "Owner: acme" in mail.text
    assert "By: the key key_" in mail.text
    assert ">https://console.example/" not in mail.html
    assert 'href="https://console.example/"' in mail.html

    key.display_name = "ci of orders"
    await admin.UpdateKey(key=key, update_mask=FieldMask(paths=["display_name"]))
    mail = await scene.mail()
    assert mail.message["Subject"] == 'API key "ci of orders" was changed'
    assert "was changed: display name." in mail.text

    successor = (await admin.RotateKey(key_id=key.key_id, grace_period=Duration(seconds=3600))).key
    mail = await scene.mail()
    assert mail.message["Subject"] == 'API key "ci of orders" was rotated'
    assert f"Successor: {successor.key_id}" in mail.text
    assert "The old key works until 2026-11-21 13:00 UTC." in mail.text

    await admin.RevokeKey(key_id=successor.key_id, revoke_in=Duration(seconds=2 * 86400))
    mail = await scene.mail()
    assert mail.message["Subject"] == 'API key "ci of orders" will be revoked at 2026-11-23 12:00 UTC'

    await admin.RevokeKey(key_id=successor.key_id, reason="leaked")
    mail = await scene.mail()
    assert mail.message["Subject"] == 'API key "ci of orders" was revoked'
    assert "Reason: leaked" in mail.text

    await admin.DeleteKey(key_id=successor.key_id)
    assert (await scene.mail()).message["Subject"] == 'API key "ci of orders" was deleted'


async def test_all_keys_of_an_owner(scene: Scene) -> None:
    """Each contact is told once."""
    for name in ("ci", "cd"):
        await scene.create(display_name=name)
        await scene.mail()
    await scene.service.admin.BatchRevokeKeys(owner_id="acme", reason="incident")
    mail = await scene.mail()
    assert mail.message["Subject"] == "All API keys of acme were revoked"
    assert "2 in all" in mail.text
    assert "Reason: incident" in mail.text


async def test_what_has_no_contact_is_told_to_the_operator(scene: Scene) -> None:
    await scene.create(technical_contacts=[])
    mail = await scene.mail(OPERATOR)
    assert "yours is the\naddress of the operator" in mail.text
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
    await scene.service.admin.CreateSession(owner_id="acme", user_agent=agent, ip_address="192.0.2.7")
    mail = await scene.mail(OPERATOR)
    assert mail.message["Subject"] == "New sign-in to acme from Firefox 128 on Linux"
    assert "IP address: 192.0.2.7" in mail.text
    policy = await scene.service.admin.GetOwnerPolicy(owner_id="acme")
    policy.max_active_keys = 5
    await scene.service.admin.UpdateOwnerPolicy(
        policy=policy, update_mask=FieldMask(paths=["max_active_keys"])
    )
    mail = await scene.mail(OPERATOR)
    assert mail.message["Subject"] == "The policy for API keys of acme was changed"
    assert "Max active keys: 5" in mail.text


async def test_what_is_no_change(scene: Scene) -> None:
    """Warnings and webhooks, whose notifications others insert."""
    warned = [
        NotificationType.KEY_EXPIRING,
        NotificationType.KEY_EXPIRED,
        NotificationType.KEY_UNUSED,
        NotificationType.KEY_ROTATION_DUE,
        NotificationType.WEBHOOK_FAILING,
        NotificationType.WEBHOOK_DISABLED,
    ]
    subjects = []
    for number, name in enumerate(warned):
        told = notification(number, name, details={"remaining_days": "7"})
        async with scene.service.app.database.transaction() as connection:
            await notification_store.insert(connection, [told])
        mail = await scene.mail()
        assert mail.message["Message-ID"].startswith(f"<evt_{number}.")
        subjects.append(mail.message["Subject"])
    assert subjects == [
        'API key "job 0" expires in 7 days',
        'API key "job 1" has expired',
        'API key "job 2" has not been used',
        'API key "job 3" is due to be rotated',
        "A webhook of acme is failing",
        "A webhook of acme was disabled",
    ]


async def test_each_contact_by_itself(scene: Scene) -> None:
    """One that the server does not know stops nobody; one with letters of other scripts gets it, too."""
    await scene.create(
        technical_contacts=[
            {"name": "Nobody", "email": NOBODY},
            {"name": "Bob\u00e9, Inc.", "email": BOB},
            {"name": "Zo\u00eb", "email": "zo\u00eb@example.org"},
        ]
    )
    bob, zoe = await scene.mail(BOB), await scene.mail("zo\u00eb@example.org")
    assert [address.display_name for address in bob.message["To"].addresses] == ["Bob\u00e9, Inc."]
    assert zoe.message["To"].addresses[0].addr_spec == "zo\u00eb@example.org"
    assert NOBODY not in bob.content.decode() + zoe.content.decode()
    async with scene.service.app.database.connection() as connection:
        states = await connection.fetch(
            "SELECT address, state, reply_code FROM authsvc.mails WHERE state <> 'sent'"
        )
    assert [tuple(row) for row in states] == [(NOBODY, "failed", 550)]


async def test_no_secret_is_anywhere(
    scene: Scene, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No key string and no password of the mail server, in mails, lines of the log and columns."""
    caplog.set_level(logging.DEBUG)
    admin = scene.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="ci", technical_contacts=CONTACTS)
    mails = [await scene.mail()]
    rotated = await admin.RotateKey(key_id=made.key.key_id)
    mails.append(await scene.mail())
    key_strings = [made.key_string, rotated.key_string, scene.service.admin_key]
    connection = await asyncpg.connect(database_url)
    tables = await connection.fetch(
        "SELECT format('SELECT string_agg(t::text, chr(10)) FROM %I.%I t', schemaname, tablename) AS dump"
        "  FROM pg_tables WHERE schemaname = 'authsvc'"
    )
    columns = [await connection.fetchval(table["dump"]) or "" for table in tables]
    await connection.close()
    assert any(ANN in column for column in columns)
    everything = "\n".join(
        [*columns, caplog.text, *(mail.text + mail.html + str(mail.message.items()) for mail in mails)]
    )
    for key_string in key_strings:
        assert key_string[:-51] in everything
        assert key_string[-51:-39] not in everything
    # As it is, and as PLAIN and LOGIN send it.
    for form in (PASSWORD, "aHVudGVyMi1wQHNz", "AG1haWxlcgBodW50ZXIyLXBAc3M="):
        assert form not in everything
