"""Whatever the rules allow, a client with gRPC's default settings reads all of it.

Each list is read to its end with the largest items that validation accepts, mostly characters of four bytes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from math import inf
from typing import Any
from unittest import mock

import asyncpg
import grpc
import pytest
from grpc_status import rpc_status

from authsvc.keys.revoke import MAX_RETURNED_KEYS
from authsvc.keys.token_keys import MAX_LENGTH
from authsvc.model.notification import NotificationType
from authsvc.model.page import Page
from authsvc.model.rate_limit import MAX_LIMITS
from authsvc.model.scope import OWN_SCOPES
from authsvc.rpc.answer_size import _FRAME_BYTES, CLIENT_BYTES, MAX_BYTES, fitting, shown
from authsvc.rpc.reflection import Reflection
from authsvc.store import keys as key_store
from authsvc.store.pool import Database
from authsvc.v1 import owner_policy_service_pb2, resources_pb2
from authsvc.v1 import replica_service_pb2 as replica_pb
from authsvc.v1 import scope_service_pb2 as scope_pb
from authsvc.v1.replica_service_pb2_grpc import ReplicaServiceStub
from authsvc.v1.scope_service_pb2_grpc import ScopeServiceStub
from tests.conftest import Clock, Service, serving
from tests.rpc.largest import Sizes, field_of, methods, name_of
from tests.rpc.refusal import refused

WIDE = "\U00020000"  # four bytes in UTF-8, twelve in JSON that is ASCII
OWNER = "o" * 128
SCOPES = [f"{number:02}{'s' * 62}" for number in range(64)]
ANNOTATIONS = {f"{number:02}{'n' * 61}": WIDE * 256 for number in range(32)}
ADDRESS = f"{'m' * 64}@{'.'.join(['d' * 60] * 3)}.org"
KEY = {
    "owner_id": OWNER,
    "display_name": WIDE * 255,
    "description": WIDE * 2000,
    "scopes": SCOPES,
    "technical_contacts": [{"name": WIDE * 255, "email": ADDRESS}] * 16,
    "annotations": ANNOTATIONS,
}
URL = f"https://example.org/{'u' * 1970}"
WEBHOOK = {
    "owner_id": OWNER,
    "url": URL,
    "description": WIDE * 2000,
    "event_types": [each.value for each in NotificationType],
    "technical_contacts": KEY["technical_contacts"],
}
SESSION = {"owner_id": OWNER, "user_agent": WIDE * 600, "scopes": SCOPES, "annotations": ANNOTATIONS}
# The creators with the longest names are certificates.
_COPY_KEY = """
    INSERT INTO authsvc.keys SELECT (jsonb_populate_record(k, jsonb_build_object(
        'key_id', 'key_' || lpad(n::text, 26, '0'), 'key_prefix', 'copy_live_' || lpad(n::text, 12, '0'),
        'creator_id', repeat($2, 512), 'create_time', k.create_time + n * interval '1 second'))).*
      FROM authsvc.keys k, generate_series(1, $3::int) AS n WHERE key_id = $1
"""
_COPY_USES = """
    INSERT INTO authsvc.key_uses (key_id, owner_id)
    SELECT key_id, owner_id FROM authsvc.keys ON CONFLICT DO NOTHING
"""
_COPY_SESSION = """
    INSERT INTO authsvc.sessions SELECT (jsonb_populate_record(s, jsonb_build_object(
        'session_id', 'ses_' || lpad(n::text, 26, '0'), 'creator_id', repeat($2, 512),
        'key_prefix', 'copy_session_' || lpad(n::text, 12, '0'),
        'last_activity_time', s.last_activity_time - n * interval '1 second'))).*
      FROM authsvc.sessions s, generate_series(1, $3::int) AS n WHERE session_id = $1
