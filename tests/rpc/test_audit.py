"""AuditService: rule 28, through a client."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.audit.check import AuditCheck
from authsvc.v1 import audit_service_pb2 as pb
from authsvc.v1 import key_service_pb2
from tests import http2
from tests.conftest import Client, Clock, Service
from tests.rpc.refusal import refused
from tests.rpc.test_abuse import OK, UNAUTHENTICATED, connected, headers
from tests.rpc.test_access_table import METHODS, scope_of


async def events(service: Service, owner_id: str = "acme", **fields: Any) -> list[pb.AuditEvent]:
    """Return the events of an owner, newest first."""
    return list((await service.admin.ListAuditEvents(owner_id=owner_id, page_size=1000, **fields)).events)


async def make(service: Service, **fields: Any) -> Any:
    return await service.admin.CreateKey(**{"owner_id": "acme", "display_name": "x"} | fields)


async def revoked(service: Service) -> str:
    key_id: str = (await make(service)).key.key_id
    await service.admin.RevokeKey(key_id=key_id)
    return key_id


async def sign_in(service: Service, owner_id: str = "acme") -> str:
    session_id: str = (await service.admin.CreateSession(owner_id=owner_id)).session.session_id
    return session_id


# The events that a changing RPC writes: (action, target, details) of each, oldest first.
Left = list[tuple[str, str, dict[str, str]]]


async def create_key(service: Service, caller: Client) -> Left:
    made = await caller.CreateKey(
        owner_id="acme", display_name="x", scopes=["keys:write", "keys:read"], ttl={"seconds": 60}
    )
    details = {"scopes": "keys:read keys:write", "expire_time": "2026-11-21T12:01:00+00:00"}
    return [("KEY_CREATED", made.key.key_id, details)]


async def update_key(service: Service, caller: Client) -> Left:
    key_id = (await make(service)).key.key_id
    mask = {"paths": ["scopes", "description", "expire_time"]}
    await caller.UpdateKey(
        key={"key_id": key_id, "description": "a secret?", "scopes": ["keys:read"]}, update_mask=mask
    )
    details = {"fields": "description,expire_time,scopes", "scopes": "keys:read", "expire_time": "never"}
    return [("KEY_UPDATED", key_id, details)]


async def import_keys(service: Service, caller: Client) -> Left:
    keys = [{"hash": f"sha256:{digit * 64}", "display_name": "x", "scopes": ["keys:read"]} for digit in "01"]
    answer = await caller.ImportKeys(owner_id="acme", keys=[*keys, {"hash": "wrong", "display_name": "x"}])
    return [("KEY_IMPORTED", each.key_id, {"scopes": "keys:read"}) for each in answer.results[:2]]


async def rotate_key(service: Service, caller: Client) -> Left:
    key_id = (await make(service)).key.key_id
    new = await caller.RotateKey(key_id=key_id, grace_period={"seconds": 60})
    details = {"rotated_to_key_id": new.key.key_id, "revoke_time": "2026-11-21T12:01:00+00:00"}
    return [("KEY_ROTATED", key_id, details)]


async def revoke_key(service: Service, caller: Client) -> Left:
    key_id = (await make(service)).key.key_id
    await caller.RevokeKey(key_id=key_id, reason="leaked", revoke_in={"seconds": 60})
    return [("KEY_REVOKED", key_id, {"revoke_time": "2026-11-21T12:01:00+00:00", "reason": "leaked"})]


async def disable_key(service: Service, caller: Client) -> Left:
    made = await make(service)
    await caller.DisableKey(key_id=made.key.key_id, reason="audit")
    return [("KEY_DISABLED", made.key.key_id, {"reason": "audit"})]


async def enable_key(service: Service, caller: Client) -> Left:
    made = await make(service)
    await caller.DisableKey(key_id=made.key.key_id)
    await caller.EnableKey(key_id=made.key.key_id, reason="all is well")
    return [
        ("KEY_DISABLED", made.key.key_id, {}),
        ("KEY_ENABLED", made.key.key_id, {"reason": "all is well"}),
    ]


async def refund_credits(service: Service, caller: Client) -> Left:
    made = await make(service, credits={"remaining": 5})
    await service.admin.VerifyKey(key_string=made.key_string, cost=3)
    for _ in range(2):
        await caller.RefundCredits(key_id=made.key.key_id, amount=2, refund_id="req_1")
    return [("KEY_CREDITS_REFUNDED", made.key.key_id, {"amount": "2", "refund_id": "req_1"})]


async def batch_revoke_keys(service: Service, caller: Client) -> Left:
    before = await revoked(service)
    ids = sorted([(await make(service)).key.key_id for _ in range(3)])
    await caller.BatchRevokeKeys(key_ids=[*ids, before])
    return [("KEY_REVOKED", key_id, {"revoke_time": "2026-11-21T12:00:00+00:00"}) for key_id in ids]


async def delete_key(service: Service, caller: Client) -> Left:
    key_id = await revoked(service)
    await caller.DeleteKey(key_id=key_id)
    return [("KEY_DELETED", key_id, {})]


async def batch_delete_keys(service: Service, caller: Client) -> Left:
    ids = [await revoked(service) for _ in range(3)]
    await caller.BatchDeleteKeys(key_ids=ids)
    return [("KEY_DELETED", key_id, {}) for key_id in ids]


async def create_session(service: Service, caller: Client) -> Left:
    made = await caller.CreateSession(
        owner_id="acme",
        ip_address="192.0.2.1",
        user_agent="x",
        scopes=["keys:read"],
        annotations={
            "signed-in-as": "Ada",
            "oidc-issuer": "https://idp",
            "oidc-subject": "7",
            "plan": "free",
        },
    )
    identity = {"signed_in_as": "Ada", "issuer": "https://idp", "subject": "7"}
    details = {"ip_address": "192.0.2.1", "scopes": "keys:read", **identity}
    return [("SESSION_CREATED", made.session.session_id, details)]


async def revoke_session(service: Service, caller: Client) -> Left:
    session_id = await sign_in(service)
    await caller.RevokeSession(session_id=session_id)
    return [("SESSION_REVOKED", session_id, {})]


async def revoke_all_sessions(service: Service, caller: Client) -> Left:
    kept, *_ = [await sign_in(service) for _ in range(3)]
    await caller.RevokeAllSessions(owner_id="acme", except_session_id=kept)
    return [("OWNER_SESSIONS_REVOKED", "acme", {"count": "2", "except_session_id": kept})]


async def update_owner_policy(service: Service, caller: Client) -> Left:
    policy = {"owner_id": "acme", "max_active_keys": 5, "expiration_required": True}
    mask = {"paths": ["max_active_keys", "expiration_required"]}
    await caller.UpdateOwnerPolicy(policy=policy, update_mask=mask)
    return [("OWNER_POLICY_UPDATED", "acme", {"max_active_keys": "5", "expiration_required": "true"})]


async def register(service: Service) -> str:
    made = await service.admin.CreateWebhook(
        owner_id="acme", url="https://example.org/T0/secret", event_types=["key.expired"]
    )
    webhook_id: str = made.webhook.webhook_id
    return webhook_id


async def create_webhook(service: Service, caller: Client) -> Left:
    made = await caller.CreateWebhook(
        owner_id="acme",
        url="https://example.org:8443/T0/secret?a=b",
        event_types=["key.expired", "key.created"],
    )
    details = {"host": "example.org:8443", "event_types": "key.created key.expired", "enabled": "true"}
    return [("WEBHOOK_CREATED", made.webhook.webhook_id, details)]


async def update_webhook(service: Service, caller: Client) -> Left:
    webhook_id = await register(service)
    webhook = {"webhook_id": webhook_id, "url": "https://example.net/x", "event_types": ["key.expired"]}
    await caller.UpdateWebhook(webhook=webhook, update_mask={"paths": ["url", "event_types", "enabled"]})
    details = {"fields": "enabled,event_types,url", "host": "example.net", "enabled": "false"}
    return [("WEBHOOK_UPDATED", webhook_id, details)]


async def delete_webhook(service: Service, caller: Client) -> Left:
    webhook_id = await register(service)
    await caller.DeleteWebhook(webhook_id=webhook_id)
    return [("WEBHOOK_DELETED", webhook_id, {"host": "example.org"})]


async def rotate_webhook_secret(service: Service, caller: Client) -> Left:
    webhook_id = await register(service)
    await caller.RotateWebhookSecret(webhook_id=webhook_id, overlap={"seconds": 60})
    details = {"old_secret_expire_time": "2026-11-21T12:01:00+00:00"}
    return [("WEBHOOK_SECRET_ROTATED", webhook_id, details)]


CHANGES: dict[str, Callable[[Service, Client], Awaitable[Left]]] = {
    "CreateKey": create_key,
    "ImportKeys": import_keys,
    "UpdateKey": update_key,
    "RotateKey": rotate_key,
    "RevokeKey": revoke_key,
    "DisableKey": disable_key,
    "EnableKey": enable_key,
    "RefundCredits": refund_credits,
    "BatchRevokeKeys": batch_revoke_keys,
    "DeleteKey": delete_key,
    "BatchDeleteKeys": batch_delete_keys,
    "CreateSession": create_session,
    "RevokeSession": revoke_session,
    "RevokeAllSessions": revoke_all_sessions,
    "UpdateOwnerPolicy": update_owner_policy,
    "CreateWebhook": create_webhook,
    "UpdateWebhook": update_webhook,
    "DeleteWebhook": delete_webhook,
    "RotateWebhookSecret": rotate_webhook_secret,
}
# They have a webhook called, and change nothing of it.
CALLS = {"TestWebhook", "RedeliverWebhook"}
PLATFORM_ONLY = {"UpdateOwnerPolicy"}


def test_every_changing_rpc_is_in_the_table() -> None:  # rule 28
    """A new RPC needs a row there, and so an event."""
    assert set(CHANGES) | CALLS == {method for method in METHODS if scope_of(method).endswith(":write")}


@pytest.mark.parametrize("method", CHANGES)
async def test_each_change_leaves_its_event(service: Service, clock: Clock, method: str) -> None:  # rule 28
    """Actor, action, target, time, address and request id; one event for each changed target."""
    scopes = ["keys:write", "keys:read", "sessions:write", "policies:write", "webhooks:write"]
    actors_owner = "authsvc" if method in PLATFORM_ONLY else "acme"
    actor = await make(service, scopes=scopes, owner_id=actors_owner)
    named = Client(service.channel, actor.key_string)
    named._metadata.append(("x-request-id", "trace-1"))
    left = await CHANGES[method](service, named)
    found = [event for event in await events(service) if event.actor_id == actor.key.key_id][::-1]
    assert [
        (pb.AuditAction.Name(e.action).removeprefix("AUDIT_ACTION_"), e.target_id, dict(e.details))
        for e in found
    ] == left
    for event in found:
        assert event.event_id.startswith("evt_")
        assert event.event_time.ToDatetime() == clock.now.replace(tzinfo=None)
        assert (event.owner_id, event.actor_owner_id, event.actor_type) == (
            "acme",
            actors_owner,
            pb.ACTOR_TYPE_KEY,
        )
        assert (event.client_ip, event.request_id) == ("127.0.0.1", "trace-1")


async def test_hostile_request_ids_are_not_kept(service: Service, transport: str) -> None:
    """Ids that are too long, unprintable or contain a credential are not stored; the change is made.

    The lane refuses control characters in headers.
    """
    actor = await make(service, scopes=["keys:write"])
    token = (await service.admin.CreateSession(owner_id="acme")).session_token
    longest = "x" * 128
    named = (
        longest,
        longest + "x",
        "a\tb",
        "a\x1b[2Jb",
        "a\u202eb",
        actor.key_string,
        f"job of {actor.key_string}.",
        f"{token},2",
    )
    request = http2.message(
        key_service_pb2.CreateKeyRequest(owner_id="acme", display_name="x").SerializeToString()
    )
    async with connected(service) as connection:
        statuses = [
            await connection.status(
                connection.call(
                    headers("/authsvc.v1.KeyService/CreateKey", actor.key_string, **{"x-request-id": name}),
                    request,
                )
            )
            for name in named
        ]
    found = [event for event in await events(service) if event.actor_id == actor.key.key_id][::-1]
    refused = [UNAUTHENTICATED] if transport == "lane" else []
    assert [status for status in statuses if status != OK] == refused
    assert [event.request_id for event in found] == [longest] + [""] * (len(named) - 1 - len(refused))


async def test_a_whole_owner_is_one_event(service: Service) -> None:  # rule 28
    """One event for any number of keys; none when there was nothing to revoke."""
    for _ in range(5):
        await make(service)
    await service.admin.BatchRevokeKeys(owner_id="acme", reason="gone")
    await service.admin.BatchRevokeKeys(owner_id="acme", reason="gone")
    await service.admin.RevokeAllSessions(owner_id="acme")
    newest, *before = await events(service)
    assert (newest.action, newest.target_id) == (pb.AUDIT_ACTION_OWNER_KEYS_REVOKED, "acme")
    assert dict(newest.details) == {
        "count": "5",
        "revoke_time": "2026-11-21T12:00:00+00:00",
        "reason": "gone",
    }
    assert {event.action for event in before} == {pb.AUDIT_ACTION_KEY_CREATED}


async def test_what_changes_nothing_leaves_nothing(service: Service) -> None:  # rule 28
    """Refused calls, repeated calls and reads."""
    made = await make(service, request_id="once")
    gone, session_id = await revoked(service), await sign_in(service)
    await service.admin.RevokeSession(session_id=session_id)
    before = await events(service)
    for method, code, fields in (
        ("CreateKey", "ALREADY_EXISTS", {"owner_id": "acme", "display_name": "x", "request_id": "once"}),
        ("CreateKey", "INVALID_ARGUMENT", {"owner_id": "acme"}),
        ("RevokeKey", "FAILED_PRECONDITION", {"key_id": gone}),
        ("RotateKey", "FAILED_PRECONDITION", {"key_id": gone}),
        ("DeleteKey", "FAILED_PRECONDITION", {"key_id": made.key.key_id}),
        ("BatchDeleteKeys", "FAILED_PRECONDITION", {"key_ids": [gone, made.key.key_id]}),
        ("RevokeSession", "FAILED_PRECONDITION", {"session_id": session_id}),
        (
            "UpdateKey",
            "ABORTED",
            {"key": {"key_id": made.key.key_id, "etag": "x"}, "update_mask": {"paths": ["description"]}},
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await getattr(service.admin, method)(**fields)
        assert error.value.code().name == code
    await service.admin.BatchRevokeKeys(key_ids=[gone])
    await service.admin.GetKey(key_id=made.key.key_id)
    await service.admin.VerifyKey(key_string=made.key_string)
    await service.admin.ListKeys(owner_id="acme")
    await service.flush()
    assert await events(service) == before


async def test_a_session_that_acts(service: Service) -> None:  # rule 28
    """The actor is recorded as a session."""
    made = await service.admin.CreateSession(owner_id="acme", scopes=["sessions:write"])
    await service.as_caller(made.session_token).RevokeSession(session_id=made.session.session_id)
    newest = (await events(service))[0]
    assert (newest.actor_type, newest.actor_id) == (pb.ACTOR_TYPE_SESSION, made.session.session_id)


async def test_the_first_key_is_recorded(service: Service) -> None:
    """It is created without the credential of a caller."""
    [first] = await events(service, "authsvc")
    assert (first.actor_id, first.actor_type) == ("bootstrap", pb.ACTOR_TYPE_UNSPECIFIED)
    assert first.action == pb.AUDIT_ACTION_KEY_CREATED


# -- Listing ------------------------------------------------------------------------------------


async def test_filters(service: Service, clock: Clock) -> None:
    """Each filter alone, several together, and a filter that matches nothing; always newest first."""
    actor = await make(service, scopes=["keys:write"])
    caller = service.as_caller(actor.key_string)
    keys = []
    for number in range(6):
        clock.advance(minutes=1)
        keys.append(
            (await (caller if number % 2 else service.admin).CreateKey(owner_id="acme", display_name="x")).key
        )
        if number % 3 == 0:
            await caller.RevokeKey(key_id=keys[-1].key_id)
    everything = await events(service)
    middle = Timestamp()
    middle.FromDatetime(clock.now - timedelta(minutes=2))
    passes: dict[str, Callable[[pb.AuditEvent], bool]] = {
        "actions": lambda e: e.action in (pb.AUDIT_ACTION_KEY_REVOKED, pb.AUDIT_ACTION_KEY_DELETED),
        "actor_id": lambda e: e.actor_id == actor.key.key_id,
        "target_id": lambda e: e.target_id == keys[3].key_id,
        "time_after": lambda e: e.event_time.ToDatetime() >= middle.ToDatetime(),
        "time_before": lambda e: e.event_time.ToDatetime() < middle.ToDatetime(),
        "after_position": lambda e: e.position > 4,
    }
    values: dict[str, Any] = {
        "actions": [pb.AUDIT_ACTION_KEY_DELETED, pb.AUDIT_ACTION_KEY_REVOKED],
        "actor_id": actor.key.key_id,
        "target_id": keys[3].key_id,
        "time_after": middle,
        "time_before": middle,
        "after_position": 4,
    }
    for chosen in range(2 ** len(values)):
        names = [name for n, name in enumerate(values) if chosen >> n & 1]
        wanted = [event for event in everything if all(passes[name](event) for name in names)]
        assert await events(service, filter={name: values[name] for name in names}) == wanted, names
    assert await events(service, filter={"actor_id": "nobody"}) == []


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"actions": [pb.AUDIT_ACTION_KEY_CREATED, pb.AUDIT_ACTION_KEY_REVOKED]},
        {"actor_id": "self"},
        {"target_id": "self"},
        {"after_position": 6},
        {"actor_id": "self", "after_position": 7},
    ],
)
async def test_pages_are_stable_while_events_come(service: Service, wanted: dict[str, Any]) -> None:
    """Events that existed at the first page are each on exactly one page; later events are on none."""
    actor = await make(service, scopes=["keys:write"])
    caller = service.as_caller(actor.key_string)
    target = (await make(service)).key.key_id
    wanted = {n: {"actor_id": actor.key.key_id, "target_id": target}.get(n, v) for n, v in wanted.items()}

    async def act() -> None:
        await caller.RevokeKey(key_id=target, revoke_in={"seconds": 60})
        await caller.CreateKey(owner_id="acme", display_name="x")

    for _ in range(7):
        await act()
    before = await events(service, filter=wanted)
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        page = await service.admin.ListAuditEvents(
            owner_id="acme", filter=wanted, page_size=3, page_token=token
        )
        seen += page.events
        token, pages = page.next_page_token, pages + 1
        await act()
    assert seen == before
    assert pages == -(-len(before) // 3)


async def test_a_page_token_is_of_one_query(service: Service) -> None:
    """A token of another owner or another filter is refused."""
    for owner in ("acme", "bob"):
        for _ in range(3):
            await make(service, owner_id=owner)
    token = (await service.admin.ListAuditEvents(owner_id="acme", page_size=1)).next_page_token
    for other in (
        {"owner_id": "bob"},
        {"owner_id": "acme", "filter": {"actor_id": "x"}},
        {"owner_id": "acme", "filter": {"after_position": 1}},
    ):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.ListAuditEvents(page_token=token, **other)
        assert "page_token" in refusal.fields


@pytest.mark.parametrize("page_size", [2, 3, 1000])
async def test_a_hole_is_fetched(service: Service, page_size: int) -> None:
    """Who knows the events up to a position lists those after it, to the last one, and no page is empty."""
    for _ in range(7):
        await make(service)
    for known in (1, 4, 6, 7, 8):
        found, token, first = [], "", True
        while first or token:
            page = await service.admin.ListAuditEvents(
                owner_id="acme", filter={"after_position": known}, page_size=page_size, page_token=token
            )
            assert page.events or first
            found += [event.position for event in page.events]
            first, token = False, page.next_page_token
        assert found == list(range(7, known, -1))


async def test_an_owner_sees_its_own_events_only(service: Service) -> None:
    """And only with the required scope."""
    await make(service, owner_id="bob")
    reader = service.as_caller((await make(service, scopes=["audit_logs:read"])).key_string)
    assert {e.owner_id for e in (await reader.ListAuditEvents(owner_id="acme")).events} == {"acme"}
    with refused(grpc.StatusCode.PERMISSION_DENIED, "OWNER_NOT_PERMITTED"):
        await reader.ListAuditEvents(owner_id="bob")
    other = service.as_caller((await make(service, scopes=["keys:read"])).key_string)
    with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
        await other.ListAuditEvents(owner_id="acme")


@pytest.mark.parametrize(
    "fields",
    [
        {"owner_id": ""},
        {"owner_id": "acme", "page_size": 1001},
        {"owner_id": "acme", "page_size": -1},
        {"owner_id": "acme", "page_token": "rubbish"},
        {"owner_id": "acme", "filter": {"actions": [0]}},
        {"owner_id": "acme", "filter": {"actions": [99]}},
        {"owner_id": "acme", "filter": {"actions": [1, 1]}},
        {"owner_id": "acme", "filter": {"actor_id": "a\0"}},
        {"owner_id": "acme", "filter": {"target_id": "x" * 513}},
        {"owner_id": "acme", "filter": {"time_after": Timestamp(seconds=2**60)}},
        {"owner_id": "acme", "filter": {"after_position": -1}},
    ],
)
async def test_bad_input(service: Service, fields: dict[str, Any]) -> None:
    """The error names the field."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.ListAuditEvents(**fields)
    assert refusal.fields


