"""WebhookService: registering, updating, deleting, rotating secrets."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from authsvc.model.webhook import MAX_WEBHOOKS
from authsvc.store import webhooks as webhook_store
from authsvc.v1 import webhook_service_pb2 as pb
from authsvc.v1.resources_pb2 import TechnicalContact
from tests.conftest import WEBHOOK_KEY, Client, Clock, Service, serving
from tests.rpc.refusal import refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND
URL = "https://example.org/hooks?team=a"
CONTACT = TechnicalContact(name="Ada", email="ada@example.org")


async def register(
    service: Service, owner_id: str = "acme", *, client: Client | None = None, **fields: Any
) -> Any:
    """Create a webhook that nothing is delivered to, unless `event_types` say otherwise."""
    given = {"url": URL, "event_types": ["key.expired"]} | fields
    return await (client or service.admin).CreateWebhook(owner_id=owner_id, **given)


async def update(service: Service, webhook_id: str, *paths: str, etag: str = "", **fields: Any) -> Any:
    webhook = pb.Webhook(webhook_id=webhook_id, etag=etag, **fields)
    return await service.admin.UpdateWebhook(
        webhook=webhook, update_mask=FieldMask(paths=paths or list(fields))
    )


async def tenant(service: Service, owner_id: str = "acme", scope: str = "full_access") -> Client:
    made = await service.admin.CreateKey(owner_id=owner_id, display_name="x", scopes=[scope])
    return service.as_caller(made.key_string)


async def stored(service: Service, webhook_id: str) -> Any:
    """Return a webhook as the parts that call it read it."""
    async with service.app.database.connection() as connection:
        return await webhook_store.find(connection, webhook_id, owner_id=None)


async def line_time(service: Service, webhook_id: str) -> datetime:
    """Return when the deliveries of a webhook are looked at next."""
    async with service.app.database.connection() as connection:
        found: datetime = await connection.fetchval(
            "SELECT line_time FROM authsvc.webhooks WHERE webhook_id = $1", webhook_id
        )
    return found


async def set_columns(service: Service, webhook_id: str, columns: str) -> None:
    """Do what the parts that call webhooks do."""
    async with service.app.database.connection() as connection:
        await connection.execute(
            f"UPDATE authsvc.webhooks SET {columns} WHERE webhook_id = $1",  # noqa: S608
            webhook_id,
        )


# -- Creating -----------------------------------------------------------------------------------


async def test_every_field_is_kept(service: Service, clock: Clock) -> None:
    """It is shown as it was created; the secret is in the first answer only."""
    caller = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["full_access"])
    client = service.as_caller(caller.key_string)
    made = await register(
        service,
        client=client,
        description="first\nsecond",
        event_types=["key.revoked", "key.created"],
        technical_contacts=[CONTACT],
    )
    expected = pb.Webhook(
        webhook_id=made.webhook.webhook_id,
        owner_id="acme",
        url=URL,
        description="first\nsecond",
        event_types=["key.created", "key.revoked"],
        technical_contacts=[CONTACT],
        enabled=True,
        creator_id=caller.key.key_id,
        etag=made.webhook.etag,
    )
    expected.create_time.FromDatetime(clock.now)
    expected.update_time.FromDatetime(clock.now)
    assert made.webhook == expected
    assert made.webhook.webhook_id.startswith("whk_")
    assert made.webhook.etag
    assert made.secret.startswith("whsec_")
    assert await client.GetWebhook(webhook_id=made.webhook.webhook_id) == expected
    assert list((await client.ListWebhooks(owner_id="acme")).webhooks) == [expected]


async def test_all_types_and_disabled(service: Service) -> None:
    """Without types it gets all of them; it may be created disabled."""
    made = (await register(service, event_types=[], disabled=True)).webhook
    assert (list(made.event_types), made.enabled) == ([], False)
    assert made.disable_reason == pb.WEBHOOK_DISABLE_REASON_OWNER
    assert not made.HasField("failing_since")


async def test_a_receiver_checks_signatures_by_the_secret(service: Service, clock: Clock) -> None:
    """The secret that is shown is the one that calls are signed with, as `standardwebhooks` checks it."""
    made = await register(service)
    version = (await stored(service, made.webhook.webhook_id)).secrets[0]
    keys = service.app.webhooks._keys
    assert keys.shown(made.webhook.webhook_id, version) == made.secret
    receiver = Receiver(made.secret)
    now = clock.now.replace(tzinfo=UTC)
    signature = receiver.sign("evt_1", now, "{}")
    signed = Receiver(keys.secret(made.webhook.webhook_id, version)).sign("evt_1", now, "{}")
    assert signed == signature
    other = await register(service)
    assert Receiver(other.secret).sign("evt_1", now, "{}") != signature
    with pytest.raises(WebhookVerificationError):
        receiver.verify("{}", {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,x"})


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"url": ""}, "url", ""),
        ({"url": "http://example.org/"}, "url", "https"),
        ({"url": "example.org"}, "url", "https"),
        ({"url": "https://user:password@example.org/"}, "url", "password"),
        ({"url": f"https://example.org/{'x' * 2000}"}, "url", ""),
        ({"description": "x" * 2001}, "description", ""),
        ({"event_types": ["key.create"]}, "event_types", "did you mean key.created?"),
        ({"event_types": ["KEY_CREATED"]}, "event_types", "did you mean key.created?"),
        ({"event_types": ["weather"]}, "event_types", "use some of key.created, key.updated"),
        ({"event_types": ["webhook.test"]}, "event_types", "TestWebhook"),
        ({"event_types": ["key.created", "key.created"]}, "event_types", "unique"),
        ({"event_types": [""]}, "event_types", "use some of"),
        ({"technical_contacts": [{"name": "A", "email": "nobody"}]}, "technical_contacts[0].email", ""),
        ({"technical_contacts": [CONTACT] * 17}, "technical_contacts", ""),
        ({"owner_id": "AuthSvc"}, "owner_id", "reserved"),
        ({"owner_id": ""}, "owner_id", ""),
    ],
)
async def test_values_that_make_no_sense(
    service: Service, fields: dict[str, Any], path: str, told: str
) -> None:
    """The error names the field and what to write instead, and never a password; nothing is created."""
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await register(service, **fields)
    assert list(refusal.fields) == [path]
    assert told in refusal.fields[path]
    assert "user:password" not in refusal.message
    assert not (await service.admin.ListWebhooks(owner_id="acme")).webhooks


async def test_many_unknown_types_are_one_readable_error(service: Service) -> None:
    """The first five are named."""
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await register(service, event_types=[f"key.made{n}" for n in range(60)])
    assert len(refusal.message) < 1000


@pytest.mark.parametrize("path", ["url", "description"])
async def test_secrets_do_not_belong_into_fields(service: Service, path: str) -> None:
    """A pasted secret of a webhook is refused like a key string, and is not repeated."""
    secret = (await register(service)).secret
    for text in (f"https://example.org/{secret}", f"https://example.org/?key={service.admin_key}"):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            fields: dict[str, Any] = {path: text}
            await register(service, **fields)
        assert "the secret of a webhook, which this field does not allow" in refusal.message
        assert secret[6:14] not in str(refusal)


async def test_an_owner_has_so_many_and_no_more(service: Service) -> None:
    """Of many concurrent calls, as many succeed as there is room for; the platform is bound as well."""
    caller = await tenant(service)
    clients = [caller, service.admin]
    calls = [register(service, client=clients[number % 2]) for number in range(MAX_WEBHOOKS + 8)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(not isinstance(answer, BaseException) for answer in done) == MAX_WEBHOOKS
    assert {error.code() for error in done if isinstance(error, grpc.aio.AioRpcError)} == {PRECONDITION}
    with refused(PRECONDITION, "MAX_WEBHOOKS") as refusal:
        await register(service)
    assert refusal.info.metadata["limit"] == "20"
    listed = (await caller.ListWebhooks(owner_id="acme")).webhooks
    assert len(listed) == MAX_WEBHOOKS
    await register(service, "globex")
    await caller.DeleteWebhook(webhook_id=listed[3].webhook_id)
    await register(service)


async def test_webhooks_of_the_platform(service: Service) -> None:
    """Only its own callers see and make those that get the events of all owners."""
    made = (await register(service, "authsvc")).webhook
    client = await tenant(service)
    with refused(DENIED, "OWNER_NOT_PERMITTED"):
        await register(service, "authsvc", client=client)
    with refused(DENIED, "OWNER_NOT_PERMITTED"):
        await client.ListWebhooks(owner_id="authsvc")
    with refused(NOT_FOUND, "WEBHOOK_NOT_FOUND"):
        await client.GetWebhook(webhook_id=made.webhook_id)


async def test_sessions_only_is_about_keys(service: Service) -> None:
    """`key_managers` does not keep a key from managing webhooks."""
    client = await tenant(service)
    await service.admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "key_managers": "KEY_MANAGERS_SESSIONS_ONLY"},
        update_mask={"paths": ["key_managers"]},
    )
    with refused(DENIED, "KEY_MANAGER_NOT_PERMITTED"):
        await client.CreateKey(owner_id="acme", display_name="x")
    await register(service, client=client)


# -- Listing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 3, 4, 1000])
async def test_pages(service: Service, clock: Clock, page_size: int) -> None:
    """Each webhook is on one page, the oldest first; others' are on none."""
    made = []
    for _ in range(4):
        clock.advance(seconds=1)
        made.append((await register(service)).webhook)
        await register(service, "globex")
    found: list[Any] = []
    token = ""
    while len(found) < 4:
        page = await service.admin.ListWebhooks(owner_id="acme", page_size=page_size, page_token=token)
        found += page.webhooks
        token = page.next_page_token
    assert (found, token) == (made, "")
    if page_size == 1:
        token = (await service.admin.ListWebhooks(owner_id="acme", page_size=1)).next_page_token
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.ListWebhooks(owner_id="globex", page_size=1, page_token=token)
        assert "page_token" in refusal.fields