"""
_COPY_EVENT = """
    INSERT INTO authsvc.audit_events SELECT (jsonb_populate_record(e, jsonb_build_object(
        'event_id', 'evt_' || lpad(n::text, 26, '0'), 'position', e.position + n,
        'target_id', repeat($2, 512), 'actor_id', repeat($2, 512), 'request_id', repeat($2, 512), 'details',
        (SELECT jsonb_object_agg('detail' || d, repeat($2, 512)) FROM generate_series(1, 16) AS d)))).*
      FROM authsvc.audit_events e, generate_series(1, $3::int) AS n WHERE event_id = $1
"""

_INSERT_USAGE = """
    INSERT INTO authsvc.key_usage (key_id, owner_id, day, verifier_id, network, program, uses, last_use_time)
    SELECT $1, '', current_date, repeat($2, 512), '', n || repeat($2, 40), 1, now()
      FROM generate_series(1, $3::int) AS n
"""
_COPY_WEBHOOK = """
    INSERT INTO authsvc.webhooks SELECT (jsonb_populate_record(w, jsonb_build_object(
        'webhook_id', 'whk_' || lpad(n::text, 26, '0'), 'creator_id', repeat($2, 512)))).*
      FROM authsvc.webhooks w, generate_series(1, $3::int) AS n WHERE webhook_id = $1
"""
_INSERT_NOTIFICATIONS = """
    INSERT INTO authsvc.notifications (notification_id, type, owner_id, event_time, target_id, actor_id,
                                       actor_owner_id, actor_type, details, subject, contacts, spread_time)
    SELECT 'evt_' || lpad(n::text, 26, '0'), 'key.created', $1, now(), $2, '', '', '', '{}', '{}', '[]', now()
      FROM generate_series(1, $3::int) AS n
"""
_INSERT_DELIVERIES = """
    INSERT INTO authsvc.webhook_deliveries (
        delivery_id, webhook_id, notification_id, state, create_time, next_time, attempt_time, error)
    SELECT 'dlv_' || lpad(n::text, 26, '0'), $1, 'evt_' || lpad(n::text, 26, '0'),
           (ARRAY['delivered', 'failed'])[n % 2 + 1], now(), now(), now(), repeat($2, 512)
      FROM generate_series(1, $3::int) AS n
"""


async def copies(database_url: str, statement: str, item_id: str, count: int) -> None:
    """Add copies of an item, so that not each of them has to be made by an RPC."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement, item_id, WIDE, count)
        await connection.execute(_COPY_USES)
    finally:
        await connection.close()


async def largest_keys(service: Service, database_url: str, count: int) -> list[str]:
    """Create keys of the greatest size; return their ids, oldest first."""
    made = await service.admin.CreateKey(**KEY)
    await copies(database_url, _COPY_KEY, made.key.key_id, count - 1)
    return [made.key.key_id, *(f"key_{number:026}" for number in range(1, count))]


async def read(ask: Callable[..., Awaitable[Any]], field: str, **request: Any) -> list[Any]:
    """Return the items on all pages, each of which has as many items as fit."""
    items: list[Any] = []
    token = ""
    while True:
        page = await ask(page_size=1000, page_token=token, **request)
        found = getattr(page, field)
        sizes = [item.ByteSize() + _FRAME_BYTES for item in found]
        assert sum(sizes) <= MAX_BYTES
        items.extend(found)
        if not (token := page.next_page_token):
            return items
        assert sum(sizes) + 2 * max(sizes) > MAX_BYTES


@pytest.mark.parametrize("order_by", ["create_time", "display_name desc"])
async def test_list_keys(service: Service, database_url: str, order_by: str) -> None:
    """The pages end early, and together have each key once."""
    made = await largest_keys(service, database_url, 100)
    keys = await read(service.admin.ListKeys, "keys", owner_id=OWNER, order_by=order_by)
    assert [key.key_id for key in keys] == (made if order_by == "create_time" else sorted(made, reverse=True))
    assert sum(key.ByteSize() for key in keys) > CLIENT_BYTES
    assert {key.description for key in keys} == {KEY["description"]}