# -- Refused attempts ---------------------------------------------------------------------------


async def test_refused_attempts_are_the_callers_own(service: Service) -> None:
    """In the log of the caller's owner, so nobody can fill another's: action, reason, owner and count."""
    theirs = await make(service, owner_id="bob")
    actor = await make(service, scopes=["keys:write", "keys:read"])
    caller = service.as_caller(actor.key_string)
    caller._metadata.append(("x-request-id", "trace-1"))
    for _ in range(3):
        for method, fields in (
            ("GetKey", {"key_id": theirs.key.key_id}),
            ("RevokeKey", {"key_id": theirs.key.key_id}),
            ("ListKeys", {"owner_id": "bob"}),
            ("GetSession", {"session_id": "ses_x"}),
            ("CreateKey", {"owner_id": "acme", "display_name": "x", "scopes": ["full_access"]}),
        ):
            with pytest.raises(grpc.aio.AioRpcError):
                await getattr(caller, method)(**fields)
    assert await events(service, filter={"actions": [pb.AUDIT_ACTION_REFUSED]}) == []
    await service.flush()
    found = await events(service, filter={"actions": [pb.AUDIT_ACTION_REFUSED]})
    assert Counter((e.details["method"], e.details["reason"], e.target_id) for e in found) == {
        ("GetKey", "KEY_NOT_FOUND", ""): 1,
        ("RevokeKey", "KEY_NOT_FOUND", ""): 1,
        ("ListKeys", "OWNER_NOT_PERMITTED", "bob"): 1,
        ("GetSession", "SCOPE_MISSING", ""): 1,
        ("CreateKey", "SCOPE_NOT_GRANTABLE", ""): 1,
    }
    asked_for = {e.details["method"]: e.details["asked_for"] for e in found if "asked_for" in e.details}
    assert asked_for == {"GetKey": theirs.key.key_id, "RevokeKey": theirs.key.key_id}
    for event in found:
        assert event.details["count"] == "3"
        assert (event.actor_id, event.client_ip) == (actor.key.key_id, "127.0.0.1")
        assert event.request_id == "trace-1"
    assert [e.action for e in await events(service, "bob")] == [pb.AUDIT_ACTION_KEY_CREATED]
    await service.flush()
    assert len(await events(service, filter={"actions": [pb.AUDIT_ACTION_REFUSED]})) == 5