# -- Updating -----------------------------------------------------------------------------------


async def test_what_may_be_updated(service: Service, clock: Clock) -> None:
    """All that the owner chooses; the secret stays."""
    made = await register(service)
    clock.advance(hours=1)
    wanted: dict[str, Any] = {
        "url": "https://example.net/",
        "description": "new",
        "event_types": ["key.deleted"],
        "technical_contacts": [CONTACT],
        "enabled": False,
    }
    before = (await stored(service, made.webhook.webhook_id)).secrets
    changed = await update(service, made.webhook.webhook_id, **wanted)
    expected = pb.Webhook()
    expected.CopyFrom(made.webhook)
    expected.ClearField("event_types")
    expected.MergeFrom(pb.Webhook(**wanted))
    expected.enabled, expected.disable_reason = False, pb.WEBHOOK_DISABLE_REASON_OWNER
    expected.update_time.FromDatetime(clock.now)
    expected.etag = changed.etag
    assert changed == expected
    assert changed.etag != made.webhook.etag
    assert await service.admin.GetWebhook(webhook_id=made.webhook.webhook_id) == changed
    assert (await stored(service, made.webhook.webhook_id)).secrets == before


async def test_only_what_the_mask_names_changes(service: Service) -> None:
    """Other fields of the message are ignored; a star means all fields."""
    webhook_id = (await register(service, description="old")).webhook.webhook_id
    changed = await update(service, webhook_id, "enabled", url="https://example.net/", enabled=True)
    assert (changed.url, changed.description) == (URL, "old")
    changed = await update(service, webhook_id, "*", url="https://example.net/", enabled=True)
    assert (changed.url, changed.description, list(changed.event_types)) == ("https://example.net/", "", [])


