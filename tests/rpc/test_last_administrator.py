"""The last administrator key: only a request that explicitly allows it can end it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.rpc.convert import timestamp
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
REASON = "LAST_ADMINISTRATOR_KEY"

Ends = Callable[[Service, str, bool], Awaitable[Any]]
ENDS: dict[str, Ends] = {
    "RevokeKey": lambda service, key_id, allow: service.admin.RevokeKey(
        key_id=key_id, allow_last_administrator=allow
    ),
    "RevokeKey, scheduled": lambda service, key_id, allow: service.admin.RevokeKey(
        key_id=key_id, revoke_in=Duration(seconds=60), allow_last_administrator=allow
    ),
    "BatchRevokeKeys of ids": lambda service, key_id, allow: service.admin.BatchRevokeKeys(
        key_ids=[key_id], allow_last_administrator=allow
    ),
    "BatchRevokeKeys of the owner": lambda service, key_id, allow: service.admin.BatchRevokeKeys(
        owner_id="authsvc", allow_last_administrator=allow
    ),
    "UpdateKey, expiry": lambda service, key_id, allow: service.admin.UpdateKey(
        key={"key_id": key_id, "expire_time": timestamp(service.app.clock() + timedelta(seconds=1))},
        update_mask={"paths": ["expire_time"]},
        allow_last_administrator=allow,
    ),
    "UpdateKey": lambda service, key_id, allow: service.admin.UpdateKey(
        key={"key_id": key_id, "scopes": ["keys:write"]},
        update_mask={"paths": ["scopes"]},
        allow_last_administrator=allow,
    ),
}


async def _own_id(service: Service) -> str:
    return str((await service.admin.LookupKey(key_string=service.admin_key)).key_id)


async def _another(service: Service, **fields: Any) -> str:
    made = await service.admin.CreateKey(
        owner_id="authsvc", display_name="another", scopes=["full_access"], **fields
    )
    return str(made.key.key_id)


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS)
async def test_the_last_one_is_ended_when_asked_for(service: Service, ends: Ends) -> None:
    """Without the field it is refused, with the remedy, and the key stays active; with it, it is done."""
    await service.admin.CreateKey(owner_id="authsvc", display_name="narrow", scopes=["keys:write"])
    await service.admin.CreateKey(owner_id="acme", display_name="a tenant's", scopes=["full_access"])
    key_id = await _own_id(service)
    with refused(PRECONDITION, REASON) as refusal:
        await ends(service, key_id, False)
    assert "allow_last_administrator" in refusal.message
    assert "authsvc bootstrap" in refusal.message
    assert await _own_id(service) == key_id
    await ends(service, key_id, True)


@pytest.mark.parametrize("name", [name for name in ENDS if "of the owner" not in name])
async def test_one_of_two_is_ended_without_more_ado(service: Service, name: str) -> None:
    """While another one works, the field is not needed."""
    await _another(service)
    await ENDS[name](service, await _own_id(service), False)


async def test_who_does_not_count_as_left(service: Service, clock: Clock) -> None:
    """A key that is revoked, scheduled for revocation, or expired."""
    revoked, scheduled = await _another(service), await _another(service)
    await _another(service, ttl=Duration(seconds=60))
    await service.admin.RevokeKey(key_id=revoked)
    await service.admin.RevokeKey(key_id=scheduled, revoke_in=Duration(seconds=3600))
    clock.advance(seconds=60)
    key_id = await _own_id(service)
    with refused(PRECONDITION, REASON) as refusal:
        await service.admin.RevokeKey(key_id=key_id)
    assert refusal.info.metadata["key_id"] == key_id
    # Changes that end no administrator key are allowed.
    await service.admin.RevokeKey(key_id=scheduled, reason="now")
    await service.admin.DeleteKey(key_id=revoked)


async def test_one_whose_answer_is_not_known_to_have_been_sent(
    service: Service, database_url: str, clock: Clock
) -> None:
    """It does not count as remaining, since it may be lost; it is not revoked, since somebody may have it."""
    unknown = await _another(service)
    backend = await service.admin.CreateKey(owner_id="authsvc", display_name="backend", scopes=["keys:write"])
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE authsvc.key_uses SET answer = 'pending' WHERE key_id = $1", unknown)
    finally:
        await connection.close()
    clock.advance(seconds=61)
    own = await _own_id(service)
    with refused(PRECONDITION, REASON):
        await service.admin.RevokeKey(key_id=own)
    caller = service.as_caller(backend.key_string)
    await caller.RevokeKey(key_id=own, allow_last_administrator=True)
    with refused(PRECONDITION, REASON):
        await caller.RevokeKey(key_id=unknown)


async def test_a_later_expiry_ends_nothing(service: Service) -> None:
    """Only an earlier expiry needs the field."""
    own = await _own_id(service)
    for allow, days in ((True, 1), (False, 2)):
        await service.admin.UpdateKey(
            key={"key_id": own, "expire_time": timestamp(service.app.clock() + timedelta(days=days))},
            update_mask={"paths": ["expire_time"]},
            allow_last_administrator=allow,
        )


async def test_a_batch_of_all_of_them(service: Service) -> None:
    """Each key has another beside it, but none would remain."""
    ids = [await _own_id(service), await _another(service)]
    with refused(PRECONDITION, REASON) as refusal:
        await service.admin.BatchRevokeKeys(key_ids=ids)
    assert set(refusal.info.metadata["key_ids"].split(",")) == set(ids)


async def test_a_rotation_replaces_it(service: Service) -> None:
    """The old key may be revoked before its grace period ends."""
    key_id = await _own_id(service)
    new = await service.admin.RotateKey(key_id=key_id, grace_period=Duration(seconds=3600))
    admin = service.as_caller(new.key_string)
    await admin.RevokeKey(key_id=key_id)
    with refused(PRECONDITION, REASON):
        await admin.RevokeKey(key_id=new.key.key_id)


async def test_the_last_two_at_once(service: Service) -> None:
    """One is revoked; the other one is then the last."""
    for _ in range(5):
        made = [await _another(service) for _ in range(2)]
        backend = await service.admin.CreateKey(
            owner_id="authsvc", display_name="backend", scopes=["keys:write"]
        )
        caller = service.as_caller(backend.key_string)
        own = await _own_id(service)
        await service.admin.RevokeKey(key_id=own)
        answers = await asyncio.gather(
            *(caller.RevokeKey(key_id=key_id) for key_id in made), return_exceptions=True
        )
        failed = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert [error.code() for error in failed] == [PRECONDITION]
        minted = await service.app.keys.ensure_administrator(another=True)
        assert minted is not None
        service.admin_key = minted.text
        for key_id in made:
            await service.admin.BatchRevokeKeys(key_ids=[key_id])
