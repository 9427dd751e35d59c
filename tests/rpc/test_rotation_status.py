"""GetRotationStatus, and grace periods that end by themselves."""

import asyncio
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.app.use_cases import grace_margin
from authsvc.config.settings import load_settings
from authsvc.v1 import audit_service_pb2 as audit_pb
from tests.conftest import Clock, Service, serving
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import code_of, make

PRECONDITION, INVALID = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
MARGIN = grace_margin(load_settings())


async def rotate(service: Service, old: Any, *, wait: timedelta | None = HOUR, **fields: Any) -> Any:
    if wait is not None:
        fields["end_grace_when_unused_for"] = wait
    return await service.admin.RotateKey(key_id=old.key.key_id, **{"grace_period": 7 * DAY, **fields})


async def ends(service: Service, clock: Clock, **after: float) -> bool:
    """Return whether the grace period of a key has ended after some time."""
    await service.flush()
    clock.advance(**after)
    before = service.app.grace_ends.ended
    while await service.app.grace_ends.step():
        pass
    clock.advance(seconds=30)
    return service.app.grace_ends.ended > before


async def test_who_still_shows_the_old_key(service: Service, clock: Clock) -> None:
    """Of either key: both keys, the end of the grace period, the uses of the old key since the rotation."""
    old = await make(service)
    await service.admin.VerifyKey(key_string=old.key_string, client_ip="192.0.2.1", user_agent="before/1")
    await service.flush()
    clock.advance(hours=1)
    new = await rotate(service, old, wait=None)
    rotated = clock.now
    status = await service.admin.GetRotationStatus(key_id=old.key.key_id)
    assert list(status.old_key_users) == []
    clock.advance(hours=1)
    await service.admin.VerifyKey(key_string=old.key_string, client_ip="198.51.100.1", user_agent="late/1")
    await service.admin.VerifyKey(key_string=new.key_string)
    await service.flush()
    status = await service.admin.GetRotationStatus(key_id=old.key.key_id)
    assert status == await service.admin.GetRotationStatus(key_id=new.key.key_id)
    assert status.old_key == await service.admin.GetKey(key_id=old.key.key_id)
    assert status.new_key == await service.admin.GetKey(key_id=new.key.key_id)
    assert status.new_key.last_use_time.ToDatetime(UTC) == clock.now
    assert status.rotate_time.ToDatetime(UTC) == rotated
    assert status.grace_end_time.ToDatetime(UTC) == rotated + 7 * DAY
    assert [(user.network, user.program, user.uses) for user in status.old_key_users] == [
        ("198.51.100.0/24", "late/1", 1)
    ]
    assert not status.more_old_key_users
    for field in ("end_grace_when_unused_for", "earliest_grace_end_time"):
        assert not status.HasField(field)


async def test_a_chain_and_deleted_keys(service: Service) -> None:
    """The key in the middle counts as the old one; a key that is gone is not shown."""
    first = await make(service)
    with refused(PRECONDITION, "KEY_NOT_ROTATED") as refusal:
        await service.admin.GetRotationStatus(key_id=first.key.key_id)
    assert refusal.info.metadata["key_id"] == first.key.key_id
    second = await rotate(service, first, wait=None, grace_period=Duration())
    third = await rotate(service, second, wait=None, grace_period=Duration())
    status = await service.admin.GetRotationStatus(key_id=second.key.key_id)
    assert (status.old_key.key_id, status.new_key.key_id) == (second.key.key_id, third.key.key_id)
    await service.admin.DeleteKey(key_id=second.key.key_id)
    status = await service.admin.GetRotationStatus(key_id=third.key.key_id)
    assert (status.old_key.key_id, status.new_key.key_id) == ("", third.key.key_id)
    status = await service.admin.GetRotationStatus(key_id=first.key.key_id)
    assert (status.old_key.key_id, status.new_key.key_id) == (first.key.key_id, "")


async def test_a_grace_period_ends_by_itself(service: Service, clock: Clock) -> None:
    """When the old key was unused for long enough, and uses had the time to be written; not before."""
    old = await make(service)
    new = await rotate(service, old)
    await service.admin.VerifyKey(key_string=new.key_string)
    clock.advance(minutes=30)
    await service.admin.VerifyKey(key_string=old.key_string)
    await service.flush()
    status = await service.admin.GetRotationStatus(key_id=old.key.key_id)
    assert status.end_grace_when_unused_for.ToTimedelta() == HOUR
    due = clock.now + HOUR + MARGIN
    assert status.earliest_grace_end_time.ToDatetime(UTC) == due
    assert not await ends(service, clock, seconds=(due - clock.now - SECOND).total_seconds())
    assert await code_of(service, old.key_string) == "VALID"  # which is another use
    due = clock.now + HOUR + MARGIN
    assert not await ends(service, clock, seconds=(due - clock.now - 61 * SECOND).total_seconds())
    assert await ends(service, clock, seconds=61)
    assert await code_of(service, old.key_string) == "REVOKED"
    assert await code_of(service, new.key_string) == "VALID"
    key = await service.admin.GetKey(key_id=old.key.key_id)
    assert (key.revoker_id, key.revoke_reason) == ("rotation", "rotated, and not used for 1:00:00")
    events = (await service.admin.ListAuditEvents(owner_id="acme")).events
    assert (events[0].action, events[0].target_id) == (audit_pb.AUDIT_ACTION_KEY_REVOKED, old.key.key_id)
    assert (events[0].actor_id, events[0].details["reason"]) == ("rotation", key.revoke_reason)
    status = await service.admin.GetRotationStatus(key_id=old.key.key_id)
    for field in ("end_grace_when_unused_for", "earliest_grace_end_time"):
        assert not status.HasField(field)
    assert not await ends(service, clock, days=1)


