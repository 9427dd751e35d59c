"""Authorization of callers: the access table in the protos, owners, and what a caller may grant."""

from datetime import timedelta
from typing import Any

import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import options_pb2, resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import missing, refused
from tests.rpc.test_revoke import make

SERVICE = pb.DESCRIPTOR.services_by_name["KeyService"]
METHODS = [method.name for method in SERVICE.methods]
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED


def scope_of(method: str) -> str:
    return SERVICE.methods_by_name[method].GetOptions().Extensions[options_pb2.required_scope]


SCOPED = [method for method in METHODS if scope_of(method)]


async def call(service: Service, method: str, *authorization: str) -> Any:
    """Call with these authorization headers and an empty request."""
    request = getattr(pb, SERVICE.methods_by_name[method].input_type.name)()
    rpc: Any = service.channel.unary_unary(
        f"/{SERVICE.full_name}/{method}", request_serializer=type(request).SerializeToString
    )
    return await rpc(request, metadata=[("authorization", value) for value in authorization])


def test_every_rpc_names_its_scope() -> None:
    """The access table is as documented."""
    assert {method: scope_of(method) for method in METHODS} == {
        "CreateKey": "keys:write",
        "ImportKeys": "keys:write",
        "GetKey": "keys:read",
        "ListKeys": "keys:read",
        "UpdateKey": "keys:write",
        "RotateKey": "keys:write",
        "RevokeKey": "keys:write",
        "DisableKey": "keys:write",
        "EnableKey": "keys:write",
        "RefundCredits": "keys:write",
        "RevokeSelf": "keys:self",
        "RotateSelf": "keys:self",
        "ReportLeakedKeys": "",  # open to all
        "BatchRevokeKeys": "keys:write",
        "DeleteKey": "keys:write",
        "BatchDeleteKeys": "keys:write",
        "VerifyKey": "keys:verify",
        "DeriveToken": "tokens:derive",
        "VerifyToken": "keys:verify",
        "BatchVerifyKeys": "keys:verify",
        "LookupKey": "keys:read",
        "GetKeyUsage": "keys:read",
        "PreviewRevocation": "keys:read",
        "GetRotationStatus": "keys:read",
        "PreviewAllowedNetworks": "keys:read",
    }


@pytest.mark.parametrize("method", SCOPED)
async def test_no_credential(service: Service, method: str) -> None:
    """Every RPC needs a credential, and checks it before the request."""
    with refused(UNAUTHENTICATED, "CREDENTIAL_MISSING"):
        await call(service, method)


@pytest.mark.parametrize("method", SCOPED)
async def test_without_the_scope(service: Service, method: str) -> None:
    """All other scopes together are not enough; the error names the missing one."""
    others = sorted({scope_of(other) for other in SCOPED} - {scope_of(method)})
    caller = await make(service, scopes=others)
    with refused(DENIED, "SCOPE_MISSING") as refusal:
        await call(service, method, f"Bearer {caller.key_string}")
    assert refusal.info.metadata["required_scope"] == scope_of(method)


@pytest.mark.parametrize("method", SCOPED)
async def test_with_just_the_scope(service: Service, method: str) -> None:
    """The scope alone is enough; the remaining error is about the empty request."""
    caller = await make(service, scopes=[scope_of(method)])
    try:
        await call(service, method, f"Bearer {caller.key_string}")
    except grpc.aio.AioRpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)  # noqa: PT017


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (["Bearer "], "CREDENTIAL_MISSING"),
        (["bearer"], "CREDENTIAL_MISSING"),
        (["Bearer rubbish"], "CREDENTIAL_INVALID"),
        (["Bearer authsvc_live_" + "0" * 63], "CREDENTIAL_INVALID"),
        (["Basic dXNlcjpwYXNz"], "CREDENTIAL_SCHEME"),
        ([""], "CREDENTIAL_MISSING"),
        (["", "Bearer "], "CREDENTIAL_MISSING"),
        (["", "Basic dXNlcjpwYXNz"], "CREDENTIAL_SCHEME"),
        (["Bearer ", "Bearer rubbish"], "CREDENTIAL_INVALID"),
        (["Bearer a", "Bearer b"], "CREDENTIAL_AMBIGUOUS"),
        (["Bearer a", "", "Bearer b"], "CREDENTIAL_AMBIGUOUS"),
    ],
)
async def test_bad_credentials(service: Service, headers: list[str], reason: str, transport: str) -> None:
    """Each error says what is wrong, and none contains the credential."""
    blank = [header for header in headers if header.endswith(" ")]
    told = missing(blank[0], transport) if blank and transport == "lane" else (UNAUTHENTICATED, reason)
    with refused(*told) as refusal:
        await call(service, "VerifyKey", *headers)
    assert "dXNlcjpwYXNz" not in refusal.message


