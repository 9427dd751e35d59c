"""Every RPC with every kind of caller: tests the access table of the running service.

An RPC without a row here fails a test, so every new RPC needs a decision about who may call it.
"""

import importlib
import pkgutil
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from authsvc import v1
from authsvc.keys.token_keys import new_token_key
from authsvc.model.webhook import Attempt
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.v1 import options_pb2, resources_pb2
from tests.certificates import Authority
from tests.conftest import Client, Clock, Service, serving
from tests.rpc.secure import Files, Secure

OWNER, AUDIENCE = "acme", "https://orders.example"
URL = "https://hooks.example.org/authsvc"
OK = "OK"
DENIED = "PERMISSION_DENIED OWNER_NOT_PERMITTED"
PLATFORM = "PERMISSION_DENIED PLATFORM_ONLY"
MISSING = "PERMISSION_DENIED SCOPE_MISSING"
NOT_A_KEY = "FAILED_PRECONDITION CALLER_NOT_A_KEY"
NO_KEY = "NOT_FOUND KEY_NOT_FOUND"
NO_SESSION = "NOT_FOUND SESSION_NOT_FOUND"
NO_WEBHOOK = "NOT_FOUND WEBHOOK_NOT_FOUND"
NO_DELIVERY = "NOT_FOUND DELIVERY_NOT_FOUND"
NO_VERDICT = "verdict NOT_FOUND"


@dataclass
class Target:
    """What an RPC is about: keys, a session, a token, a webhook and a delivery to it, all of one owner."""

    key_id: str
    key_string: str
    revoked_key_id: str
    disabled_key_id: str
    session_id: str
    session_token: str
    token: str
    webhook_id: str
    delivery_id: str
    # Only reads are about it.
    rotated_key_id: str = ""
    # A key that has spent credits.
    spent_key_id: str = ""


class Row(NamedTuple):
    """The request, the outcome for a caller of another owner, and the outcome for one of the same owner.

    `keyless` is the outcome for a session and a certificate, and `certified` that for a certificate, if it is
    another one.
    """

    request: Callable[[Target], dict[str, Any]]
    other: str
    own: str = OK
    keyless: str = ""
    certified: str = ""