@pytest.mark.parametrize(
    ("paths", "field", "told"),
    [
        ([], "update_mask", "is empty; name the fields to change"),
        (["secret"], "update_mask", "secret is not a field of Webhook"),
        (["owner_id"], "update_mask", "owner_id cannot be changed"),
        (["failing_since"], "update_mask", "failing_since cannot be changed"),
        (["*", "url"], "update_mask", "must be the only path"),
        (["url"], "webhook.url", "must not be empty"),
        (["url"], "webhook.url", "https://"),
        (["event_types"], "webhook.event_types", "did you mean key.created?"),
    ],
)
async def test_updates_that_make_no_sense(service: Service, paths: list[str], field: str, told: str) -> None:
    """The error says what to do instead, and nothing changes."""
    made = (await register(service)).webhook
    url = "" if "empty" in told else "http://example.org/"
    webhook = pb.Webhook(webhook_id=made.webhook_id, url=url, event_types=["key.create"])
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.UpdateWebhook(webhook=webhook, update_mask=FieldMask(paths=paths))
    assert told in refusal.fields[field]
    assert await service.admin.GetWebhook(webhook_id=made.webhook_id) == made


async def test_an_etag(service: Service, clock: Clock) -> None:
    """An update with an old etag is refused; one that changes nothing leaves no trace."""
    first = (await register(service)).webhook
    second = await update(service, first.webhook_id, etag=first.etag, description="a")
    for etag in (first.etag, "rubbish"):
        with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
            await update(service, first.webhook_id, etag=etag, description="b")
    clock.advance(hours=1)
    assert await update(service, first.webhook_id, etag=second.etag, description="a") == second
    events = (await service.admin.ListAuditEvents(owner_id="acme")).events
    assert len(events) == 2
    assert (await update(service, first.webhook_id, description="b")).etag != second.etag


