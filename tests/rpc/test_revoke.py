"""RevokeKey, BatchRevokeKeys, DeleteKey, BatchDeleteKeys."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND
REVOKED = resources_pb2.KEY_STATE_REVOKED


async def make(service: Service, owner_id: str = "acme", **fields: Any) -> Any:
    return await service.admin.CreateKey(owner_id=owner_id, display_name="x", **fields)


async def code_of(service: Service, key_string: str) -> str:
    verdict = await service.admin.VerifyKey(key_string=key_string)
    return resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")


async def test_a_revoked_key_is_refused_from_the_answer_on(service: Service, clock: Clock) -> None:
    """Warm or cold, the next verification returns REVOKED; revoker, time and reason are kept."""
    made = await make(service)
    assert await code_of(service, made.key_string) == "VALID"
    revoked = await service.admin.RevokeKey(key_id=made.key.key_id, reason="leaked")
    assert await code_of(service, made.key_string) == "REVOKED"
    assert revoked.state == REVOKED
    assert revoked.revoke_time.ToDatetime(tzinfo=UTC) == clock.now
    assert revoked.revoke_reason == "leaked"
    assert revoked.revoker_id == made.key.creator_id


async def test_revoke_is_final(service: Service) -> None:  # rule 16
    """No other revocation, update or rotation makes the key valid again, and time does not either."""
    made = await make(service)
    await service.admin.RevokeKey(key_id=made.key.key_id)
    key = resources_pb2.Key(key_id=made.key.key_id, display_name="y")
    with refused(PRECONDITION, "KEY_ALREADY_REVOKED"):
        await service.admin.RevokeKey(key_id=made.key.key_id, revoke_in=Duration(seconds=60))
    with refused(PRECONDITION, "KEY_ALREADY_REVOKED"):
        await service.admin.UpdateKey(key=key, update_mask=FieldMask(paths=["display_name", "expire_time"]))
    with refused(PRECONDITION, "KEY_ALREADY_REVOKED"):
        await service.admin.RotateKey(key_id=made.key.key_id, grace_period=Duration(seconds=60))
    assert await code_of(service, made.key_string) == "REVOKED"


async def test_revoking_twice_keeps_the_first_stamp(service: Service, clock: Clock) -> None:  # rule 17
    """The second call fails with a clear reason; the time and the reason of the first one stay."""
    made = await make(service)
    first = await service.admin.RevokeKey(key_id=made.key.key_id, reason="first")
    clock.advance(hours=1)
    with refused(PRECONDITION, "KEY_ALREADY_REVOKED") as refusal:
        await service.admin.RevokeKey(key_id=made.key.key_id, reason="second")
    assert "already revoked at 2026-11-21T12:00:00" in refusal.message
    assert await service.admin.GetKey(key_id=made.key.key_id) == first


async def test_a_scheduled_revocation(service: Service, clock: Clock) -> None:  # rule 14
    """Until then the key is valid and ACTIVE, shows its revoke_time, and cannot be deleted."""
    made = await make(service)
    key = await service.admin.RevokeKey(key_id=made.key.key_id, revoke_in=Duration(seconds=3600))
    assert key.state == resources_pb2.KEY_STATE_ACTIVE
    assert key.revoke_time.ToDatetime(tzinfo=UTC) == clock.now + timedelta(hours=1)
    assert await code_of(service, made.key_string) == "VALID"
    with refused(PRECONDITION, "KEY_NOT_REVOKED"):
        await service.admin.DeleteKey(key_id=made.key.key_id)
    clock.advance(seconds=3600, microseconds=-1)
    assert await code_of(service, made.key_string) == "VALID"
    clock.advance(microseconds=1)
    assert await code_of(service, made.key_string) == "REVOKED"
    assert (await service.admin.GetKey(key_id=made.key.key_id)).state == REVOKED
    await service.admin.DeleteKey(key_id=made.key.key_id)


async def test_a_scheduled_revocation_can_be_moved(service: Service, clock: Clock) -> None:  # rule 17
    """To later or to now, as long as it has not taken effect, also for a warm key."""
    made = await make(service)
    await service.admin.RevokeKey(key_id=made.key.key_id, revoke_in=Duration(seconds=60))
    assert await code_of(service, made.key_string) == "VALID"
    await service.admin.RevokeKey(key_id=made.key.key_id, revoke_in=Duration(seconds=7200))
    clock.advance(seconds=61)
    assert await code_of(service, made.key_string) == "VALID"
    await service.admin.RevokeKey(key_id=made.key.key_id)
    assert await code_of(service, made.key_string) == "REVOKED"


async def test_an_expired_key_can_be_revoked(service: Service, clock: Clock) -> None:  # rule 12
    """It then shows REVOKED, not EXPIRED."""
    made = await make(service, ttl=Duration(seconds=60))
    clock.advance(seconds=60)
    expired = await service.admin.GetKey(key_id=made.key.key_id)
    assert expired.state == resources_pb2.KEY_STATE_EXPIRED
    assert (await service.admin.RevokeKey(key_id=made.key.key_id)).state == REVOKED
    assert await code_of(service, made.key_string) == "REVOKED"


async def test_an_error_about_one_key_names_it_alike(service: Service) -> None:
    """As `key_id` in every RPC; those that take several also list all of them as `key_ids`."""
    alive, admin = (await make(service)).key.key_id, service.admin
    calls: list[tuple[str, str, Callable[[], Awaitable[Any]]]] = [
        ("key_x", "KEY_NOT_FOUND", lambda: admin.GetKey(key_id="key_x")),
        ("key_x", "KEY_NOT_FOUND", lambda: admin.RevokeKey(key_id="key_x")),
        ("key_x", "KEY_NOT_FOUND", lambda: admin.RotateKey(key_id="key_x")),
        ("key_x", "KEY_NOT_FOUND", lambda: admin.DeleteKey(key_id="key_x")),
        ("key_x", "KEY_NOT_FOUND", lambda: admin.BatchRevokeKeys(key_ids=["key_x", alive])),
        ("key_x", "KEY_NOT_FOUND", lambda: admin.BatchDeleteKeys(key_ids=[alive, "key_x"])),
        (
            "key_x",
            "KEY_NOT_FOUND",
            lambda: admin.UpdateKey(
                key={"key_id": "key_x", "display_name": "x"}, update_mask={"paths": ["display_name"]}
            ),
        ),
        (alive, "KEY_NOT_REVOKED", lambda: admin.DeleteKey(key_id=alive)),
        (alive, "KEY_NOT_REVOKED", lambda: admin.BatchDeleteKeys(key_ids=[alive])),
    ]
    for key_id, reason, call in calls:
        code = NOT_FOUND if reason == "KEY_NOT_FOUND" else PRECONDITION
        with refused(code, reason) as refusal:
            await call()
        assert refusal.info.metadata["key_id"] == key_id


async def test_delete_only_after_revoke(service: Service) -> None:  # rule 18
    """An active key cannot be deleted; a revoked one can, and no RPC finds it afterwards."""
    made = await make(service)
    with refused(PRECONDITION, "KEY_NOT_REVOKED") as refusal:
        await service.admin.DeleteKey(key_id=made.key.key_id)
    assert "revoke first" in refusal.message
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)
    assert await code_of(service, made.key_string) == "NOT_FOUND"
    assert not (await service.admin.ListKeys(owner_id="acme")).keys
    for call in (service.admin.GetKey, service.admin.DeleteKey, service.admin.RevokeKey):
        with refused(NOT_FOUND, "KEY_NOT_FOUND"):
            await call(key_id=made.key.key_id)


async def test_an_expired_key_cannot_be_deleted(service: Service, clock: Clock) -> None:  # rule 18
    """Its expiry can still be moved, so only a revoked key can be deleted."""
    made = await make(service, ttl=Duration(seconds=60))
    clock.advance(seconds=61)
    with refused(PRECONDITION, "KEY_NOT_REVOKED"):
        await service.admin.DeleteKey(key_id=made.key.key_id)


async def test_a_batch_is_deleted_whole_or_not_at_all(service: Service) -> None:  # rule 18
    """If any key is not revoked, the batch is refused, and each such key is named."""
    keys = [(await make(service)).key.key_id for _ in range(4)]
    await service.admin.BatchRevokeKeys(key_ids=keys[:2])
    with refused(PRECONDITION, "KEY_NOT_REVOKED") as refusal:
        await service.admin.BatchDeleteKeys(key_ids=keys)
    assert refusal.info.metadata["key_ids"].split(",") == keys[2:]
    assert len((await service.admin.ListKeys(owner_id="acme")).keys) == 4
    with refused(NOT_FOUND, "KEY_NOT_FOUND") as refusal:
        await service.admin.BatchDeleteKeys(key_ids=[*keys[:2], "key_unknown"])
    assert refusal.info.metadata["key_ids"] == "key_unknown"
    await service.admin.BatchDeleteKeys(key_ids=keys[:2])
    assert {k.key_id for k in (await service.admin.ListKeys(owner_id="acme")).keys} == set(keys[2:])


async def test_a_full_batch_names_every_id(service: Service) -> None:  # rule 18
    """A hundred ids fit into the error."""
    keys = [(await make(service)).key.key_id for _ in range(100)]
    with refused(PRECONDITION, "KEY_NOT_REVOKED") as refusal:
        await service.admin.BatchDeleteKeys(key_ids=keys)
    assert refusal.info.metadata["key_ids"].split(",") == keys


async def test_ids_that_are_too_long_for_an_error(service: Service) -> None:
    """A hundred unknown ids of the greatest length are still NOT_FOUND, not an error too large to send."""
    with refused(NOT_FOUND, "KEY_NOT_FOUND") as refusal:
        await service.admin.BatchDeleteKeys(key_ids=[f"{n:064}" for n in range(100)])
    assert "and 95 more" in refusal.message


async def test_a_batch_of_revocations(service: Service, clock: Clock) -> None:
    """All named keys are revoked at once; keys revoked before keep their timestamp and are not counted."""
    made = [await make(service) for _ in range(3)]
    early = await service.admin.RevokeKey(key_id=made[1].key.key_id, reason="early")
    clock.advance(hours=1)
    answer = await service.admin.BatchRevokeKeys(key_ids=[m.key.key_id for m in made], reason="leak")
    assert [k.key_id for k in answer.keys] == [m.key.key_id for m in made]
    assert [k.revoke_reason for k in answer.keys] == ["leak", "early", "leak"]
    assert answer.keys[1] == early
    assert answer.revoked_count == 2
    assert [await code_of(service, m.key_string) for m in made] == ["REVOKED"] * 3


async def test_an_unknown_id_refuses_a_batch_of_revocations(service: Service) -> None:
    """Nothing is revoked, and the id is named."""
    made = await make(service)
    with refused(NOT_FOUND, "KEY_NOT_FOUND") as refusal:
        await service.admin.BatchRevokeKeys(key_ids=[made.key.key_id, "key_unknown"])
    assert refusal.info.metadata["key_ids"] == "key_unknown"
    assert await code_of(service, made.key_string) == "VALID"


async def test_all_keys_of_an_owner(service: Service) -> None:
    """Every key of the owner is revoked, other owners' keys are not, and the answer has the count."""
    mine = [await make(service) for _ in range(3)]
    other = await make(service, "globex")
    for each in (*mine, other):
        assert await code_of(service, each.key_string) == "VALID"
    await service.admin.RevokeKey(key_id=mine[0].key.key_id, revoke_in=Duration(seconds=60))
    answer = await service.admin.BatchRevokeKeys(owner_id="acme", reason="left")
    assert answer.revoked_count == 3
    assert {k.key_id for k in answer.keys} == {m.key.key_id for m in mine}
    assert [await code_of(service, m.key_string) for m in mine] == ["REVOKED"] * 3
    assert await code_of(service, other.key_string) == "VALID"