ROWS = {
    "CreateKey": Row(lambda _: {"owner_id": OWNER, "display_name": "x"}, DENIED),
    "ImportKeys": Row(
        lambda _: {
            "owner_id": OWNER,
            "keys": [{"hash": f"sha256:{secrets.token_hex(32)}", "display_name": "x"}],
        },
        DENIED,
    ),
    "GetKey": Row(lambda at: {"key_id": at.key_id}, NO_KEY),
    "ListKeys": Row(lambda _: {"owner_id": OWNER}, DENIED),
    "UpdateKey": Row(
        lambda at: {
            "key": {"key_id": at.key_id, "description": "y"},
            "update_mask": {"paths": ["description"]},
        },
        NO_KEY,
    ),
    "RotateKey": Row(lambda at: {"key_id": at.key_id}, NO_KEY),
    "RevokeKey": Row(lambda at: {"key_id": at.key_id}, NO_KEY),
    "DisableKey": Row(lambda at: {"key_id": at.key_id}, NO_KEY),
    "EnableKey": Row(lambda at: {"key_id": at.disabled_key_id}, NO_KEY),
    "RefundCredits": Row(lambda at: {"key_id": at.spent_key_id, "amount": 1, "refund_id": "once"}, NO_KEY),
    "BatchRevokeKeys": Row(lambda at: {"key_ids": [at.key_id]}, NO_KEY),
    "RevokeSelf": Row(lambda _: {}, OK, keyless=NOT_A_KEY),
    "RotateSelf": Row(lambda _: {}, OK, keyless=NOT_A_KEY),
    # Open to all, also about keys of others.
    "ReportLeakedKeys": Row(lambda at: {"leaks": [{"key_string": at.key_string}]}, OK),
    "DeleteKey": Row(lambda at: {"key_id": at.revoked_key_id}, NO_KEY),
    "BatchDeleteKeys": Row(lambda at: {"key_ids": [at.revoked_key_id]}, NO_KEY),
    "VerifyKey": Row(lambda at: {"key_string": at.key_string}, NO_VERDICT),
    "BatchVerifyKeys": Row(lambda at: {"requests": [{"key_string": at.key_string}]}, NO_VERDICT),
    "LookupKey": Row(lambda at: {"key_string": at.key_string}, NO_KEY),
    # A caller derives tokens of itself.
    "DeriveToken": Row(
        lambda _: {"audience": AUDIENCE, "scopes": ["tokens:derive"]},
        OK,
        certified="FAILED_PRECONDITION CREDENTIAL_REQUIRED",
    ),
    "VerifyToken": Row(lambda at: {"token": at.token, "audience": AUDIENCE}, NO_VERDICT),
    "GetKeyUsage": Row(lambda at: {"key_id": at.key_id}, NO_KEY),
    "PreviewRevocation": Row(lambda at: {"key_id": at.key_id}, NO_KEY),
    "GetRotationStatus": Row(lambda at: {"key_id": at.rotated_key_id}, NO_KEY),
    "PreviewAllowedNetworks": Row(lambda at: {"key_id": at.key_id}, NO_KEY),
    "CreateSession": Row(lambda _: {"owner_id": OWNER}, DENIED),
    "VerifySession": Row(lambda at: {"session_token": at.session_token}, NO_VERDICT),
    "GetSession": Row(lambda at: {"session_id": at.session_id}, NO_SESSION),
    "ListSessions": Row(lambda _: {"owner_id": OWNER}, DENIED),
    "RevokeSession": Row(lambda at: {"session_id": at.session_id}, NO_SESSION),
    "RevokeAllSessions": Row(lambda _: {"owner_id": OWNER}, DENIED),
    "GetOwnerPolicy": Row(lambda _: {"owner_id": OWNER}, DENIED),
    "UpdateOwnerPolicy": Row(
        lambda _: {
            "policy": {"owner_id": OWNER, "max_active_keys": 1000},
            "update_mask": {"paths": ["max_active_keys"]},
        },
        PLATFORM,
        PLATFORM,
    ),
    "ListAuditEvents": Row(lambda _: {"owner_id": OWNER}, DENIED),
    "CreateWebhook": Row(lambda _: {"owner_id": OWNER, "url": URL}, DENIED),
    "GetWebhook": Row(lambda at: {"webhook_id": at.webhook_id}, NO_WEBHOOK),
    "ListWebhooks": Row(lambda _: {"owner_id": OWNER}, DENIED),
    "UpdateWebhook": Row(
        lambda at: {
            "webhook": {"webhook_id": at.webhook_id, "description": "y"},
            "update_mask": {"paths": ["description"]},
        },
        NO_WEBHOOK,
    ),
    "DeleteWebhook": Row(lambda at: {"webhook_id": at.webhook_id}, NO_WEBHOOK),
    "RotateWebhookSecret": Row(lambda at: {"webhook_id": at.webhook_id, "overlap": {}}, NO_WEBHOOK),
    "TestWebhook": Row(lambda at: {"webhook_id": at.webhook_id}, NO_WEBHOOK),
    "ListWebhookDeliveries": Row(lambda at: {"webhook_id": at.webhook_id}, NO_WEBHOOK),
    "RedeliverWebhook": Row(lambda at: {"delivery_id": at.delivery_id}, NO_DELIVERY),
    "ListScopes": Row(lambda _: {}, OK),
    "GetReplicaStatus": Row(lambda _: {}, PLATFORM, PLATFORM),
    # A stream with one message in each direction.
    "Follow": Row(lambda _: {"join": {"instance": "x", "capacity": 1}}, PLATFORM, PLATFORM),
}


def served() -> dict[str, MethodDescriptor]:
    """Return every RPC of all our services."""
    methods: dict[str, MethodDescriptor] = {}
    for module in pkgutil.iter_modules(v1.__path__):
        if module.name.endswith("_service_pb2"):
            described = importlib.import_module(f"authsvc.v1.{module.name}").DESCRIPTOR
            for service in described.services_by_name.values():
                methods |= {method.name: method for method in service.methods}
    return methods


