"""Every RPC over HTTP: the same answers, the same errors and the same access as over gRPC."""

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.conftest import Client, Service
from tests.rpc.test_access_table import (
    METHODS,
    OK,
    OWNER,
    ROWS,
    Caller,
    no_calls,
    scope_of,
    target,
    token_keys,
)
from tests.rpc.test_hostile_tenant import is_telling, nobody, other_tenant, outcome, put, state_of, ways_of
from tests.web.conftest import Web
from tests.web.http_channel import JSON, PROTO

__all__ = ["no_calls", "token_keys"]
# All but those with streams.
UNARY = sorted(name for name, method in METHODS.items() if not method.client_streaming)


def test_what_is_left_out() -> None:
    """One RPC is a stream."""
    assert set(METHODS) - set(UNARY) == {"Follow"}


def shape(message: Message) -> dict[str, Any]:
    """Return the names of what is set, at any depth, without what differs from call to call."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            found[field.name] = value if field.enum_type is not None else None
        else:
            found[field.name] = [shape(each) for each in value] if field.is_repeated else shape(value)
    return found


async def ask(channel: Any, service: Service, method: str, **fields: Any) -> Any:
    """Return an answer, or an error as it is told."""
    described = METHODS[method]
    rpc = channel.unary_unary(
        f"/{described.containing_service.full_name}/{method}",
        request_serializer=GetMessageClass(described.input_type).SerializeToString,
        response_deserializer=GetMessageClass(described.output_type).FromString,
    )
    headers = [("authorization", f"Bearer {service.admin_key}")]
    try:
        return await rpc(GetMessageClass(described.input_type)(**fields), metadata=headers, timeout=30)
    except grpc.aio.AioRpcError as error:
        return error


@pytest.mark.parametrize(("media_type", "gzip"), [(JSON, False), (JSON, True), (PROTO, False), (PROTO, True)])
async def test_the_same_answers(web: Web, media_type: str, gzip: bool) -> None:
    """What is read is equal; what changes something differs in ids and times only."""
    channel = web.channel(media_type, gzip=gzip)
    at = await target(web.service)
    # What deletes comes last.
    for method in sorted(UNARY, key=lambda name: scope_of(name).endswith(":write")):
        if scope_of(method) == "keys:self":  # It would end the key that all of this is called with.
            continue
        if scope_of(method).endswith(":write"):
            heard = [
                await ask(each, web.service, method, **ROWS[method].request(await target(web.service)))
                for each in (web.service.channel, channel)
            ]
            assert shape(heard[0]) == shape(heard[1]), method
        else:
            request = ROWS[method].request(at)
            heard = [
                await ask(each, web.service, method, **request) for each in (web.service.channel, channel)
            ]
            # The status has the time at which it was read, and each token is another one.
            same = shape if method in ("GetReplicaStatus", "DeriveToken") else str
            assert same(heard[0]) == same(heard[1]), method


@pytest.mark.parametrize("media_type", [JSON, PROTO])
async def test_the_same_errors(web: Web, media_type: str) -> None:
    """An id that does not exist, and a text that is too long: code, message and all details are equal."""
    channels = web.service.channel, web.channel(media_type)
    for method in UNARY:
        names = METHODS[method].input_type.fields_by_name
        for name in ("key_id", "session_id", "webhook_id", "delivery_id", "owner_id"):
            if name not in names:
                continue
            for value in ("x_nobody", "x" * 5000):
                heard = [await ask(each, web.service, method, **{name: value}) for each in channels]
                if isinstance(heard[0], grpc.aio.AioRpcError):
                    assert heard[0].code() is heard[1].code(), method
                    details = [dict(each.trailing_metadata())["grpc-status-details-bin"] for each in heard]
                    assert details[0] == details[1], method


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_who_may_call(web: Web) -> None:
    """The access table holds over HTTP."""
    service, channel = web.service, web.channel()

    def bearing(text: str) -> Caller:
        return Caller(channel, [("authorization", f"Bearer {text}")])

    async def key(owner_id: str, *scopes: str) -> Any:
        return await service.admin.CreateKey(owner_id=owner_id, display_name="caller", scopes=scopes)

    dead = await key(OWNER, "full_access")
    await service.admin.RevokeKey(key_id=dead.key.key_id)
    for method in UNARY:
        row, scope = ROWS[method], scope_of(method)
        scopes, is_open = [scope] if scope else [], not scope
        others = sorted({scope_of(other) for other in METHODS} - {scope, ""})
        session = await service.admin.CreateSession(owner_id=OWNER, scopes=scopes)
        # Some calls end the key that they are made with.
        other = await key("globex", "full_access")
        callers = {
            "no credential": (Caller(channel), OK if is_open else "UNAUTHENTICATED CREDENTIAL_MISSING"),
            "revoked": (bearing(dead.key_string), "UNAUTHENTICATED CREDENTIAL_REVOKED"),
            "wrong scopes": (
                bearing((await key(OWNER, *others)).key_string),
                OK if is_open else "PERMISSION_DENIED SCOPE_MISSING",
            ),
            "other owner": (bearing(other.key_string), row.other),
            "session": (bearing(session.session_token), row.keyless or row.own),
            "own owner": (bearing((await key(OWNER, *scopes)).key_string), row.own),
            "platform owner": (bearing((await key("authsvc", *scopes)).key_string), OK),
        }
        heard = {
            name: await caller.ask(method, row.request(await target(service)))
            for name, (caller, _) in callers.items()
        }
        assert heard == {name: expected for name, (_, expected) in callers.items()}, method
        # All together are more than an owner may have.
        await service.admin.BatchRevokeKeys(owner_id=OWNER)


@pytest.mark.parametrize(
    "method", ["GetKey", "ListKeys", "LookupKey", "RevokeKey", "VerifyKey", "VerifySession"]
)
async def test_nothing_of_another_tenant_is_reached(web: Web, method: str) -> None:  # rule 19
    """As over gRPC: values of another tenant and values that do not exist look the same."""
    service = web.service
    caller = await service.admin.CreateKey(owner_id=OWNER, display_name="hostile", scopes=["full_access"])
    other = await other_tenant(service)
    before = await state_of(service)
    for path in ways_of(method):
        outcomes = []
        for tenant in (other, nobody(service, other)):
            mine = await target(service)
            request = GetMessageClass(METHODS[method].input_type)(**ROWS[method].request(mine))
            value = tenant.of(path[-1].name)
            put(request, path, value)
            seen = await outcome(web.channel(), caller.key_string, method, request, value, mine.key_id)
            assert not [own for own in (*other.values.values(), "globex") if own in seen]
            outcomes.append(seen if is_telling(method, seen) else "OK")
        assert outcomes[0] == outcomes[1], path[-1].name
    assert await state_of(service) == before


async def test_a_request_id_reaches_the_audit_log(web: Web) -> None:
    """So does the caller; both come from the headers."""
    await Client(web.channel(), web.service.admin_key, x_request_id="from-http").CreateKey(
        owner_id=OWNER, display_name="x"
    )
    [event] = (await web.service.admin.ListAuditEvents(owner_id=OWNER)).events
    assert event.request_id == "from-http"