async def test_of_many_with_one_etag_one_wins(service: Service) -> None:
    """Concurrent updates of a webhook are serialized."""
    made = (await register(service)).webhook
    calls = [update(service, made.webhook_id, etag=made.etag, description=f"{n}") for n in range(8)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    [won] = [answer for answer in done if not isinstance(answer, BaseException)]
    assert await service.admin.GetWebhook(webhook_id=made.webhook_id) == won


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("gone", pb.WEBHOOK_DISABLE_REASON_GONE), ("failing", pb.WEBHOOK_DISABLE_REASON_FAILING)],
)
async def test_enabling_again_forgets_the_failures(
    service: Service, clock: Clock, reason: str, shown: int
) -> None:
    """Why it was disabled, since when it failed, and that this was warned of."""
    webhook_id = (await register(service)).webhook.webhook_id
    columns = f"enabled = false, disable_reason = '{reason}', failing_since = now(), warn_time = now()"
    await set_columns(service, webhook_id, columns)
    disabled = await service.admin.GetWebhook(webhook_id=webhook_id)
    assert (disabled.enabled, disabled.disable_reason) == (False, shown)
    assert disabled.HasField("failing_since")
    # That the owner does not want it either does not hide why.
    assert (await update(service, webhook_id, "enabled")) == disabled
    enabled = await update(service, webhook_id, enabled=True)
    assert (enabled.enabled, enabled.disable_reason) == (True, pb.WEBHOOK_DISABLE_REASON_UNSPECIFIED)
    found = await stored(service, webhook_id)
    assert (found.disable_reason.value, found.failing_since, found.warn_time) == ("", None, None)


async def test_another_url_begins_without_failures(service: Service) -> None:
    """The failures of the previous one say nothing of it; another change keeps them."""
    webhook_id = (await register(service)).webhook.webhook_id
    await set_columns(service, webhook_id, "failing_since = now(), warn_time = now()")
    assert (await update(service, webhook_id, description="x")).HasField("failing_since")
    assert not (await update(service, webhook_id, url="https://example.net/")).HasField("failing_since")
    assert (await stored(service, webhook_id)).warn_time is None


@pytest.mark.parametrize(
    ("before", "fields", "seconds"),
    [
        ("enabled = false, disable_reason = 'failing'", {"enabled": True}, 20),
        ("failing_since = now()", {"url": "https://example.net/"}, 20),
        ("failing_since = now()", {"description": "x"}, 300),
        ("enabled = false", {"url": "https://example.net/"}, 300),
    ],
)
async def test_calls_go_on_soon(
    service: Service, clock: Clock, before: str, fields: dict[str, Any], seconds: int
) -> None:
    """What was paused is called again when it may succeed, but not beside a call that may be in progress."""
    webhook_id = (await register(service)).webhook.webhook_id
    paused = f"line_time = '{clock.now + timedelta(minutes=5)}'"
    await set_columns(service, webhook_id, f"{before}, {paused}")
    await update(service, webhook_id, **fields)
    assert await line_time(service, webhook_id) == clock.now + timedelta(seconds=seconds)


# -- Deleting -----------------------------------------------------------------------------------


