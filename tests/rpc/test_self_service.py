"""RevokeSelf and RotateSelf: whoever holds a key may end or replace it, and nothing else by that."""

from datetime import timedelta
from typing import Any

import grpc
import pytest

from authsvc.model.scope import OWN_SCOPES
from authsvc.v1 import resources_pb2
from tests.conftest import Client, Service
from tests.rpc.test_access_table import METHODS, reason_of, scope_of

SELF = "keys:self"


async def holder(service: Service, *scopes: str, owner_id: str = "acme", **fields: Any) -> tuple[Any, Client]:
    """Return a key that may end and replace itself, and a client that has it."""
    made = await service.admin.CreateKey(
        owner_id=owner_id, display_name="x", scopes=[SELF, *scopes], **fields
    )
    return made, service.as_caller(made.key_string)


async def refusal(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return reason_of(refused.value)


async def test_a_key_ends_itself(service: Service) -> None:  # rules 15, 16
    made, caller = await holder(service)
    answer = await caller.RevokeSelf(reason="it was in a log")
    assert answer.key_id == made.key.key_id
    verdict = await service.admin.VerifyKey(key_string=made.key_string)
    assert verdict.code == resources_pb2.VERDICT_CODE_REVOKED
    found = await service.admin.GetKey(key_id=made.key.key_id)
    assert (found.revoke_reason, found.revoker_id) == ("it was in a log", made.key.key_id)
    assert found.revoke_time == answer.revoke_time
    assert found.revoke_cause == resources_pb2.REVOKE_CAUSE_REQUESTED
    assert await refusal(caller.RevokeSelf()) == "CREDENTIAL_REVOKED"
    actions = {"actions": ["AUDIT_ACTION_KEY_REVOKED"]}
    [event] = (await service.admin.ListAuditEvents(owner_id="acme", filter=actions)).events
    assert (event.actor_id, event.target_id) == (made.key.key_id, made.key.key_id)


async def test_a_key_replaces_itself(service: Service) -> None:  # rule 30
    """The new key has the same scopes. Of the rest, which takes keys:read, nothing is shown."""
    contact = {"name": "Ops", "email": "ops@example.org"}
    made, caller = await holder(service, "orders:read", technical_contacts=[contact], description="secret")
    answer = await caller.RotateSelf(grace_period=timedelta(hours=1))
    assert list(answer.key.scopes) == [SELF, "orders:read"]
    assert answer.key.rotated_from_key_id == made.key.key_id
    shown = {field.name for field, _ in answer.key.ListFields()}
    assert shown.isdisjoint({"display_name", "description", "technical_contacts", "annotations", "etag"})
    for key_string in (made.key_string, answer.key_string):
        assert (await service.admin.VerifyKey(key_string=key_string)).valid
    service.clock.advance(seconds=3601)
    assert not (await service.admin.VerifyKey(key_string=made.key_string)).valid
    assert await refusal(caller.RotateSelf()) == "CREDENTIAL_REVOKED"
    again = await service.as_caller(answer.key_string).RotateSelf()
    assert not (await service.admin.VerifyKey(key_string=answer.key_string)).valid
    assert (await service.admin.VerifyKey(key_string=again.key_string)).valid


async def test_a_lost_answer_is_noticed(service: Service) -> None:
    """As for other calls that make a key: a second call with the same id names the key."""
    _, caller = await holder(service)
    await caller.RotateSelf(grace_period=timedelta(hours=1), request_id="r-1")
    assert await refusal(caller.RotateSelf(request_id="r-1")) == "REQUEST_REPEATED"
    assert await refusal(caller.RotateSelf()) == "KEY_ALREADY_ROTATED"


async def test_the_scope_allows_nothing_else(service: Service) -> None:
    """Neither another RPC, nor another key."""
    assert [name for name in METHODS if scope_of(name) == SELF] == ["RevokeSelf", "RotateSelf"]
    assert SELF in OWN_SCOPES
    made, caller = await holder(service)
    for call in (
        caller.GetKey(key_id=made.key.key_id),
        caller.ListKeys(owner_id="acme"),
        caller.RevokeKey(key_id=made.key.key_id),
        caller.RotateKey(key_id=made.key.key_id),
        caller.VerifyKey(key_string=made.key_string),
    ):
        assert await refusal(call) == "SCOPE_MISSING"
    writer = await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["keys:write"])
    assert await refusal(service.as_caller(writer.key_string).RevokeSelf()) == "SCOPE_MISSING"


async def test_policies(service: Service) -> None:
    """Where only sessions manage keys, a key may end itself, and not replace itself."""
    _, caller = await holder(service)
    await service.admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "key_managers": "KEY_MANAGERS_SESSIONS_ONLY"},
        update_mask={"paths": ["key_managers"]},
    )
    assert await refusal(caller.RotateSelf()) == "KEY_MANAGER_NOT_PERMITTED"
    await caller.RevokeSelf()


async def test_only_keys(service: Service) -> None:
    session = await service.admin.CreateSession(owner_id="u-1", scopes=[SELF])
    caller = service.as_caller(session.session_token)
    for call in (caller.RevokeSelf(), caller.RotateSelf()):
        assert await refusal(call) == "CALLER_NOT_A_KEY"
    assert (await service.admin.VerifySession(session_token=session.session_token)).valid


async def test_the_last_administrator_key(service: Service) -> None:
    assert await refusal(service.admin.RevokeSelf()) == "LAST_ADMINISTRATOR_KEY"
    await service.admin.RevokeSelf(allow_last_administrator=True)
    assert await refusal(service.admin.RevokeSelf()) == "CREDENTIAL_REVOKED"


async def test_keys_of_the_platform_replace_themselves(service: Service) -> None:
    """Without full access, too: they get no more than they have."""
    _, caller = await holder(service, "keys:verify", owner_id="authsvc")
    answer = await caller.RotateSelf()
    assert list(answer.key.scopes) == [SELF, "keys:verify"]
