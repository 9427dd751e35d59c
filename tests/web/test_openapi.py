"""The OpenAPI document: it is valid, complete, and true of what the service takes and answers."""

import ast
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message_factory import GetMessageClass
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

from authsvc.cli.openapi import openapi
from authsvc.model import errors
from authsvc.model.refusal import REFUSALS
from authsvc.rpc.request import parser
from authsvc.rpc.service import scopes_of
from authsvc.web.connect_error import _CODES
from authsvc.web.introspection import Introspection
from authsvc.web.local_call import ask
from authsvc.web.openapi import document, served
from authsvc.web.openapi.errors import CODES
from authsvc.web.openapi.schemas import name_of
from authsvc.web.rpcs import Client, Rpcs
from tests.conftest import Service
from tests.rpc.test_access_table import token_keys
from tests.web.mounted import client_of, mounted, rpcs_of

__all__ = ["token_keys"]


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return document()


def validator(known: dict[str, Any], name: str) -> Draft202012Validator:
    """Return what checks a value by a schema that allows nothing besides."""
    strict = deepcopy(known)
    for schema in strict["components"]["schemas"].values():
        if schema["type"] == "object":
            schema.setdefault("additionalProperties", False)
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": strict["components"]},
        format_checker=FormatChecker(),
    )


def test_it_is_valid(known: dict[str, Any]) -> None:
    validate(known)
    for schema in known["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    assert json.loads(served()) == known


def test_it_is_printed(known: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    openapi()
    assert json.loads(capsys.readouterr().out) == known


async def test_it_has_every_rpc(service: Service, known: dict[str, Any]) -> None:
    """With its scope, its messages, and a description."""
    methods = rpcs_of(service).methods
    paths = dict(known["paths"])
    assert [paths.pop("/introspect"), paths.pop("/revoke")]
    assert set(paths) == set(methods)
    for path, method in methods.items():
        (operation,) = paths[path].values()
        assert operation["x-required-scope"] == list(scopes_of(method.descriptor))
        assert operation["summary"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body["$ref"].endswith(f"/{method.descriptor.input_type.name}")
    ids = [operation["operationId"] for path in known["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


def test_everything_is_described(known: dict[str, Any]) -> None:
    schemas = known["components"]["schemas"]
    lacking = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, of_field in schema.get("properties", {}).items()
        if not of_field.get("description")
    ]
    assert lacking == []
    assert all(schema["description"] for schema in schemas.values())


async def _asked(rpcs: Rpcs, service: Service, rpc: str, **fields: Any) -> Any:
    request_type = rpcs.methods[f"/authsvc.v1.{rpc}"].request_type
    client = Client("ipv4:127.0.0.1:1", [("authorization", f"Bearer {service.admin_key}")])
    return await ask(rpcs, rpc, client, ParseDict(fields, request_type()))


async def test_answers_are_as_described(service: Service, known: dict[str, Any]) -> None:
    """Of every RPC: all that it answers is in its schema, in the right form."""
    rpcs, answered = rpcs_of(service), set()

    async def asked(rpc: str, **fields: Any) -> Any:
        answer = await _asked(rpcs, service, rpc, **fields)
        descriptor = rpcs.methods[f"/authsvc.v1.{rpc}"].descriptor
        validator(known, name_of(descriptor.input_type)).validate(fields)
        validator(known, name_of(descriptor.output_type)).validate(MessageToDict(answer))
        answered.add(f"/authsvc.v1.{rpc}")
        return answer

    contact = {"name": "Ops", "email": "ops@example.org"}
    new = {
        "ownerId": "acme",
        "displayName": "Orders",
        "scopes": ["orders:read"],
        "allowedNetworks": ["192.0.2.0/24"],
        "technicalContacts": [contact],
    }
    created = await asked(
        "KeyService/CreateKey", **new, ttl="3600.5s", annotations={"a.b/c": "1"}, description="a\nb"
    )
    key_id = created.key.key_id
    verified = {"keyString": created.key_string, "requiredScopes": ["orders:read"], "clientIp": "192.0.2.1"}
    await asked("KeyService/VerifyKey", **verified)
    await asked("KeyService/BatchVerifyKeys", requests=[verified, {"keyString": "x"}])
    await asked("KeyService/LookupKey", keyString=created.key_string)
    token = (await asked("KeyService/DeriveToken", audience="orders", lifetime="60s")).token
    await asked("KeyService/VerifyToken", token=token, audience="orders", clientIp="192.0.2.1")
    spent = await asked("KeyService/CreateKey", **new, credits={"remaining": "5"})
    await asked("KeyService/VerifyKey", keyString=spent.key_string, cost=2, clientIp="192.0.2.1")
    await asked("KeyService/RefundCredits", keyId=spent.key.key_id, amount="1", refundId="req_1")
    await service.flush()
    await asked("KeyService/GetKey", keyId=key_id)
    await asked("KeyService/GetKeyUsage", keyId=key_id, groupBy=["USAGE_GROUP_DAY"], firstDay="2026-11-01")
    await asked("KeyService/PreviewRevocation", keyId=key_id, days=1)
    await asked("KeyService/PreviewAllowedNetworks", keyId=key_id, allowedNetworks=["198.51.100.0/24"])
    await asked("KeyService/UpdateKey", key={"keyId": key_id, "displayName": "New"}, updateMask="displayName")
    await asked(
        "KeyService/DisableKey", keyId=key_id, disabledUntil="2100-01-01T00:00:00Z", reason="a reason"
    )
    await asked("KeyService/EnableKey", keyId=key_id)
    rotated = await asked("KeyService/RotateKey", keyId=key_id, gracePeriod="0s")
    await asked("KeyService/GetRotationStatus", keyId=key_id)
    await asked("KeyService/RevokeKey", keyId=rotated.key.key_id, reason="a reason")
    more = [(await asked("KeyService/CreateKey", **new)).key.key_id for _ in range(2)]
    await asked("KeyService/BatchRevokeKeys", keyIds=more)
    await asked(
        "KeyService/ListKeys",
        ownerId="acme",
        filter={"states": ["KEY_STATE_REVOKED"], "createTimeAfter": "2000-01-01T00:00:00.5Z"},
        pageSize=2,
        includeTotalSize=True,
    )
    imported = [{"hash": f"sha256:{'0' * 64}", "displayName": "Old"}, {"hash": "x", "displayName": "Old"}]
    await asked("KeyService/ImportKeys", ownerId="acme", keys=imported)
    await asked("KeyService/DeleteKey", keyId=key_id)
    await asked("KeyService/BatchDeleteKeys", keyIds=more)
    await _sessions(asked)
    await asked("OwnerPolicyService/GetOwnerPolicy", ownerId="acme")
    policy = {"ownerId": "acme", "maxKeyLifetime": "86400s", "allowedScopes": ["orders:read"]}
    await asked(
        "OwnerPolicyService/UpdateOwnerPolicy", policy=policy, updateMask="maxKeyLifetime,allowedScopes"
    )
    await asked("AuditService/ListAuditEvents", ownerId="acme", filter={"afterPosition": "1"})
    await asked("ReplicaService/GetReplicaStatus")
    await asked("ScopeService/ListScopes")
    await _webhooks(service, asked)
    await asked("KeyService/ReportLeakedKeys", leaks=[{"keyString": "x", "place": "https://example.org"}])
    await asked("KeyService/RotateSelf", gracePeriod="3600s")
    await asked("KeyService/RevokeSelf", reason="a reason")
    assert set(rpcs.methods) - answered == {"/authsvc.v1.WebhookService/RedeliverWebhook"}


def filled(descriptor: Descriptor, seed: str) -> Any:
    """Return a message that has all fields."""
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[seed] = seed
            continue
        if field.message_type is not None:
            value: Any = filled(field.message_type, seed)
        elif field.enum_type is not None:
            value = field.enum_type.values[-1].number
        else:
            value = {str: seed, bytes: seed.encode(), bool: True, int: 7}[type(_empty(field))]
        if field.is_repeated:
            getattr(message, field.name).append(value)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


def _empty(field: FieldDescriptor) -> Any:
    kinds = {
        FieldDescriptor.TYPE_STRING: "",
        FieldDescriptor.TYPE_BYTES: b"",
        FieldDescriptor.TYPE_BOOL: False,
    }
    return kinds.get(field.type, 0)


async def test_whole_answers_are_as_described(service: Service, known: dict[str, Any]) -> None:
    """With every field that there is."""
    for method in rpcs_of(service).methods.values():
        answer = MessageToDict(filled(method.descriptor.output_type, "ab"))
        schema = validator(known, name_of(method.descriptor.output_type))
        schema.validate(answer)


async def _sessions(asked: Any) -> None:
    hints = {"platform": '"Windows"', "platformVersion": '"15.0.0"'}
    one, two, _ = [
        await asked(
            "SessionService/CreateSession",
            ownerId="u-1",
            userAgent="curl/8.0",
            ipAddress="192.0.2.1",
            clientHints=hints,
        )
        for _ in range(3)
    ]
    await asked("SessionService/VerifySession", sessionToken=one.session_token)
    await asked("SessionService/GetSession", sessionId=one.session.session_id)
    await asked("SessionService/ListSessions", ownerId="u-1", currentSessionId=one.session.session_id)
    await asked("SessionService/RevokeSession", sessionId=two.session.session_id)
    await asked("SessionService/RevokeAllSessions", ownerId="u-1")


async def _webhooks(service: Service, asked: Any) -> None:
    created = await asked("WebhookService/CreateWebhook", ownerId="acme", url="https://example.org/hook")
    webhook_id = created.webhook.webhook_id
    await asked("WebhookService/GetWebhook", webhookId=webhook_id)
    await asked("WebhookService/ListWebhooks", ownerId="acme")
    await asked("WebhookService/TestWebhook", webhookId=webhook_id)
    await asked("WebhookService/RotateWebhookSecret", webhookId=webhook_id)
    webhook = {"webhookId": webhook_id, "description": "x"}
    await asked("WebhookService/UpdateWebhook", webhook=webhook, updateMask="description")
    await asked("WebhookService/ListWebhookDeliveries", webhookId=webhook_id)
    await asked("WebhookService/DeleteWebhook", webhookId=webhook_id)


NEW = {"ownerId": "acme", "displayName": "Orders"}
REQUESTS: list[tuple[str, dict[str, Any], bool]] = [
    ("KeyService/CreateKey", NEW, True),
    ("KeyService/CreateKey", {}, False),
    ("KeyService/CreateKey", {"ownerId": "acme"}, False),
    ("KeyService/CreateKey", NEW | {"ownerId": "a b"}, False),
    ("KeyService/CreateKey", NEW | {"ownerId": "a" * 128}, True),
    ("KeyService/CreateKey", NEW | {"ownerId": "a" * 129}, False),
    ("KeyService/CreateKey", NEW | {"displayName": "é" * 255}, True),
    ("KeyService/CreateKey", NEW | {"displayName": "é" * 256}, False),
    ("KeyService/CreateKey", NEW | {"brand": ""}, True),
    ("KeyService/CreateKey", NEW | {"brand": "E"}, False),
    ("KeyService/CreateKey", NEW | {"environment": ""}, True),
    ("KeyService/CreateKey", NEW | {"environment": "prod"}, False),
    ("KeyService/CreateKey", NEW | {"scopes": ["a:b", "c"]}, True),
    ("KeyService/CreateKey", NEW | {"scopes": ["a:b", "a:b"]}, False),
    ("KeyService/CreateKey", NEW | {"scopes": ["a:"]}, False),
    ("KeyService/CreateKey", NEW | {"scopes": ["a" * 65]}, False),
    ("KeyService/CreateKey", NEW | {"scopes": [f"a{i}" for i in range(65)]}, False),
    ("KeyService/CreateKey", NEW | {"technicalContacts": [{"email": "a@example.org"}]}, False),
    ("KeyService/CreateKey", NEW | {"ttl": "60s"}, True),
    ("KeyService/CreateKey", NEW | {"ttl": "1h"}, False),
    ("KeyService/CreateKey", NEW | {"ttl": "60s", "expirationPreset": "EXPIRATION_PRESET_ONE_YEAR"}, False),
    ("KeyService/CreateKey", NEW | {"expirationPreset": "EXPIRATION_PRESET_UNSPECIFIED"}, False),
    ("KeyService/CreateKey", NEW | {"expirationPreset": "EXPIRATION_PRESET_NEVER"}, False),
    ("KeyService/CreateKey", NEW | {"expireTime": "2030-01-01T00:00:00+01:00"}, True),
    ("KeyService/CreateKey", NEW | {"expireTime": "2030-01-01"}, False),
    ("KeyService/CreateKey", NEW | {"annotations": {"a/b": "x" * 256}}, True),
    ("KeyService/CreateKey", NEW | {"annotations": {"a b": "x"}}, False),
    ("KeyService/CreateKey", NEW | {"annotations": {"a": "x" * 257}}, False),
    ("KeyService/CreateKey", NEW | {"annotations": {f"a{i}": "" for i in range(33)}}, False),
    ("KeyService/CreateKey", NEW | {"annotations": {"a": 1}}, False),
    ("KeyService/GetKey", {"keyId": ""}, False),
    ("KeyService/ListKeys", {"ownerId": "acme", "pageSize": 1000}, True),
    ("KeyService/ListKeys", {"ownerId": "acme", "pageSize": 1001}, False),
    ("KeyService/ListKeys", {"ownerId": "acme", "pageSize": -1}, False),
    ("KeyService/ListKeys", {"ownerId": "acme", "filter": {"states": ["KEY_STATE_UNSPECIFIED"]}}, False),
    ("KeyService/ListKeys", {"ownerId": "acme", "filter": {"scope": ""}}, True),
    ("KeyService/UpdateKey", {"key": {"keyId": "key_1"}, "updateMask": "scopes"}, True),
    ("KeyService/UpdateKey", {"key": {"keyId": "key_1"}}, False),
    ("KeyService/UpdateKey", {"key": {}, "updateMask": "scopes"}, False),
    ("KeyService/VerifyKey", {}, True),
    ("KeyService/BatchVerifyKeys", {"requests": []}, False),
    ("KeyService/BatchDeleteKeys", {"keyIds": ["a", "a"]}, False),
    ("AuditService/ListAuditEvents", {"ownerId": "acme", "filter": {"afterPosition": "12"}}, True),
    ("AuditService/ListAuditEvents", {"ownerId": "acme", "filter": {"afterPosition": "x"}}, False),
    ("WebhookService/CreateWebhook", {"ownerId": "acme", "url": ""}, False),
]


async def test_requests_are_as_described(service: Service, known: dict[str, Any]) -> None:
    """What the schemas allow is taken, and what they forbid is refused."""
    methods = rpcs_of(service).methods
    for rpc, request, fits in REQUESTS:
        method = methods[f"/authsvc.v1.{rpc}"]
        schema = validator(known, name_of(method.descriptor.input_type))
        assert schema.is_valid(request) is fits, (rpc, request)
        try:
            parser(method.descriptor)(ParseDict(request, method.request_type()).SerializeToString())
        except (ParseError, errors.InvalidArgument):
            assert not fits, (rpc, request)
        else:
            assert fits, (rpc, request)


async def test_oauth_is_as_described(service: Service, known: dict[str, Any]) -> None:
    key = service.admin_key
    session = await service.admin.CreateSession(owner_id="u-1")
    async with mounted({"/introspect": Introspection(rpcs_of(service), client_of)}) as http:
        for name, token, headers in (
            ("Introspection", key, {"authorization": f"Bearer {key}"}),
            ("Introspection", session.session_token, {"authorization": f"Bearer {key}"}),
            ("Introspection", "x", {"authorization": f"Bearer {key}"}),
            ("OAuthError", "", {"authorization": f"Bearer {key}"}),
            ("OAuthError", key, {}),
        ):
            answer = await http.post("/introspect", data={"token": token}, headers=headers)
            validator(known, name).validate(answer.json())


def test_the_reasons_are_those_of_the_service(checkout: Path) -> None:
    """All that the errors of RPCs have, and no others, each at the code of its error."""
    found: dict[str, set[str]] = {code: set() for code in CODES}
    for file in (checkout / "src/authsvc").rglob("*.py"):
        if {"v1", "client"} & set(file.parts):
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                _note(node, found)
    found["unauthenticated"] |= {reason for reason, _ in REFUSALS.values()}
    found["unavailable"] |= {"LOCK_TIMEOUT", "REQUEST_IN_PROGRESS"}
    found["resource_exhausted"] |= {"RATE_LIMITED"}
    found["invalid_argument"] |= {"INVALID_FIELD"}
    told = {code: set(reasons) for code, (_, reasons) in CODES.items()}
    assert {code: reasons - _NOT_OF_RPCS for code, reasons in found.items()} == told


# Of commands, streams and RPCs of other protocols.
_NOT_OF_RPCS = {
    "DATABASE_ROLE",
    "HOLDER_LATE",
    "HOLDER_LIMIT",
    "SCANNING_KEYS_UNAVAILABLE",
    "STREAM_LIMIT",
    "TAG_KEYS_TOO_MANY",
    "TAG_KEY_MINTS",
    "TAG_KEY_NEEDED",
    "TAG_KEY_NOT_FOUND",
    "TAG_KEY_RETIRED",
}
_KINDS = {
    "AlreadyDone": "failed_precondition",
    "AlreadyExists": "already_exists",
    "Conflict": "aborted",
    "DeadlineExceeded": "deadline_exceeded",
    "FailedPrecondition": "failed_precondition",
    "NotFound": "not_found",
    "Overloaded": "resource_exhausted",
    "PermissionDenied": "permission_denied",
    "TooLarge": "resource_exhausted",
    "Unauthenticated": "unauthenticated",
    "Unavailable": "unavailable",
    "_forbidden": "failed_precondition",
}


def _note(call: ast.Call, found: dict[str, set[str]]) -> None:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    if (code := _KINDS.get(name)) is None:
        return
    given = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    given += call.args[:1] if name == "_forbidden" else []
    found[code] |= {str(each.value) for each in given if isinstance(each, ast.Constant)}


def test_the_codes_are_those_of_grpc() -> None:
    names = {"canceled" if code.name == "CANCELLED" else code.name.lower() for code in grpc.StatusCode}
    assert set(CODES) == names - {"ok"}
    assert {name: status for name, (status, _) in CODES.items()} == dict(_CODES.values())