async def test_an_owners_keys_and_keys_being_made(service: Service) -> None:
    """A key created while all keys of an owner are revoked is either revoked, or was returned afterwards."""
    first = await make(service)
    rotations = [make(service) for _ in range(20)]
    answers = await asyncio.gather(*rotations, service.admin.BatchRevokeKeys(owner_id="acme"))
    revoked = answers[-1].revoked_count
    alive = [a for a in answers[:-1] if await code_of(service, a.key_string) == "VALID"]
    assert len(alive) + revoked == 21
    assert await code_of(service, first.key_string) == "REVOKED"


async def test_either_ids_or_an_owner(service: Service) -> None:
    """Neither or both are refused."""
    for fields in ({}, {"owner_id": "acme", "key_ids": ["key_1"]}):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.BatchRevokeKeys(**fields)
        assert "exactly one of key_ids and owner_id" in refusal.message


async def test_expiry_needs_no_job(service: Service, clock: Clock) -> None:  # rule 13
    """It is refused from that exact instant, also when it is warm."""
    moment = Timestamp()
    moment.FromDatetime(clock.now + timedelta(days=1))
    made = await make(service, expire_time=moment)
    assert await code_of(service, made.key_string) == "VALID"
    clock.advance(days=1, microseconds=-1)
    assert await code_of(service, made.key_string) == "VALID"
    clock.advance(microseconds=1)
    assert await code_of(service, made.key_string) == "EXPIRED"


async def test_two_revocations_at_once(service: Service) -> None:
    """One succeeds; the others fail, because the key is already revoked."""
    made = await make(service)
    answers = await asyncio.gather(
        *(service.admin.RevokeKey(key_id=made.key.key_id, reason=str(n)) for n in range(10)),
        return_exceptions=True,
    )
    won = [a for a in answers if not isinstance(a, BaseException)]
    assert len(won) == 1
    assert await service.admin.GetKey(key_id=made.key.key_id) == won[0]