@pytest.mark.parametrize("empty", ["", "Bearer ", "Bearer"])
async def test_an_empty_header_beside_a_good_one(service: Service, empty: str, transport: str) -> None:
    """It contains no credential, so the other header is not ambiguous."""
    good = f"Bearer {service.admin_key}"
    if empty.endswith(" ") and transport == "lane":
        with refused(*missing(empty, transport)):
            await call(service, "VerifyKey", empty, good)
        return
    await call(service, "VerifyKey", empty, good)
    await call(service, "VerifyKey", good, empty)


async def test_the_scheme_has_no_case(service: Service) -> None:
    """RFC 9110: schemes are case-insensitive."""
    await call(service, "VerifyKey", f"bEARER  {service.admin_key}")


async def test_a_dead_credential(service: Service, clock: Clock) -> None:
    """A revoked or expired key of a caller is refused immediately, with the reason."""
    revoked = await make(service, scopes=["keys:verify"])
    expiring = await make(service, scopes=["keys:verify"], ttl={"seconds": 60})
    for each in (revoked, expiring):
        await call(service, "VerifyKey", f"Bearer {each.key_string}")
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=60)
    with refused(UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
        await call(service, "VerifyKey", f"Bearer {revoked.key_string}")
    with refused(UNAUTHENTICATED, "CREDENTIAL_EXPIRED"):
        await call(service, "VerifyKey", f"Bearer {expiring.key_string}")


async def test_callers_are_authenticated_from_memory(service: Service) -> None:
    """A cached caller needs no database query and no argon2."""
    made = await make(service)
    await service.admin.VerifyKey(key_string=made.key_string)
    before = service.app.database.checkouts, service.app.hasher.runs
    await service.admin.VerifyKey(key_string=made.key_string)
    assert (service.app.database.checkouts, service.app.hasher.runs) == before


async def test_another_owners_keys_do_not_exist(service: Service) -> None:
    """Another owner's key is NOT_FOUND by id, by string and in batches; listing and creating are refused."""
    mine = await make(service, "acme", scopes=["keys:read", "keys:write", "keys:verify"])
    theirs = await make(service, "globex")
    caller = service.as_caller(mine.key_string)
    key_id = theirs.key.key_id
    mask = {"paths": ["description"]}
    not_found = (grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND")
    attempts: list[Any] = [
        lambda: caller.GetKey(key_id=key_id),
        lambda: caller.RevokeKey(key_id=key_id),
        lambda: caller.RotateKey(key_id=key_id),
        lambda: caller.DeleteKey(key_id=key_id),
        lambda: caller.BatchDeleteKeys(key_ids=[key_id]),
        lambda: caller.BatchRevokeKeys(key_ids=[mine.key.key_id, key_id]),
        lambda: caller.UpdateKey(key=resources_pb2.Key(key_id=key_id), update_mask=mask),
        lambda: caller.LookupKey(key_string=theirs.key_string),
    ]
    for attempt in attempts:
        with refused(*not_found):
            await attempt()
    denied: list[Any] = [
        lambda: caller.ListKeys(owner_id="globex"),
        lambda: caller.CreateKey(owner_id="globex", display_name="x"),
        lambda: caller.BatchRevokeKeys(owner_id="globex"),
        lambda: caller.CreateKey(owner_id="authsvc", display_name="x"),
    ]
    for attempt in denied:
        with refused(DENIED, "OWNER_NOT_PERMITTED"):
            await attempt()
    for string in (theirs.key_string, "rubbish"):
        with refused(*not_found) as refusal:
            await caller.LookupKey(key_string=string)
        assert refusal.message == "no key has this key string"
        assert not refusal.info.metadata
    verdict = await caller.VerifyKey(key_string=theirs.key_string)
    assert verdict == pb.VerifyKeyResponse(code=resources_pb2.VERDICT_CODE_NOT_FOUND)
    assert (await service.admin.VerifyKey(key_string=theirs.key_string)).valid


async def test_nobody_grants_what_they_do_not_have(service: Service) -> None:  # rule 6
    """By creating, by updating, or by rotating a key with more scopes to get its new string."""
    weak = await make(service, scopes=["keys:write", "a"])
    strong = await make(service, scopes=["full_access"])
    other = await make(service, scopes=["a", "b"])
    caller = service.as_caller(weak.key_string)
    assert (await caller.CreateKey(owner_id="acme", display_name="x", scopes=["a"])).key.scopes == ["a"]
    attempts: list[Any] = [
        lambda: caller.CreateKey(owner_id="acme", display_name="x", scopes=["b"]),
        lambda: caller.CreateKey(owner_id="acme", display_name="x", scopes=["full_access"]),
        lambda: caller.RotateKey(key_id=strong.key.key_id),
        lambda: caller.UpdateKey(
            key=resources_pb2.Key(key_id=other.key.key_id, scopes=["a", "b", "c"]),
            update_mask={"paths": ["scopes"]},
        ),
    ]
    for attempt in attempts:
        with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
            await attempt()
    reduced = await caller.UpdateKey(
        key=resources_pb2.Key(key_id=other.key.key_id, scopes=["b"]), update_mask={"paths": ["scopes"]}
    )
    assert reduced.scopes == ["b"]
    assert (await service.admin.VerifyKey(key_string=strong.key_string)).valid


async def test_nobody_prolongs_what_they_do_not_have(service: Service, clock: Clock) -> None:  # rule 6
    """A caller that lacks scopes of a key cannot revive it after its expiry or postpone its end."""
    weak = await make(service, scopes=["keys:write", "a"])
    dead, living = [await make(service, scopes=["full_access"], ttl={"seconds": n}) for n in (60, 600)]
    scheduled = await make(service, scopes=["full_access"])
    equal = await make(service, scopes=["a", "b"], ttl={"seconds": 60})
    await service.admin.RevokeKey(key_id=scheduled.key.key_id, revoke_in={"seconds": 600})
    clock.advance(seconds=60)
    caller = service.as_caller(weak.key_string)

    def expire(made: Any, seconds: float | None, *paths: str, **fields: Any) -> Any:
        key = resources_pb2.Key(key_id=made.key.key_id, **fields)
        if seconds is not None:
            key.expire_time.FromDatetime(clock.now + timedelta(seconds=seconds))
        return caller.UpdateKey(key=key, update_mask={"paths": ["expire_time", *paths]})

    attempts: list[Any] = [
        lambda: expire(dead, None),
        lambda: expire(dead, 60),
        lambda: expire(living, 601),
        lambda: expire(equal, 60),
        lambda: caller.RevokeKey(key_id=scheduled.key.key_id, revoke_in={"seconds": 600}),
    ]
    for attempt in attempts:
        with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
            await attempt()
    # Ending a key earlier is allowed, and so is extending one if the caller may grant its remaining scopes.
    await expire(living, 300)
    await caller.RevokeKey(key_id=scheduled.key.key_id, revoke_in={"seconds": 300})
    await caller.RevokeKey(key_id=living.key.key_id, revoke_in={"seconds": 600})
    assert (await expire(equal, 60, "scopes", scopes=["a"])).scopes == ["a"]
    assert not (await service.admin.VerifyKey(key_string=dead.key_string)).valid