async def test_list_sessions(service: Service, database_url: str) -> None:
    """The same, for sessions."""
    made = await service.admin.CreateSession(**SESSION)
    await copies(database_url, _COPY_SESSION, made.session.session_id, 149)
    sessions = await read(service.admin.ListSessions, "sessions", owner_id=OWNER)
    assert [session.session_id for session in sessions[1:]] == [f"ses_{n:026}" for n in range(1, 150)]
    assert sessions[0].session_id == made.session.session_id
    assert sum(session.ByteSize() for session in sessions) > CLIENT_BYTES


async def test_list_audit_events(service: Service, database_url: str) -> None:
    """The same, for events with many details."""
    await service.admin.CreateKey(owner_id=OWNER, display_name="x")
    [event] = (await service.admin.ListAuditEvents(owner_id=OWNER)).events
    await copies(database_url, _COPY_EVENT, event.event_id, 149)
    events = await read(service.admin.ListAuditEvents, "events", owner_id=OWNER)
    assert [event.position for event in events] == list(range(150, 0, -1))
    assert sum(event.ByteSize() for event in events) > CLIENT_BYTES


async def test_usage(service: Service, database_url: str) -> None:
    """All rows of the longest callers are on some page."""
    made = await service.admin.CreateKey(owner_id=OWNER, display_name="x")
    await copies(database_url, _INSERT_USAGE, made.key.key_id, 1500)
    today, key_id = service.clock.now.date(), made.key.key_id
    days = {"first_day": f"{today - timedelta(days=200)}", "last_day": f"{today + timedelta(days=199)}"}
    rows = await read(service.admin.GetKeyUsage, "usage", key_id=key_id, **days)
    assert sorted(int(row.program.rstrip(WIDE)) for row in rows) == list(range(1, 1501))


async def test_list_webhooks(service: Service, database_url: str) -> None:
    """The same, for webhooks with the largest values; there may be more of them one day."""
    made = await service.admin.CreateWebhook(**WEBHOOK)
    await copies(database_url, _COPY_WEBHOOK, made.webhook.webhook_id, 149)
    webhooks = await read(service.admin.ListWebhooks, "webhooks", owner_id=OWNER)
    ids = [f"whk_{number:026}" for number in range(1, 150)]
    assert [webhook.webhook_id for webhook in webhooks] == [*ids, made.webhook.webhook_id]
    assert sum(webhook.ByteSize() for webhook in webhooks) > CLIENT_BYTES


async def test_list_webhook_deliveries(service: Service, database_url: str) -> None:
    """The same, for deliveries."""
    made = (await service.admin.CreateWebhook(owner_id=OWNER, url=URL, event_types=["key.expired"])).webhook
    await copies(database_url, _INSERT_NOTIFICATIONS, OWNER, 3000)
    await copies(database_url, _INSERT_DELIVERIES, made.webhook_id, 3000)
    deliveries = await read(service.admin.ListWebhookDeliveries, "deliveries", webhook_id=made.webhook_id)
    assert [each.delivery_id for each in deliveries] == [f"dlv_{number:026}" for number in range(3000, 0, -1)]
    assert sum(delivery.ByteSize() for delivery in deliveries) > CLIENT_BYTES


async def test_revoke_a_batch(service: Service, database_url: str) -> None:
    """All keys are in the answer, in the order of the request, with what happened to them."""
    made = await largest_keys(service, database_url, 100)
    early = await service.admin.RevokeKey(key_id=made[7], reason=WIDE * 500)
    answer = await service.admin.BatchRevokeKeys(key_ids=made[::-1], reason=WIDE * 500)
    assert (answer.revoked_count, answer.keys_are_partial) == (99, True)
    assert [key.key_id for key in answer.keys] == made[::-1]
    for key in answer.keys:
        whole = await service.admin.GetKey(key_id=key.key_id)
        assert key == partial_of(whole)
    assert answer.keys[-8] == partial_of(early)
    # Fewer keys are returned with all fields.
    few = await service.admin.BatchRevokeKeys(key_ids=made[:20], reason="again")
    assert (few.revoked_count, few.keys_are_partial) == (0, False)
    assert list(few.keys) == [await service.admin.GetKey(key_id=key_id) for key_id in made[:20]]


