"""RotateKey (rule 30)."""

from datetime import UTC, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import code_of, make


async def rotate(service: Service, key_id: str, grace: int = 0, **fields: Any) -> Any:
    return await service.admin.RotateKey(key_id=key_id, grace_period=Duration(seconds=grace), **fields)


async def test_rotation_without_an_outage(service: Service, clock: Clock) -> None:  # rule 30
    """The new key works immediately, the old one until the grace period ends."""
    old = await make(service)
    assert await code_of(service, old.key_string) == "VALID"
    new = await rotate(service, old.key.key_id, 3600)
    assert await code_of(service, new.key_string) == "VALID"
    assert await code_of(service, old.key_string) == "VALID"
    clock.advance(seconds=3600)
    assert await code_of(service, new.key_string) == "VALID"
    assert await code_of(service, old.key_string) == "REVOKED"


async def test_rotation_without_grace(service: Service) -> None:  # rule 30
    """The old key is refused once the call has returned."""
    old = await make(service)
    assert await code_of(service, old.key_string) == "VALID"
    await rotate(service, old.key.key_id)
    assert await code_of(service, old.key_string) == "REVOKED"


async def test_the_old_key_never_outlives_its_expiry(service: Service, clock: Clock) -> None:  # rule 30
    """A grace period beyond the expiry does not extend it."""
    old = await make(service, ttl=Duration(seconds=60))
    await rotate(service, old.key.key_id, 3600)
    clock.advance(seconds=60)
    assert await code_of(service, old.key_string) == "EXPIRED"


async def test_an_earlier_scheduled_revocation_stays(service: Service, clock: Clock) -> None:  # rule 30
    """A grace period beyond a scheduled revocation does not move it."""
    old = await make(service)
    await service.admin.RevokeKey(key_id=old.key.key_id, revoke_in=Duration(seconds=60), reason="end")
    await rotate(service, old.key.key_id, 3600)
    key = await service.admin.GetKey(key_id=old.key.key_id)
    assert key.revoke_reason == "end"
    assert key.revoke_time.ToDatetime(tzinfo=UTC) == clock.now + timedelta(seconds=60)


async def test_what_the_new_key_inherits(service: Service, clock: Clock) -> None:
    """Name, description, scopes, contacts, annotations, brand, environment and lifetime."""
    old = await make(
        service,
        description="d",
        scopes=["orders:read"],
        technical_contacts=[resources_pb2.TechnicalContact(name="Ada", email="ada@example.org")],
        annotations={"a": "b"},
        brand="eg",
        environment="test",
        ttl=Duration(seconds=86400),
    )
    clock.advance(hours=12)
    new = await rotate(service, old.key.key_id, 60)
    for field in ("owner_id", "display_name", "description", "scopes", "technical_contacts", "annotations"):
        assert getattr(new.key, field) == getattr(old.key, field)
    assert new.key_string.startswith("eg_test_")
    assert new.key.key_prefix != old.key.key_prefix
    assert new.key.expire_time.ToDatetime(tzinfo=UTC) == clock.now + timedelta(days=1)
    assert new.key.rotated_from_key_id == old.key.key_id
    replaced = await service.admin.GetKey(key_id=old.key.key_id)
    assert replaced.rotated_to_key_id == new.key.key_id
    assert replaced.revoke_reason == "rotated"


async def test_a_key_is_rotated_once(service: Service) -> None:
    """The error of a second rotation names the successor; revoked and expired keys cannot be rotated."""
    old = await make(service)
    new = await rotate(service, old.key.key_id, 60)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_ALREADY_ROTATED") as refusal:
        await rotate(service, old.key.key_id, 60)
    assert refusal.info.metadata["rotated_to_key_id"] == new.key.key_id
    await rotate(service, new.key.key_id)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_ALREADY_REVOKED"):
        await rotate(service, new.key.key_id)


async def test_an_expired_key_is_not_rotated(service: Service, clock: Clock) -> None:
    """Rotation must not revive an expired key."""
    old = await make(service, ttl=Duration(seconds=60))
    clock.advance(seconds=60)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_EXPIRED"):
        await rotate(service, old.key.key_id)


async def test_a_request_id_makes_a_retry_safe(service: Service) -> None:
    """The retry names the new key instead of rotating again, also after the old key is revoked."""
    old = await make(service)
    new = await rotate(service, old.key.key_id, request_id="r-1")
    with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_REPEATED") as refusal:
        await rotate(service, old.key.key_id, request_id="r-1")
    assert refusal.info.metadata["key_id"] == new.key.key_id
    assert len((await service.admin.ListKeys(owner_id="acme")).keys) == 2


async def test_a_grace_period_that_makes_no_sense(service: Service) -> None:
    """Negative, or more than a year."""
    old = await make(service)
    for seconds in (-1, 31536001):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await rotate(service, old.key.key_id, seconds)
        assert list(refusal.fields) == ["grace_period"]


async def test_that_there_is_no_key_is_told_when_every_worker_knows(service: Service) -> None:
    """A change that returns NOT_FOUND is reliable: it waits for a feed entry of its own (R7)."""
    before = service.app.holder.seq
    with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"):
        await rotate(service, "key_unknown")
    assert service.app.holder.seq == before + 1
