"""A login service cannot be tricked into granting platform access, which covers every owner."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from tests.conftest import Client, Service
from tests.rpc.refusal import refused

DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
REASON = "PLATFORM_NEEDS_FULL_ACCESS"

# The scopes that a back end of the platform needs, without those of an administrator.
_SCOPES = ["keys:read", "keys:write", "sessions:read", "sessions:write", "policies:write"]


async def _backend(service: Service, *scopes: str) -> Client:
    made = await service.admin.CreateKey(owner_id="authsvc", display_name="login", scopes=scopes or _SCOPES)
    return service.as_caller(made.key_string)


async def test_a_user_who_is_called_as_the_platform(service: Service) -> None:
    """A back end cannot create a session or a key for it, with any scopes; an administrator can."""
    backend = await _backend(service)
    for scopes in ([], ["sessions:read"]):
        with refused(DENIED, REASON) as refusal:
            await backend.CreateSession(owner_id="authsvc", scopes=scopes)
        assert refusal.info.metadata["required_scope"] == "full_access"
        with refused(DENIED, REASON):
            await backend.CreateKey(owner_id="authsvc", display_name="x", scopes=scopes)
    assert (await backend.CreateSession(owner_id="alice")).session_token
    assert (await backend.CreateKey(owner_id="alice", display_name="x")).key_string
    assert (await service.admin.CreateSession(owner_id="authsvc")).session_token
    assert (await service.admin.CreateKey(owner_id="authsvc", display_name="x")).key_string
    assert list((await service.admin.ListSessions(owner_id="authsvc")).sessions[0].scopes) == []


async def test_nobody_else_extends_a_credential_of_the_platform(service: Service) -> None:
    """Rotating returns a new string; more scopes or a later end extend it. Reducing is allowed."""
    backend = await _backend(service)
    admin = service.admin

    async def new_key() -> str:
        made = await admin.CreateKey(
            owner_id="authsvc", display_name="x", scopes=["keys:read"], ttl=Duration(seconds=60)
        )
        return str(made.key.key_id)

    def update(caller: Client, key_id: str, path: str, **fields: Any) -> Awaitable[Any]:
        return caller.UpdateKey(key={"key_id": key_id, **fields}, update_mask={"paths": [path]})

    extensions: list[Callable[[Client, str], Awaitable[Any]]] = [
        lambda caller, key_id: update(caller, key_id, "scopes", scopes=["keys:read", "keys:write"]),
        lambda caller, key_id: update(caller, key_id, "expire_time"),
        lambda caller, key_id: caller.RevokeKey(key_id=key_id, revoke_in=Duration(seconds=50)),
        lambda caller, key_id: caller.RotateKey(key_id=key_id),
    ]
    for extend in extensions:
        key_id = await new_key()
        if extend is extensions[2]:
            await backend.RevokeKey(key_id=key_id, revoke_in=Duration(seconds=10))
        with refused(DENIED, REASON):
            await extend(backend, key_id)
        await extend(admin, key_id)
    key_id = await new_key()
    await update(backend, key_id, "display_name", display_name="renamed")
    await update(backend, key_id, "scopes", scopes=[])
    assert (await backend.RevokeKey(key_id=key_id)).HasField("revoke_time")


@pytest.mark.parametrize("owner_id", ["AUTHSVC", "Authsvc", "auth-svc", "authsvc."])
async def test_an_owner_that_looks_like_the_platform(service: Service, owner_id: str) -> None:
    """It gets no key, session or policy from any caller; existing ones can be read and revoked."""
    admin = service.admin
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await admin.CreateKey(owner_id=owner_id, display_name="x")
    assert "looks like 'authsvc'" in refusal.fields["owner_id"]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await admin.CreateSession(owner_id=owner_id)
    assert "use another name" in refusal.fields["owner_id"]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await admin.UpdateOwnerPolicy(
            policy=policy_pb.OwnerPolicy(owner_id=owner_id), update_mask={"paths": ["keys_enabled"]}
        )
    assert "looks like 'authsvc'" in refusal.fields["policy.owner_id"]
    assert not (await admin.ListKeys(owner_id=owner_id)).keys
    assert (await admin.RevokeAllSessions(owner_id=owner_id)).revoked_count == 0