async def test_revoke_an_owner(service: Service, database_url: str) -> None:
    """The answer names as many keys as ever, each of which is revoked."""
    made = await largest_keys(service, database_url, MAX_RETURNED_KEYS + 1)
    answer = await service.admin.BatchRevokeKeys(owner_id=OWNER, reason=WIDE * 500)
    assert (answer.revoked_count, answer.keys_are_partial) == (MAX_RETURNED_KEYS + 1, True)
    assert [key.key_id for key in answer.keys] == sorted(made)[:MAX_RETURNED_KEYS]
    assert {key.state for key in answer.keys} == {resources_pb2.KEY_STATE_REVOKED}
    assert answer.keys[0] == partial_of(await service.admin.GetKey(key_id=answer.keys[0].key_id))
    assert answer.ByteSize() < MAX_BYTES


def partial_of(key: Any) -> resources_pb2.Key:
    """Return what the answer of a batch has of a key at least, as the proto says."""
    return resources_pb2.Key(
        key_id=key.key_id,
        owner_id=key.owner_id,
        key_prefix=key.key_prefix,
        state=key.state,
        revoke_time=key.revoke_time,
    )


async def test_verify_a_batch(service: Service) -> None:
    """A hundred of the largest keys are verified in one call, with all scopes and annotations."""
    made = await service.admin.CreateKey(**KEY)
    asked = [{"key_string": made.key_string, "required_scopes": SCOPES}] * 100
    answer = await service.admin.BatchVerifyKeys(requests=asked)
    assert len(answer.responses) == 100
    for verdict in answer.responses:
        assert (verdict.valid, list(verdict.scopes), dict(verdict.annotations)) == (True, SCOPES, ANNOTATIONS)


async def test_single_keys_and_policies(service: Service) -> None:
    """The largest key and the largest policy, in all other RPCs."""
    made = await service.admin.CreateKey(**KEY)
    assert await service.admin.LookupKey(key_string=made.key_string) == made.key
    rotated = await service.admin.RotateKey(key_id=made.key.key_id)
    assert rotated.key.annotations == made.key.annotations
    await service.admin.RevokeKey(key_id=rotated.key.key_id, reason=WIDE * 500)
    await service.admin.BatchDeleteKeys(key_ids=[made.key.key_id, rotated.key.key_id])
    policy = owner_policy_service_pb2.OwnerPolicy(owner_id=OWNER, allowed_scopes=SCOPES)
    await service.admin.UpdateOwnerPolicy(policy=policy, update_mask={"paths": ["allowed_scopes"]})
    assert (await service.admin.GetOwnerPolicy(owner_id=OWNER)).allowed_scopes == SCOPES


@pytest.mark.parametrize(("count", "is_complete"), [(50 * 4, True), (16_000, False)])
async def test_replica_status(service: Service, database_url: str, count: int, is_complete: bool) -> None:
    """Fifty replicas of four workers are all shown; of very many workers, the rest is counted."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid, applied)"
        " SELECT gen_random_uuid(), 30000, repeat('h', 64), n, 0 FROM generate_series(1, $1::int) AS n",
        count,
    )
    await connection.close()
    status = await ReplicaServiceStub(service.channel).GetReplicaStatus(
        replica_pb.GetReplicaStatusRequest(), metadata=[("authorization", f"Bearer {service.admin_key}")]
    )
    assert len(status.workers) + status.omitted_worker_count == count + 1
    assert (status.omitted_worker_count == 0) is is_complete


_REPORT = """
    INSERT INTO authsvc.client_reports
    SELECT gen_random_uuid(), repeat('h', 64), n, clock_timestamp(), 100, jsonb_agg(jsonb_build_object(
           'credential_id', 'key_' || repeat('k', 26), 'address', '192.0.2.1', 'instance', repeat($2, 100),
           'held', 10000, 'late', 0, 'waited_seconds', 0))
      FROM generate_series(1, $1::int) AS n, generate_series(1, 100) GROUP BY n