async def test_a_credential_that_is_good_no_more(service: Service, clock: Clock) -> None:
    """The use of a revoked or expired credential is recorded in the log of its owner."""
    revoked = await make(service, scopes=["keys:read"])
    expired = await make(service, scopes=["keys:read"], ttl={"seconds": 60})
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=61)
    for made, reason in ((revoked, "CREDENTIAL_REVOKED"), (expired, "CREDENTIAL_EXPIRED")):
        for _ in range(3):
            with refused(grpc.StatusCode.UNAUTHENTICATED, reason):
                await service.as_caller(made.key_string).GetKey(key_id=made.key.key_id)
    await service.flush()
    found = await events(service, filter={"actions": [pb.AUDIT_ACTION_REFUSED]})
    assert {(e.actor_id, e.client_ip, e.details["reason"], e.details["count"]) for e in found} == {
        (revoked.key.key_id, "127.0.0.1", "CREDENTIAL_REVOKED", "3"),
        (expired.key.key_id, "127.0.0.1", "CREDENTIAL_EXPIRED", "3"),
    }


async def test_who_is_not_known_leaves_no_event(service: Service, database_url: str) -> None:
    """An invalid credential belongs to no owner: it is counted in the metrics and not stored."""
    stranger = service.as_caller("authsvc_live_" + "x" * 63)
    for _ in range(5):
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"):
            await stranger.GetKey(key_id="key_x")
    await service.flush()
    assert len(await events(service, "authsvc")) == 1
    assert await whole(service) == 1


async def whole(service: Service) -> int:
    """Verify all chains; return the number of their events."""
    check = AuditCheck(service.app.database, on_fault=lambda fault: pytest.fail(str(fault)))
    await check.run()
    return check.events