@pytest.mark.parametrize(
    "obstacle", ["unused", "revoked", "disabled", "expired", "moved", "not asked", "replaced"]
)
async def test_what_keeps_a_grace_period(service: Service, clock: Clock, obstacle: str) -> None:
    """A successor that was not used or does not work, and another revocation of the old key."""
    old = await make(service)
    new = await rotate(service, old, wait=None if obstacle == "not asked" else HOUR)
    new_id = new.key.key_id
    if obstacle != "unused":
        await service.admin.VerifyKey(key_string=new.key_string)
        await service.flush()
    match obstacle:
        case "revoked":
            await service.admin.RevokeKey(key_id=new_id)
        case "disabled":
            await service.admin.DisableKey(key_id=new_id)
        case "expired":
            await service.admin.UpdateKey(
                key={"key_id": new_id, "expire_time": clock.now + HOUR},
                update_mask={"paths": ["expire_time"]},
            )
        case "moved":
            await service.admin.RevokeKey(key_id=old.key.key_id, revoke_in=3 * DAY, reason="mine")
        case "replaced":
            await rotate(service, new, wait=None, grace_period=Duration())
    status = await service.admin.GetRotationStatus(key_id=old.key.key_id)
    assert not await ends(service, clock, days=2)
    assert await code_of(service, old.key_string) == "VALID"
    status = await service.admin.GetRotationStatus(key_id=old.key.key_id)
    assert not status.HasField("earliest_grace_end_time")
    assert status.HasField("end_grace_when_unused_for") is (obstacle not in ("moved", "not asked"))


async def test_a_use_that_is_written_late(service: Service, clock: Clock, database_url: str) -> None:
    """A worker that is cut off for the length of the lease does not make a used key look unused."""
    old = await make(service)
    new = await rotate(service, old)
    await service.admin.VerifyKey(key_string=new.key_string)
    await service.flush()
    async with serving(database_url, clock) as cut_off:
        clock.advance(seconds=(HOUR - SECOND).total_seconds())
        client = cut_off.as_caller(service.admin_key)
        assert (await client.VerifyKey(key_string=old.key_string)).valid
        assert not await ends(service, clock, seconds=2)
        clock.advance(seconds=(MARGIN - 62 * SECOND).total_seconds())
        assert not await ends(service, clock)
        await cut_off.flush()
        assert not await ends(service, clock, seconds=60)
        assert await code_of(service, old.key_string) == "VALID"


async def test_one_of_all_workers_ends_it(service: Service, clock: Clock, database_url: str) -> None:
    """Three workers that look at the same time revoke each key once."""
    keys = [await make(service) for _ in range(5)]
    for old in keys:
        new = await rotate(service, old)
        await service.admin.VerifyKey(key_string=new.key_string)
    await service.flush()
    clock.advance(hours=2)
    async with serving(database_url, clock) as second, serving(database_url, clock) as third:
        workers = [each.app.grace_ends for each in (service, second, third)]
        await asyncio.gather(*(worker.step() for worker in workers))
        await asyncio.gather(*(worker.end(old.key.key_id) for worker in workers for old in keys))
        assert sum(worker.ended for worker in workers) == 5
        for old in keys:
            client = third.as_caller(service.admin_key)
            assert not (await client.VerifyKey(key_string=old.key_string)).valid
    events = (await service.admin.ListAuditEvents(owner_id="acme")).events
    revoked = [e.target_id for e in events if e.action == audit_pb.AUDIT_ACTION_KEY_REVOKED]
    assert sorted(revoked) == sorted(old.key.key_id for old in keys)


async def test_a_walk_has_batches(service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one batch does not look at, the next one does."""
    monkeypatch.setattr("authsvc.keys.grace_ends._BATCH", 2)
    keys = [await make(service) for _ in range(5)]
    for old in keys:
        new = await rotate(service, old)
        await service.admin.VerifyKey(key_string=new.key_string)
    await service.flush()
    clock.advance(hours=2)
    job = service.app.grace_ends
    assert [await job.step() for _ in range(3)] == [True, True, False]
    assert job.ended == 5
    assert not await job.step()  # not due


async def test_the_last_administrator_key(service: Service, clock: Clock) -> None:
    """It is left to the end of the grace period, if its successor may not last."""
    admin = await service.admin.LookupKey(key_string=service.admin_key)
    made = await service.admin.RotateKey(
        key_id=admin.key_id, grace_period=7 * DAY, end_grace_when_unused_for=HOUR
    )
    new = service.as_caller(made.key_string)
    await new.RevokeKey(key_id=made.key.key_id, revoke_in=8 * DAY, allow_last_administrator=True)
    await service.flush()
    clock.advance(days=1)
    await service.app.grace_ends.step()
    assert service.app.grace_ends.ended == 0
    assert (await new.GetKey(key_id=admin.key_id)).state == 1


async def test_a_wait_that_makes_no_sense(service: Service) -> None:
    old = await make(service)
    for wait, grace in ((HOUR, timedelta()), (HOUR, HOUR - SECOND), (299 * SECOND, DAY), (-HOUR, DAY)):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await rotate(service, old, wait=wait, grace_period=grace)
        assert set(refusal.fields) == {"end_grace_when_unused_for"}
    await rotate(service, old, wait=HOUR, grace_period=HOUR)
