"""Each change leaves a notification, and each notification gets to those who are to know."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.client_hints import ClientHints
from authsvc.model.device import Device
from authsvc.model.notification import NotificationType
from authsvc.notifications import spread
from authsvc.notifications.spread import BATCH
from authsvc.sessions.device import describe
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from tests.conftest import Clock, Service, serving

OPERATOR = "operator@example.org"
ANN, BOB = "ann@example.org", "bob@example.org"
_CONTACTS = [{"name": "Ann", "email": "ann@Example.org"}, {"name": "Bob", "email": BOB}]
_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{}.0) Gecko/20100101 Firefox/{}.0"
_SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.1 Mobile/15E148 Safari/604.1"
)
_WEBHOOK = """
    INSERT INTO authsvc.webhooks (
        webhook_id, owner_id, url, description, event_types, technical_contacts, enabled, create_time,
        creator_id, update_time, version, secrets, line_time)
    VALUES ($1, $2, 'https://example.org/', '', $3, '[]', $4, now(), 'key_x', now(), 1, '[]', '-infinity')
"""
_NOTIFY = """
    INSERT INTO authsvc.notifications (
        notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type, details,
        subject, contacts)
    SELECT $1, $2, 'acme', now(), 'key_x', '', '', '', '{}', $3, $4
"""
_RECORD_AND_FAIL = """
    DO $$ BEGIN
        PERFORM authsvc.record_audit(jsonb_build_array(jsonb_build_object(
            'owner_id', 'acme', 'event_time', clock_timestamp(), 'event_id', 'evt_x', 'action', 'KEY_CREATED',
            'actor_id', '', 'actor_owner_id', '', 'actor_type', '', 'target_id', '', 'client_ip', '',
            'request_id', '', 'details', '{}'::jsonb)));
        RAISE EXCEPTION 'no';
    END $$
"""
_IS_WAITED_FOR = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid())"


_MANY_SESSIONS = """
    INSERT INTO authsvc.sessions
    SELECT (jsonb_populate_record(s, jsonb_build_object(
               'session_id', s.session_id || n, 'key_prefix', s.key_prefix || n,
               'create_time', $3::timestamptz, 'user_agent', 'program' || n || '/1'))).*
      FROM authsvc.sessions s, generate_series(1, $2::int) AS n WHERE s.session_id = $1