"""


@pytest.mark.parametrize(("workers", "is_complete"), [(5, True), (150, False)])
async def test_client_status(service: Service, database_url: str, workers: int, is_complete: bool) -> None:
    """Hundreds of clients are all shown; of very many, the rest is counted, beside all workers."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_REPORT, workers, WIDE)
    await connection.close()
    status = await ReplicaServiceStub(service.channel).GetReplicaStatus(
        replica_pb.GetReplicaStatusRequest(), metadata=[("authorization", f"Bearer {service.admin_key}")]
    )
    assert len(status.clients) + status.omitted_client_count == 100 * workers
    assert (status.omitted_client_count == 0) is is_complete
    assert sum(client.ByteSize() for client in status.clients) <= MAX_BYTES // 2
    assert len(status.workers) == 1


async def test_list_scopes(database_url: str, clock: Clock) -> None:
    """A catalogue of a thousand scopes with the longest descriptions."""
    scopes = "\n".join(f"{number:04}{'s' * 60} = {WIDE * 500}" for number in range(1000))
    async with serving(database_url, clock, scopes=scopes) as service:
        answer = await ScopeServiceStub(service.channel).ListScopes(
            scope_pb.ListScopesRequest(), metadata=[("authorization", f"Bearer {service.admin_key}")]
        )
    assert len(answer.scopes) == 1000 + len(OWN_SCOPES)
    assert answer.scopes[999].description == WIDE * 500


def test_reflection() -> None:
    """No description of a file or symbol is near the limit, whoever asks for it by the longest request."""
    services = {method.containing_service.full_name for method in methods()}
    reflection = Reflection(sorted(services))
    asked = [*services] + [method.output_type.full_name for method in methods()]
    for symbol in asked:
        request = b"\x22" + bytes([len(symbol)]) + symbol.encode()  # file_containing_symbol
        assert 1000 < len(reflection.answer(request)) < CLIENT_BYTES // 4