METHODS = served()


def scope_of(method: str) -> str:
    scope: str = METHODS[method].GetOptions().Extensions[options_pb2.required_scope]
    return scope


def test_none_is_missing() -> None:
    """Every served RPC has a row, and every row is a served RPC."""
    assert set(METHODS) == set(ROWS)


@dataclass
class Caller:
    """A way to call: a channel and headers."""

    channel: grpc.aio.Channel
    headers: list[tuple[str, str | bytes]] = field(default_factory=list)

    async def ask(self, method: str, fields: dict[str, Any]) -> str:
        """Return OK, the verdict if the answer has one, or the code and the reason of the refusal."""
        described = METHODS[method]
        request = GetMessageClass(described.input_type)(**fields)
        rpc: Any = self.channel.unary_unary(
            f"/{described.containing_service.full_name}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        try:
            answer = await rpc(request, metadata=self.headers, timeout=30)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {reason_of(error)}"
        [answer] = getattr(answer, "responses", [answer])
        if "valid" in answer.DESCRIPTOR.fields_by_name and not answer.valid:
            return "verdict " + resources_pb2.VerdictCode.Name(answer.code).removeprefix("VERDICT_CODE_")
        return OK


def reason_of(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    assert status is not None
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return str(info.reason)


@pytest.fixture(autouse=True)
def token_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokens are enabled."""
    file = tmp_path / "token.key"
    file.write_text(new_token_key())
    monkeypatch.setenv("AUTHSVC_TOKEN_KEYS_FILE", str(file))
    monkeypatch.setenv("AUTHSVC_TOKEN_ISSUER", "https://auth.example")


@pytest.fixture(autouse=True)
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """No webhook is called: it is as if each had answered."""

    async def answered(*_: object) -> Attempt:
        return Attempt(204)

    monkeypatch.setattr(WebhookCaller, "call", answered)


async def delivery_of(service: Service, owner_id: str, admin: Client | None = None) -> tuple[str, str]:
    """Return the ids of a webhook of an owner and of a delivery to it; make them if there are none."""
    admin, delivery_id = admin or service.admin, f"dlv_{secrets.token_hex(13)}"
    webhooks = (await admin.ListWebhooks(owner_id=owner_id)).webhooks
    if not webhooks:
        # Nothing of what the tests do is delivered to it.
        webhooks = [
            (await admin.CreateWebhook(owner_id=owner_id, url=URL, event_types=["key.expired"])).webhook
        ]
    async with service.app.database.connection() as connection:
        await connection.execute(
            _INSERT_DELIVERY, owner_id, delivery_id, webhooks[0].webhook_id, service.clock()
        )
    return webhooks[0].webhook_id, delivery_id


# What a change leaves when it was told.
_INSERT_DELIVERY = """
    WITH told AS (
        INSERT INTO authsvc.notifications (
            notification_id, type, owner_id, event_time, target_id, actor_id, actor_owner_id, actor_type,
            details, subject, contacts, spread_time)
        VALUES ('evt_' || $2, 'key.created', $1, $4, 'key_x', '', '', '', '{}', '{}', '[]', $4)
        RETURNING notification_id)
    INSERT INTO authsvc.webhook_deliveries (
        delivery_id, webhook_id, notification_id, state, create_time, next_time)
    SELECT $2, $3, notification_id, 'delivered', $4, $4 FROM told
"""


async def token_of(service: Service, admin: Client, owner_id: str) -> str:
    """Return a token of a session of an owner; the policy bounds the number of keys."""
    opened = await admin.CreateSession(owner_id=owner_id, scopes=["tokens:derive"])
    answer = await service.as_caller(opened.session_token).DeriveToken(audience=AUDIENCE)
    return str(answer.token)


async def disabled_key(admin: Client, owner_id: str) -> str:
    """Return the id of a key that its owner has disabled."""
    manager = await admin.CreateKey(owner_id=owner_id, display_name="x", scopes=["keys:write"])
    made = await admin.CreateKey(owner_id=owner_id, display_name="x")
    await admin.with_key(manager.key_string).DisableKey(key_id=made.key.key_id)
    return str(made.key.key_id)


async def spent_key(admin: Client, owner_id: str) -> str:
    """Return the id of a key that has spent credits."""
    made = await admin.CreateKey(owner_id=owner_id, display_name="x", credits={"remaining": 2})
    assert (await admin.VerifyKey(key_string=made.key_string)).valid
    return str(made.key.key_id)


async def target(service: Service) -> Target:
    """Create what an RPC can be about."""
    admin = service.admin
    key = await admin.CreateKey(owner_id=OWNER, display_name="x")
    revoked = await admin.CreateKey(owner_id=OWNER, display_name="x")
    await admin.RevokeKey(key_id=revoked.key.key_id)
    session = await admin.CreateSession(owner_id=OWNER)
    disabled = await disabled_key(admin, OWNER)
    rotated = await admin.RotateKey(
        key_id=(await admin.CreateKey(owner_id=OWNER, display_name="x")).key.key_id
    )
    return Target(
        key.key.key_id,
        key.key_string,
        revoked.key.key_id,
        disabled,
        session.session.session_id,
        session.session_token,
        await token_of(service, admin, OWNER),
        *(await delivery_of(service, OWNER)),
        rotated_key_id=rotated.key.key_id,
        spent_key_id=await spent_key(admin, OWNER),
    )


@asynccontextmanager
async def certified(
    database_url: str, clock: Clock, authority: Authority, files: Files, *scopes: str
) -> AsyncIterator[Caller]:
    """Yield a caller whose certificate is listed for the owner, and a service that accepts it."""
    callers = files.directory / "callers.toml"
    callers.write_text(f"""
        [[caller]]
        spiffe_id = "spiffe://example.org/caller"
        owner_id = "{OWNER}"
        scopes = {[*scopes]!r}
    """)
    pair = authority.issue(uris=("spiffe://example.org/caller",))
    async with (
        serving(
            database_url,
            clock,
            tls_cert=files.cert,
            tls_key=files.key,
            tls_client_ca=files.client_ca,
            callers=callers,
        ) as service,
        Secure(service, authority, files).channel(pair) as channel,
    ):
        yield Caller(channel)


@pytest.mark.parametrize("method", sorted(ROWS))
async def test_who_may_call(
    service: Service, database_url: str, clock: Clock, authority: Authority, files: Files, method: str
) -> None:
    """Only callers without a valid credential, with the wrong scopes or of another owner are refused."""
    row, scope = ROWS[method], scope_of(method)
    scopes = [scope] if scope else []
    keyless = row.keyless or row.own

    def bearing(text: str) -> Caller:
        return Caller(service.channel, [("authorization", f"Bearer {text}")])

    async def key(owner_id: str, *scopes: str) -> Any:
        return await service.admin.CreateKey(owner_id=owner_id, display_name="caller", scopes=scopes)

    others = sorted({scope_of(other) for other in METHODS} - {scope, ""})
    dead = await key(OWNER, *scopes)
    await service.admin.RevokeKey(key_id=dead.key.key_id)
    session = await service.admin.CreateSession(owner_id=OWNER, scopes=scopes)
    callers = {
        "no credential": (
            Caller(service.channel),
            "UNAUTHENTICATED CREDENTIAL_MISSING" if scopes else OK,
        ),
        "revoked": (bearing(dead.key_string), "UNAUTHENTICATED CREDENTIAL_REVOKED"),
        "wrong scopes": (bearing((await key(OWNER, *others)).key_string), MISSING if scopes else OK),
        "other owner": (bearing((await key("globex", "full_access")).key_string), row.other),
        "session": (bearing(session.session_token), keyless),
        "own owner": (bearing((await key(OWNER, *scopes)).key_string), row.own),
        "platform owner": (bearing((await key("authsvc", *scopes)).key_string), OK),
    }
    async with certified(database_url, clock, authority, files, scope or "keys:read") as by_certificate:
        callers["certificate"] = (by_certificate, row.certified or keyless)
        heard = {
            name: await caller.ask(method, row.request(await target(service)))
            for name, (caller, _) in callers.items()
        }
    assert heard == {name: expected for name, (_, expected) in callers.items()}