async def test_a_webhook_is_deleted_with_its_deliveries(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several transactions if there are many; another webhook keeps its own."""
    monkeypatch.setattr("authsvc.notifications.webhooks.changes._DELETED_AT_ONCE", 4)
    gone, kept = [(await register(service)).webhook.webhook_id for _ in range(2)]
    async with service.app.database.connection() as connection:
        await connection.execute(
            "INSERT INTO authsvc.notifications (notification_id, type, owner_id, event_time, target_id,"
            " actor_id, actor_owner_id, actor_type, details, subject, contacts, spread_time)"
            " SELECT 'evt_' || n, 'key.created', 'acme', now(), '', '', '', '', '{}', '{}', '[]', now()"
            "   FROM generate_series(1, 10) AS n"
        )
        await connection.execute(
            "INSERT INTO authsvc.webhook_deliveries"
            " (delivery_id, webhook_id, notification_id, create_time, next_time)"
            " SELECT w || n, w, 'evt_' || n, now(), now() + interval '1 year'"
            "   FROM generate_series(1, 10) AS n, unnest($1::text[]) AS w",
            [gone, kept],
        )
    await service.admin.DeleteWebhook(webhook_id=gone)
    with refused(NOT_FOUND, "WEBHOOK_NOT_FOUND"):
        await service.admin.GetWebhook(webhook_id=gone)
    with refused(NOT_FOUND, "WEBHOOK_NOT_FOUND"):
        await service.admin.DeleteWebhook(webhook_id=gone)
    async with service.app.database.connection() as connection:
        left = await connection.fetch("SELECT DISTINCT webhook_id FROM authsvc.webhook_deliveries")
    assert [row["webhook_id"] for row in left] == [kept]
    events = (await service.admin.ListAuditEvents(owner_id="acme", filter={"target_id": gone})).events
    assert len(events) == 2


# -- Secrets ------------------------------------------------------------------------------------


def signing(webhook: Any, clock: Clock) -> list[int]:
    return [version.generation for version in webhook.signing(clock.now)]


async def test_both_secrets_sign_for_a_while(service: Service, clock: Clock) -> None:
    """For 24 hours unless the caller says otherwise; the new one is shown once."""
    made = await register(service)
    webhook_id = made.webhook.webhook_id
    turned = await service.admin.RotateWebhookSecret(webhook_id=webhook_id)
    assert turned.secret != made.secret
    end = turned.webhook.old_secret_expire_time.ToDatetime(tzinfo=UTC)
    assert end == clock.now + timedelta(hours=24)
    assert turned.webhook.etag != made.webhook.etag
    found = await stored(service, webhook_id)
    assert signing(found, clock) == [2, 1]
    keys = service.app.webhooks._keys
    assert [keys.shown(webhook_id, version) for version in found.secrets] == [turned.secret, made.secret]
    clock.advance(hours=24)
    assert signing(found, clock) == [2]
    assert not (await service.admin.GetWebhook(webhook_id=webhook_id)).HasField("old_secret_expire_time")


async def test_a_leaked_secret_ends_at_once(service: Service, clock: Clock) -> None:
    """An overlap of 0 ends all old ones; a shorter one than before shortens the others as well."""
    webhook_id = (await register(service)).webhook.webhook_id
    await service.admin.RotateWebhookSecret(webhook_id=webhook_id, overlap=Duration(seconds=604800))
    turned = await service.admin.RotateWebhookSecret(webhook_id=webhook_id, overlap=Duration(seconds=60))
    end = turned.webhook.old_secret_expire_time.ToDatetime(tzinfo=UTC)
    assert end == clock.now + timedelta(seconds=60)
    assert signing(await stored(service, webhook_id), clock) == [3, 2, 1]
    turned = await service.admin.RotateWebhookSecret(webhook_id=webhook_id, overlap=Duration())
    assert not turned.webhook.HasField("old_secret_expire_time")
    assert [version.generation for version in (await stored(service, webhook_id)).secrets] == [4]


@pytest.mark.parametrize("overlap", [Duration(seconds=604801), Duration(seconds=-1), Duration(nanos=-1)])
async def test_an_overlap_that_makes_no_sense(service: Service, overlap: Duration) -> None:
    webhook_id = (await register(service)).webhook.webhook_id
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.RotateWebhookSecret(webhook_id=webhook_id, overlap=overlap)
    assert list(refusal.fields) == ["overlap"]


async def test_not_ever_more_secrets_sign(service: Service, clock: Clock) -> None:
    """Each makes the header of a call longer. The remedy in the error works."""
    webhook_id = (await register(service)).webhook.webhook_id
    for _ in range(4):
        await service.admin.RotateWebhookSecret(webhook_id=webhook_id)
    with refused(PRECONDITION, "MAX_WEBHOOK_SECRETS"):
        await service.admin.RotateWebhookSecret(webhook_id=webhook_id)
    assert signing(await stored(service, webhook_id), clock) == [5, 4, 3, 2, 1]
    await service.admin.RotateWebhookSecret(webhook_id=webhook_id, overlap=Duration())
    await service.admin.RotateWebhookSecret(webhook_id=webhook_id)
    clock.advance(hours=25)
    for _ in range(4):
        await service.admin.RotateWebhookSecret(webhook_id=webhook_id)


async def test_concurrent_rotations_each_make_a_secret(service: Service) -> None:
    """Generations are never used twice."""
    webhook_id = (await register(service)).webhook.webhook_id
    turned = await asyncio.gather(
        *(service.admin.RotateWebhookSecret(webhook_id=webhook_id) for _ in range(4))
    )
    assert len({answer.secret for answer in turned}) == 4


# -- The keys of the operator -------------------------------------------------------------------

OTHER_KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="


async def test_without_keys_there_are_no_webhooks(database_url: str, clock: Clock) -> None:
    """What needs a secret says what the operator has to set; the rest works, so that one can clean up."""
    async with serving(database_url, clock) as service:
        webhook_id, admin_key = (await register(service)).webhook.webhook_id, service.admin_key
    async with serving(database_url, clock, webhook_keys="") as service:
        service.admin_key = admin_key
        for call in (
            register(service),
            service.admin.RotateWebhookSecret(webhook_id=webhook_id),
            service.admin.TestWebhook(webhook_id=webhook_id),
            service.admin.RedeliverWebhook(delivery_id="dlv_x"),
        ):
            with refused(PRECONDITION, "WEBHOOKS_NOT_ENABLED") as refusal:
                await call
            assert "AUTHSVC_WEBHOOK_KEYS" in refusal.message
            assert "openssl rand -base64 32" in refusal.message
        [found] = (await service.admin.ListWebhooks(owner_id="acme")).webhooks
        await service.admin.GetWebhook(webhook_id=found.webhook_id)
        await update(service, webhook_id, "enabled")
        await service.admin.DeleteWebhook(webhook_id=webhook_id)


async def test_a_new_key_is_for_new_secrets(
    database_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first key is that of new secrets; the others are still derived from, as long as they are listed."""
    async with serving(database_url, clock) as service:
        made, admin_key = await register(service), service.admin_key
    webhook_id = made.webhook.webhook_id
    async with serving(database_url, clock, webhook_keys=f"{OTHER_KEY},{WEBHOOK_KEY}") as service:
        service.admin_key = admin_key
        found = await stored(service, webhook_id)
        assert service.app.webhooks._keys.shown(webhook_id, found.secrets[0]) == made.secret
        await service.notifier.missing_keys.look()
        assert "AUTHSVC_WEBHOOK_KEYS" not in caplog.text
    async with serving(database_url, clock, webhook_keys=OTHER_KEY) as service:
        service.admin_key = admin_key
        with refused(PRECONDITION, "WEBHOOK_KEY_MISSING") as refusal:
            await service.admin.TestWebhook(webhook_id=webhook_id)
        assert "rotate the secret" in refusal.message
        for _ in range(2):
            await service.notifier.missing_keys.look()
        assert caplog.text.count("AUTHSVC_WEBHOOK_KEYS: the key with the id") == 1
        assert "1 webhook cannot be called" in caplog.text
        assert WEBHOOK_KEY not in caplog.text
        await service.admin.RotateWebhookSecret(webhook_id=webhook_id, overlap=Duration())
        caplog.clear()
        await service.notifier.missing_keys.look()
        assert "AUTHSVC_WEBHOOK_KEYS" not in caplog.text
    async with serving(database_url, clock, webhook_keys=WEBHOOK_KEY) as service:
        await service.notifier.missing_keys.look()
        assert "AUTHSVC_WEBHOOK_KEYS: the key with the id" in caplog.text


# -- What is kept -------------------------------------------------------------------------------


async def test_no_secret_is_stored(service: Service) -> None:
    """The row says what the secret is derived from."""
    webhook_id = (await register(service)).webhook.webhook_id
    async with service.app.database.connection() as connection:
        secrets = await connection.fetchval(
            "SELECT secrets FROM authsvc.webhooks WHERE webhook_id = $1", webhook_id
        )
    key_id = service.app.webhooks._keys.current_id
    assert json.loads(secrets) == [{"generation": 1, "key_id": key_id, "expire_time": None}]