"""


class Told:
    """A service that mails, and what it has written down."""

    def __init__(self, service: Service, connection: asyncpg.Connection) -> None:
        self.service, self.admin, self.connection = service, service.admin, connection

    async def create(self, **fields: Any) -> Any:
        fields = {"owner_id": "acme", "display_name": "ci", "technical_contacts": _CONTACTS, **fields}
        return (await self.admin.CreateKey(**fields)).key

    async def listen(self, webhook_id: str, owner_id: str, *types: str, enabled: bool = True) -> None:
        await self.connection.execute(_WEBHOOK, webhook_id, owner_id, list(types), enabled)

    async def mails(self, *, owner_id: str = "acme") -> list[tuple[str, str]]:
        """Return type and address of all mails about an owner, in the order of the notifications."""
        await self.spread()
        rows = await self.connection.fetch(
            "SELECT n.type, m.address"
            "  FROM authsvc.notifications n JOIN authsvc.mails m USING (notification_id)"
            " WHERE n.owner_id = $1 ORDER BY n.number, m.address",
            owner_id,
        )
        return [(row["type"], row["address"]) for row in rows]

    async def notifications(self, owner_id: str = "acme") -> list[asyncpg.Record]:
        await self.spread()
        return await self.connection.fetch(
            "SELECT * FROM authsvc.notifications WHERE owner_id = $1 ORDER BY number", owner_id
        )

    async def spread(self) -> None:
        """Spread all there is. The worker does so, too, so there may be nothing left for us."""
        while await self.connection.fetchval(
            "SELECT count(*) FROM authsvc.notifications WHERE spread_time IS NULL"
        ):
            await self.service.notifier.spread.work()


@pytest_asyncio.fixture
async def told(database_url: str, clock: Clock) -> AsyncIterator[Told]:
    """A service with mail set up, and an operator who gets some of it."""
    async with serving(
        database_url, clock, smtp_url="smtp://127.0.0.1:1", mail_from="a@b.example", mail_operator=OPERATOR
    ) as running:
        connection = await asyncpg.connect(database_url)
        try:
            yield Told(running, connection)
        finally:
            await connection.close()


def both(types: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, address) for name in types for address in (ANN, BOB)]


async def test_changes_of_a_key_reach_its_contacts(told: Told) -> None:  # rule 29
    """One mail for each address, even when the key is gone, with what it was at that moment."""
    key = await told.create()
    rotated = (await told.admin.RotateKey(key_id=key.key_id, grace_period=Duration(seconds=60))).key
    await told.admin.UpdateKey(
        key={"key_id": rotated.key_id, "description": "new"}, update_mask=FieldMask(paths=["description"])
    )
    await told.admin.RevokeKey(key_id=rotated.key_id, reason="left")
    await told.admin.DeleteKey(key_id=rotated.key_id)
    assert await told.mails() == both(
        ["key.created", "key.rotated", "key.updated", "key.revoked", "key.deleted"]
    )
    created, replaced, _, revoked, deleted = await told.notifications()
    assert [each["position"] for each in (created, replaced, revoked, deleted)] == [1, 2, 4, 5]
    subject = json.loads(replaced["subject"])
    assert (subject["key_id"], subject["rotated_to_key_id"]) == (key.key_id, rotated.key_id)
    assert json.loads(revoked["details"])["reason"] == "left"
    assert json.loads(deleted["subject"])["key_prefix"] == rotated.key_prefix


async def test_a_notification_is_that_of_the_audit_event(told: Told) -> None:
    """It has the id of the event, its actor, its time and its position."""
    await told.create()
    [event] = (await told.admin.ListAuditEvents(owner_id="acme")).events
    [notification] = await told.notifications()
    assert notification["notification_id"] == event.event_id
    assert notification["position"] == event.position
    assert notification["actor_id"] == event.actor_id
    assert notification["event_time"] == event.event_time.ToDatetime(tzinfo=notification["event_time"].tzinfo)


async def test_a_scheduled_revocation_is_told_at_once(told: Told) -> None:
    """With the time at which it takes effect."""
    key = await told.create()
    await told.admin.RevokeKey(key_id=key.key_id, revoke_in=Duration(seconds=3600))
    _, revoked = await told.notifications()
    assert json.loads(revoked["details"])["revoke_time"] == "2026-11-21T13:00:00+00:00"


async def test_a_batch_tells_of_each_key(told: Told) -> None:
    """Each of them is looked up, however many there are."""
    keys = [await told.create(display_name=f"key {number}") for number in range(3)]
    await told.admin.BatchRevokeKeys(key_ids=[key.key_id for key in keys])
    assert (await told.mails())[6:] == both(["key.revoked"] * 3)


async def test_former_contacts_are_told_that_they_were_replaced(told: Told) -> None:
    """So nobody takes over a key by replacing those who would be told."""
    key = await told.create()
    await told.admin.UpdateKey(
        key={"key_id": key.key_id, "technical_contacts": [{"name": "Eve", "email": "eve@example.org"}]},
        update_mask=FieldMask(paths=["technical_contacts"]),
    )
    assert (await told.mails())[2:] == [
        ("key.updated", ANN),
        ("key.updated", BOB),
        ("key.updated", "eve@example.org"),
    ]


async def test_all_contacts_are_told_that_all_keys_were_revoked(told: Told) -> None:
    """Each address once, and nobody whose key had been revoked before."""
    for contact in (_CONTACTS[0], _CONTACTS[0], _CONTACTS[1]):
        await told.create(technical_contacts=[contact])
    gone = await told.create(technical_contacts=[{"name": "Old", "email": "old@example.org"}])
    await told.admin.RevokeKey(key_id=gone.key_id)
    before = len(await told.mails())
    told.service.clock.advance(seconds=1)
    await told.admin.BatchRevokeKeys(owner_id="acme")
    assert (await told.mails())[before:] == both(["key.revoked"])


async def test_the_operator_gets_what_has_no_contact(told: Told) -> None:
    """Keys without contacts, sessions and policies."""
    await told.create(technical_contacts=[])
    await told.admin.UpdateOwnerPolicy(
        policy=policy_pb.OwnerPolicy(owner_id="acme", max_active_keys=5),
        update_mask=FieldMask(paths=["max_active_keys"]),
    )
    await told.admin.CreateSession(owner_id="acme", user_agent=_SAFARI)
    assert await told.mails() == [
        ("key.created", OPERATOR),
        ("policy.updated", OPERATOR),
        ("session.created", OPERATOR),
    ]


async def test_only_a_new_device_is_told_of(told: Told) -> None:
    """Another version of the same browser on the same system is the same device; another system is not."""
    for user_agent in (_FIREFOX.format(120, 120), _FIREFOX.format(121, 121), _SAFARI, _SAFARI, "curl/8", ""):
        await told.admin.CreateSession(owner_id="zoe", user_agent=user_agent)
        told.service.clock.advance(seconds=1)
    told_of = [json.loads(each["subject"])["user_agent"] for each in await told.notifications("zoe")]
    assert told_of == [_FIREFOX.format(120, 120), _SAFARI, "curl/8", ""]


async def test_many_devices_do_not_stop_the_worker(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody signs in with ever new user agents: few are described without a pause."""
    made = await told.admin.CreateSession(owner_id="zoe", user_agent=_SAFARI)
    await told.spread()
    await told.connection.execute(
        _MANY_SESSIONS, made.session.session_id, 3000, told.service.clock() - timedelta(days=1)
    )
    described = longest = total = 0

    async def others() -> None:
        nonlocal described
        while True:
            described = 0
            await asyncio.sleep(0)

    def describe_counted(user_agent: str, hints: ClientHints) -> Device:
        nonlocal described, longest, total
        described, total = described + 1, total + 1
        longest = max(longest, described)
        return describe(user_agent, hints)

    monkeypatch.setattr(spread, "describe", describe_counted)
    turns = asyncio.create_task(others())
    await told.admin.CreateSession(owner_id="zoe", user_agent="curl/8")
    assert len(await told.notifications("zoe")) == 2
    turns.cancel()
    assert longest < 50
    assert 900 < total < 1100


