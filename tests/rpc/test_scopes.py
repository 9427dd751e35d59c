"""ListScopes: the existing scopes."""

import grpc
import pytest

from authsvc.model.scope import OWN_SCOPES
from authsvc.v1 import scope_service_pb2 as pb
from authsvc.v1.scope_service_pb2_grpc import ScopeServiceStub
from tests.conftest import Clock, Service, serving
from tests.rpc.refusal import refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def scopes(service: Service, key_string: str = "") -> pb.ListScopesResponse:
    metadata = [("authorization", f"Bearer {key_string or service.admin_key}")]
    answer: pb.ListScopesResponse = await ScopeServiceStub(service.channel).ListScopes(
        pb.ListScopesRequest(), metadata=metadata
    )
    return answer


async def test_the_operators_scopes_and_our_own(database_url: str, clock: Clock) -> None:  # rule 2
    """Each with its description, the operator's first, and no others."""
    async with serving(database_url, clock, scopes="orders:read=Read orders,orders:write") as service:
        answer = await scopes(service)
    own = list(OWN_SCOPES.items())
    assert [(s.name, s.description) for s in answer.scopes] == [
        ("orders:read", "Read orders"),
        ("orders:write", ""),
        *own,
    ]
    assert not answer.any_scope_allowed


async def test_any_scope(database_url: str, clock: Clock) -> None:  # rule 2
    """Where the operator allows any scope, the answer says so, and lists ours."""
    async with serving(database_url, clock, scopes="*") as service:
        answer = await scopes(service)
        await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["what:ever"])
    assert answer.any_scope_allowed
    assert {scope.name for scope in answer.scopes} == set(OWN_SCOPES)


async def test_it_takes_keys_read(service: Service) -> None:
    """A caller of any owner that may read keys may list the scopes."""
    acme = await service.admin.CreateKey(owner_id="acme", display_name="A", scopes=["keys:read"])
    assert (await scopes(service, acme.key_string)).scopes
    other = await service.admin.CreateKey(owner_id="acme", display_name="B", scopes=["keys:write"])
    with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
        await scopes(service, other.key_string)


@pytest.mark.parametrize("rpc", ["CreateKey", "UpdateKey", "CreateSession"])
async def test_without_a_catalogue_there_are_our_own_only(
    database_url: str, clock: Clock, rpc: str
) -> None:  # rule 2
    """Unknown scopes are refused wherever scopes are granted, with the remedy."""
    async with serving(database_url, clock, scopes="") as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:read"])
        given: dict[str, object] = {"owner_id": "acme", "scopes": ["orders:read"]}
        path = "scopes"
        if rpc == "CreateKey":
            given["display_name"] = "x"
        if rpc == "UpdateKey":
            given = {
                "key": {"key_id": made.key.key_id, "scopes": ["orders:read"]},
                "update_mask": {"paths": ["scopes"]},
            }
            path = "key.scopes"
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await getattr(service.admin, rpc)(**given)
    assert refusal.fields[path] == (
        "orders:read is not known here; see ListScopes. The operator adds others to AUTHSVC_SCOPES"
    )


async def test_a_scope_that_was_taken_off_the_catalogue(
    database_url: str, clock: Clock
) -> None:  # rules 2, 30
    """Existing keys keep it: they verify, rotate and can be edited; it cannot be granted to other keys."""
    async with serving(database_url, clock, scopes="orders:read") as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["orders:read"])
        admin_key = service.admin_key
    async with serving(database_url, clock, scopes="orders:write") as service:
        admin = service.as_caller(admin_key)
        verdict = await admin.VerifyKey(key_string=made.key_string, required_scopes=["orders:read"])
        assert verdict.valid
        new = await admin.RotateKey(key_id=made.key.key_id)
        assert list(new.key.scopes) == ["orders:read"]
        edited = {"key_id": new.key.key_id, "scopes": ["orders:read", "orders:write"]}
        changed = await admin.UpdateKey(key=edited, update_mask={"paths": ["scopes"]})
        assert list(changed.scopes) == ["orders:read", "orders:write"]
        with refused(INVALID, "INVALID_FIELD"):
            await admin.CreateKey(owner_id="acme", display_name="y", scopes=["orders:read"])