BROKEN = WIDE * 62


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (
            "CreateKey",
            {"owner_id": "x", "display_name": "x", "annotations": {f"{BROKEN}{n}": "" for n in range(32)}},
        ),
        ("CreateKey", {"owner_id": WIDE * 9000, "display_name": "", "scopes": [WIDE * 100, WIDE * 200]}),
        ("CreateKey", {**KEY, "display_name": "\x00" * 255, "scopes": [f"{WIDE}{n}" for n in range(64)]}),
        (
            "UpdateKey",
            {"key": {"key_id": "x"}, "update_mask": {"paths": [f"{n}{WIDE * 500}" for n in range(20)]}},
        ),
        ("UpdateKey", {"key": {"key_id": "x"}, "update_mask": {"paths": [f"{n}{WIDE}" for n in range(100)]}}),
        ("GetKey", {"key_id": "%" * 64}),
        ("BatchDeleteKeys", {"key_ids": [f"%{n:063}" for n in range(100)]}),
        ("BatchRevokeKeys", {"key_ids": [f"key_{n:026}" for n in range(100)]}),
        ("CreateKey", {"owner_id": "x", "display_name": "x", "scopes": ["x" * 65] * 64}),
    ],
    ids=range(9),
)
async def test_errors(service: Service, method: str, request_: dict[str, Any]) -> None:
    """A client sees the code, the message and the details, however much is wrong, and in whatever script."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(service.admin, method)(**request_)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), caught.value
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert status.details[0].type_url.endswith("ErrorInfo")
    assert len(status.details) == (2 if caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT else 1)


async def test_an_error_names_whole_ids(service: Service) -> None:
    """Those that fit, so that none is taken for another one."""
    ids = [f"key_{number:060}" for number in range(100)]
    with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND") as refusal:
        await service.admin.BatchDeleteKeys(key_ids=ids)
    named = refusal.info.metadata["key_ids"].split(",")
    assert 40 < len(named) < 100
    assert named == ids[: len(named)]


async def test_what_fits() -> None:
    """An answer has the items that fit, and at least one; what follows them has a token."""

    def scope(size: int) -> scope_pb.Scope:
        return scope_pb.Scope(name="x" * size)

    async def lengths(*sizes: int, more: bool = False) -> tuple[list[int], str]:
        messages, token = await shown(Page(sizes, more, lambda size: f"after {size}"), scope)
        return [len(message.name) for message in messages], token

    half = MAX_BYTES // 2 - 20
    assert await lengths(1, 2, 3) == ([1, 2, 3], "")
    assert await lengths(1, 2, 3, more=True) == ([1, 2, 3], "after 3")
    assert await lengths(half, half, 100, 3) == ([half, half], f"after {half}")
    assert await lengths(2 * MAX_BYTES, 1) == ([2 * MAX_BYTES], f"after {2 * MAX_BYTES}")
    assert await lengths(2 * MAX_BYTES) == ([2 * MAX_BYTES], "")
    assert await lengths() == ([], "")


@pytest.mark.parametrize(("count", "size"), [(1000, 10), (30, 64 * 1024)])
async def test_others_have_the_loop_in_between(count: int, size: int) -> None:
    """A long answer is converted a few items, or a few bytes, at a time."""
    conversion = asyncio.create_task(fitting([size] * count, lambda size: scope_pb.Scope(name="x" * size)))
    turns = 0
    while not conversion.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= min(count, 1000 // 25 if size == 10 else count)


async def test_a_read_that_asks_for_too_much(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with what to do instead. A change is not, since it is done by then."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="x")
    size = made.key.ByteSize()
    monkeypatch.setattr("authsvc.rpc.answer_size.CLIENT_BYTES", size)
    assert await service.admin.GetKey(key_id=made.key.key_id) == made.key
    monkeypatch.setattr("authsvc.rpc.answer_size.CLIENT_BYTES", size - 1)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.GetKey(key_id=made.key.key_id)
    assert f"asks for an answer of {size} bytes" in refusal.message
    assert "ask for less at a time" in refusal.message
    revoked = await service.admin.RevokeKey(key_id=made.key.key_id)
    assert (revoked.state, revoked.ByteSize() > size) == (resources_pb2.KEY_STATE_REVOKED, True)


async def test_others_have_the_loop_while_keys_are_read(service: Service, database_url: str) -> None:
    """A batch has up to a thousand large keys, which are read a few at a time."""
    made = await largest_keys(service, database_url, 100)
    async with Database.open(database_url) as database, database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM authsvc.key_records WHERE owner_id = $1", OWNER)
    fetched = mock.AsyncMock()
    fetched.fetch.return_value = rows
    reading = asyncio.create_task(key_store.find(fetched, made))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 100 // 25
    assert sorted(reading.result()) == sorted(made)


# Bytes of texts, and numbers of items, that no rule of a proto bounds.
_CALLER = 512 * 4  # the name of a certificate
_TEXT = 512 * 4
_VALUES = {
    "Key.owner_id": 128,
    "Key.key_prefix": 32,
    "Key.creator_id": _CALLER,
    "Key.revoker_id": _CALLER,
    "Key.last_use_ip": 64,
    "Key.rotated_from_key_id": 64,
    "Key.rotated_to_key_id": 64,
    "CreateKeyResponse.key_string": 100,
    "CreateKeyResponse.sealed_key_string": 1024,
    "ImportKeysResponse.results": 1000,
    "ImportKeyResult.key_id": 64,
    "ImportError.reason": 64,
    "ImportError.message": 500 * 4,
    "ImportError.field": 100 * 4,
    "RotateKeyResponse.key_string": 100,
    "RotateKeyResponse.sealed_key_string": 1024,
    "RotateSelfResponse.key_string": 100,
    "RevokeSelfResponse.key_id": 64,
    "RotateSelfResponse.sealed_key_string": 1024,
    "VerifyKeyResponse.key_id": 64,
    "VerifyKeyResponse.owner_id": 128,
    # Those of a key, and those of its owner's policy.
    "VerifyKeyResponse.rate_limits": 2 * MAX_LIMITS,
    "VerifyTokenResponse.rate_limits": 2 * MAX_LIMITS,
    "RateLimitState.name": 32,
    "DeriveTokenResponse.token": MAX_LENGTH,
    "DeriveTokenResponse.token_id": 64,
    "VerifyTokenResponse.key_id": 64,
    "VerifyTokenResponse.session_id": 64,
    "VerifyTokenResponse.owner_id": 128,
    "VerifyTokenResponse.token_id": 64,
    "Session.session_id": 64,
    "Session.owner_id": 128,
    "Session.key_prefix": 31,
    "Session.creator_id": _CALLER,
    "Session.revoker_id": _CALLER,
    "Session.ip_address": 64,
    # The parts of a user agent of 512 characters, or of client hints of 256.
    "Device.browser": _TEXT,
    "Device.browser_version": _TEXT,
    "Device.os": _TEXT,
    "Device.os_version": _TEXT,
    "Device.device_type": 64,
    "Device.user_agent": _TEXT,
    "Device.model": _TEXT,
    "Location.city": 128 * 4,
    "Location.region": 128 * 4,
    "Location.country_code": 16,
    "CreateSessionResponse.session_token": 100,
    "VerifySessionResponse.session_id": 64,
    "VerifySessionResponse.owner_id": 128,
    "AuditEvent.event_id": 64,
    "AuditEvent.actor_id": _TEXT,
    "AuditEvent.actor_owner_id": _TEXT,
    "AuditEvent.owner_id": 128,
    "AuditEvent.target_id": _TEXT,
    "AuditEvent.client_ip": _TEXT,
    "AuditEvent.request_id": _TEXT,
    "AuditEvent.details": 16,
    "AuditEvent.details.key": 64,
    "AuditEvent.details.value": _TEXT,
    "AuditEvent.hash": 32,
    "AuditEvent.previous_hash": 32,
    "WorkerStatus.worker_id": 36,
    "WorkerStatus.host": 255,
    # Twice the number of workers of a replica: a rolling restart has new ones beside the old ones.
    "WorkerStatus.worker_pids": 512,
    "WorkerStatus.unconfirmed_pids": 512,
    "ClientStatus.instance": 100 * 4,
    "ClientStatus.credential_id": _CALLER,
    "ClientStatus.address": 64,
    "ClientStatus.host": 255,
    "HeldCredential.credential_id": 64,
    "HeldCredential.owner_id": 128,
    "Key.disabler_id": _CALLER,
    "Key.disable_reason": _TEXT,
    "Forget.owner_id": 128,
    "End.reason": _TEXT,
    "ListScopesResponse.scopes": 1000 + len(OWN_SCOPES),
    "Scope.name": 64,
    "Scope.description": 500 * 4,
    "KeyUsage.day": 10,
    "KeyUsage.verifier_id": _CALLER,
    "KeyUsage.network": 64,
    "KeyUsage.program": 128 * 4,
    "PreviewRevocationResponse.users": 100,
    "PreviewRevocationResponse.successor_key_id": 64,
    "PreviewRevocationResponse.etag": 64,
    "GetRotationStatusResponse.old_key_users": 100,
    "PreviewAllowedNetworksResponse.refused_networks": 100,
    "RefusedNetwork.network": 64,
    "BatchVerifyKeysResponse.responses": 100,
    "Webhook.owner_id": 128,
    "Webhook.creator_id": _CALLER,
    "CreateWebhookResponse.secret": 64,
    "RotateWebhookSecretResponse.secret": 64,
    "TestWebhookResponse.error": _TEXT,
    "TestWebhookResponse.message_id": 64,
    "WebhookDelivery.delivery_id": 64,
    "WebhookDelivery.webhook_id": 64,
    "WebhookDelivery.notification_id": 64,
    "WebhookDelivery.owner_id": 128,
    "WebhookDelivery.type": 64,
    "WebhookDelivery.error": _TEXT,
}
# Fields with the rules of other fields, from which their values come.
_LIKE = {
    "Key.revoke_reason": "RevokeKeyRequest.reason",
    "VerifyKeyResponse.scopes": "Key.scopes",
    "VerifyKeyResponse.annotations": "Key.annotations",
    "VerifyTokenResponse.scopes": "Key.scopes",
    "VerifyTokenResponse.annotations": "Key.annotations",
    "VerifySessionResponse.scopes": "CreateSessionRequest.scopes",
    "Session.scopes": "CreateSessionRequest.scopes",
    "HeldCredential.scopes": "Key.scopes",
    "HeldCredential.allowed_networks": "Key.allowed_networks",
    "HeldCredential.owner_networks": "Key.allowed_networks",
    "HeldCredential.annotations": "Key.annotations",
    "Session.annotations": "CreateSessionRequest.annotations",
    "ListKeysResponse.next_page_token": "ListKeysRequest.page_token",
    "ListSessionsResponse.next_page_token": "ListSessionsRequest.page_token",
    "ListAuditEventsResponse.next_page_token": "ListAuditEventsRequest.page_token",
    "ListWebhooksResponse.next_page_token": "ListWebhooksRequest.page_token",
    "ListWebhookDeliveriesResponse.next_page_token": "ListWebhookDeliveriesRequest.page_token",
    "GetKeyUsageResponse.next_page_token": "GetKeyUsageRequest.page_token",
    "KeyUsage.verifier_name": "Key.display_name",
}
# Lists of any length, which `answer_size` cuts, and the test that reads such a list to its end.
_CUT = {
    "ListKeysResponse.keys": test_list_keys,
    "ListSessionsResponse.sessions": test_list_sessions,
    "ListAuditEventsResponse.events": test_list_audit_events,
    "ListWebhooksResponse.webhooks": test_list_webhooks,
    "ListWebhookDeliveriesResponse.deliveries": test_list_webhook_deliveries,
    "GetKeyUsageResponse.usage": test_usage,
    "BatchRevokeKeysResponse.keys": test_revoke_an_owner,
    "ReplicaStatus.workers": test_replica_status,
    "ReplicaStatus.clients": test_client_status,
}
_WHOLE = {
    **dict.fromkeys(_CUT, MAX_BYTES),
    # Of two lists in an answer, one gets less.
    "ReplicaStatus.clients": MAX_BYTES // 2,
    # An entry of the feed names so many keys at most; more are named by their owner.
    "Forget.key_prefixes": MAX_RETURNED_KEYS * (31 + 6),
}


def test_each_answer_has_a_bound() -> None:
    """The longest values of all fields of an answer add up to what clients accept.

    If this fails for a new field: give it a rule or its bound here. If it is a list of any length, let
    `answer_size.shown` or `fitting` cut it, and write a test that reads it to its end.
    """
    sizes = Sizes(_VALUES, _LIKE, _WHOLE)
    for method in methods():
        assert not sizes.unbounded(method.output_type), method.full_name
        assert sizes.message(method.output_type) < CLIENT_BYTES, method.full_name
        if "next_page_token" in method.output_type.fields_by_name:
            [items] = [field for field in method.output_type.fields if field.is_repeated]
            assert name_of(items) in _CUT
    for name in _CUT:  # which have at least one item
        item = field_of(name).message_type
        assert item is not None
        assert sizes.message(item) < MAX_BYTES
    assert {*_VALUES, *_LIKE, *_CUT} - sizes.seen == set(), "no RPC has these"


def test_a_field_without_a_bound_is_noticed() -> None:
    """The sum of the test above fails for a field that nobody has thought of."""
    sizes = Sizes({}, {}, {})
    [verify] = [method for method in methods() if method.name == "VerifySession"]
    assert sizes.message(verify.output_type) == inf
    assert sizes.unbounded(verify.output_type) == [
        f"VerifySessionResponse.{name}" for name in ("session_id", "owner_id", "scopes")
    ]