async def test_a_device_of_another_owner_is_new(told: Told) -> None:
    """Devices are compared with those of the same owner only."""
    for owner_id in ("zoe", "yan"):
        await told.admin.CreateSession(owner_id=owner_id, user_agent=_SAFARI)
        assert len(await told.notifications(owner_id)) == 1


async def test_an_ended_session_still_knows_its_device(told: Told) -> None:
    """As long as it is kept for display."""
    first = (await told.admin.CreateSession(owner_id="zoe", user_agent=_SAFARI)).session
    await told.admin.RevokeSession(session_id=first.session_id)
    await told.admin.CreateSession(owner_id="zoe", user_agent=_SAFARI)
    assert len(await told.notifications("zoe")) == 1


async def test_webhooks_get_what_they_listen_to(told: Told) -> None:
    """Those of the owner and of the platform, by type, and none that is disabled."""
    await told.listen("whk_all", "acme")
    await told.listen("whk_revoked", "acme", "key.revoked")
    await told.listen("whk_off", "acme", enabled=False)
    await told.listen("whk_other", "other")
    await told.listen("whk_platform", PLATFORM_OWNER, "key.created")
    key = await told.create()
    await told.admin.RevokeKey(key_id=key.key_id)
    await told.spread()
    rows = await told.connection.fetch(
        "SELECT n.type, d.webhook_id FROM authsvc.webhook_deliveries d"
        " JOIN authsvc.notifications n USING (notification_id) WHERE n.owner_id = 'acme'"
        " ORDER BY n.number, d.webhook_id"
    )
    assert [tuple(row) for row in rows] == [
        ("key.created", "whk_all"),
        ("key.created", "whk_platform"),
        ("key.revoked", "whk_all"),
        ("key.revoked", "whk_revoked"),
    ]


async def test_without_mail_and_webhooks_nothing_is_kept(service: Service, database_url: str) -> None:
    """What nobody is to get is deleted."""
    await service.admin.CreateKey(owner_id="acme", display_name="ci", technical_contacts=_CONTACTS)
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM authsvc.notifications") >= 0
        while await connection.fetchval("SELECT count(*) FROM authsvc.notifications"):
            await service.notifier.spread.work()
        assert await connection.fetchval("SELECT count(*) FROM authsvc.mails") == 0
    finally:
        await connection.close()


async def test_more_than_a_batch(told: Told) -> None:
    """Batches follow each other until none is left."""
    contacts = json.dumps(_CONTACTS[:1])
    await told.connection.executemany(
        _NOTIFY, [(f"evt_{number}", "key.unused", "{}", contacts) for number in range(2 * BATCH + 1)]
    )
    assert len(await told.mails()) == 2 * BATCH + 1


async def test_a_change_that_is_rolled_back_tells_nobody(told: Told) -> None:
    """The notification is in the transaction of the change."""
    before = await told.connection.fetchval("SELECT max(number) FROM authsvc.notifications")
    with pytest.raises(asyncpg.RaiseError):
        await told.connection.execute(_RECORD_AND_FAIL)
    await told.create()
    [notification] = await told.notifications()
    assert notification["number"] > before
    assert notification["type"] == NotificationType.KEY_CREATED


async def test_a_batch_that_fails_is_spread_again(told: Told) -> None:
    """Nothing of it is kept, so nobody is told twice."""
    await told.listen("whk_all", "acme")
    await told.spread()
    mails = "SELECT count(*) FROM authsvc.mails WHERE owner_id = 'acme'"
    await told.connection.execute("ALTER TABLE authsvc.webhook_deliveries RENAME TO hidden")
    await told.create()
    await told.service.notifier.spread.step()
    assert await told.connection.fetchval(mails) == 0
    await told.connection.execute("ALTER TABLE authsvc.hidden RENAME TO webhook_deliveries")
    told.service.clock.advance(minutes=11)
    assert await told.mails() == both(["key.created"])


async def test_one_faulty_notification_holds_up_no_other(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays in the outbox, and the log names it."""
    await told.spread()
    async with told.connection.transaction():  # in one batch
        for number, created in enumerate(("no time", "2026-11-21T12:00:00+00:00")):
            subject = {"user_agent": "", "client_hints": {}, "create_time": created}
            await told.connection.execute(
                _NOTIFY, f"evt_{number}", "session.created", json.dumps(subject), "[]"
            )
        for number in range(2, 5):
            await told.connection.execute(_NOTIFY, f"evt_{number}", "key.unused", "{}", json.dumps(_CONTACTS))
    async with asyncio.timeout(10):
        while len(await told.connection.fetch("SELECT FROM authsvc.mails WHERE owner_id = 'acme'")) < 7:
            await told.service.notifier.spread.work()
    [left] = await told.connection.fetch(
        "SELECT notification_id FROM authsvc.notifications WHERE spread_time IS NULL"
    )
    assert left["notification_id"] == "evt_0"
    assert [
        record.message.partition(" (")[0] for record in caplog.records if record.levelname == "ERROR"
    ] == ["notification evt_0"]


async def test_a_webhook_that_is_being_deleted(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out when it is gone, and the notification reaches the others at once."""
    await told.spread()
    await told.listen("whk_gone", "acme")
    await told.listen("whk_kept", "acme")
    async with told.connection.transaction():
        await told.connection.execute("DELETE FROM authsvc.webhooks WHERE webhook_id = 'whk_gone'")
        await told.create()
        async with asyncio.timeout(10):  # The worker, or we, have read it, and wait for its end.
            spreading = asyncio.create_task(told.service.notifier.spread.step())
            while not await told.connection.fetchval(_IS_WAITED_FOR):
                if spreading.done():
                    spreading = asyncio.create_task(told.service.notifier.spread.step())
                await asyncio.sleep(0)
    await spreading
    async with asyncio.timeout(10):
        await told.spread()
    deliveries = await told.connection.fetch("SELECT webhook_id FROM authsvc.webhook_deliveries")
    assert [each["webhook_id"] for each in deliveries] == ["whk_kept"]
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == []
