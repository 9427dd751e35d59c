"""UpdateKey."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.store import publication
from authsvc.store.pool import Database
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def update(service: Service, key_id: str, *paths: str, **fields: Any) -> Any:
    key = resources_pb2.Key(key_id=key_id, **fields)
    return await service.admin.UpdateKey(key=key, update_mask=FieldMask(paths=paths))


async def make(service: Service, **fields: Any) -> Any:
    return await service.admin.CreateKey(
        owner_id="acme", display_name="Orders", scopes=["orders:read", "orders:write"], **fields
    )


async def test_what_may_be_edited(service: Service, clock: Clock) -> None:  # rule 8
    """Name, description, contacts, scopes, expiry and annotations can change; nothing else does."""
    made = await make(service)
    clock.advance(hours=1)
    expiry = Timestamp()
    expiry.FromDatetime(clock.now + timedelta(days=1))
    wanted: dict[str, Any] = {
        "display_name": "Orders 2",
        "description": "new",
        "technical_contacts": [resources_pb2.TechnicalContact(name="Ada", email="ada@example.org")],
        "scopes": ["orders:read"],
        "expire_time": expiry,
        "annotations": {"a": "b"},
        "allowed_networks": ["192.0.2.0/24"],
    }
    changed = await update(service, made.key.key_id, *wanted, **wanted)
    expected = resources_pb2.Key()
    expected.CopyFrom(made.key)
    for name in wanted:
        expected.ClearField(name)  # type: ignore[arg-type]
    expected.MergeFrom(resources_pb2.Key(**wanted))
    expected.update_time.FromDatetime(clock.now)
    expected.etag = changed.etag
    assert changed == expected
    assert changed.etag != made.key.etag
    assert await service.admin.GetKey(key_id=made.key.key_id) == changed


async def test_only_what_the_mask_names_changes(service: Service) -> None:
    """Other fields of the message are ignored."""
    made = await make(service, description="old")
    changed = await update(service, made.key.key_id, "display_name", display_name="new", description="x")
    assert (changed.display_name, changed.description) == ("new", "old")


async def test_a_star_means_all_that_can_be_changed(service: Service) -> None:
    """Fields that the message does not set are then cleared."""
    made = await make(service, description="old", ttl=Duration(seconds=60))
    changed = await update(service, made.key.key_id, "*", display_name="new")
    assert (changed.display_name, changed.description, list(changed.scopes)) == ("new", "", [])
    assert not changed.HasField("expire_time")


@pytest.mark.parametrize(
    "path",
    [
        "key_id",
        "owner_id",
        "key_prefix",
        "state",
        "create_time",
        "creator_id",
        "update_time",
        "revoke_time",
        "revoker_id",
        "revoke_reason",
        "last_use_time",
        "last_use_ip",
        "rotated_to_key_id",
        "etag",
    ],
)
async def test_output_only_fields_are_refused(service: Service, path: str) -> None:  # rule 8
    """The error names them, and nothing changes, not even other fields in the mask."""
    made = await make(service)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await update(service, made.key.key_id, "display_name", path, display_name="new")
    assert f"{path} cannot be changed" in refusal.fields["update_mask"]
    assert await service.admin.GetKey(key_id=made.key.key_id) == made.key


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ([], "is empty; name the fields to change"),
        (["colour"], "colour is not a field of Key"),
        (["*", "display_name"], "must be the only path"),
        (["display_name", "display_name"], "is listed twice"),
        (["annotations.team"], "use the path annotations and send the whole field"),
        ([""], "is not a field of Key"),
    ],
)
async def test_masks_that_make_no_sense(service: Service, paths: list[str], told: str) -> None:
    """Empty, unknown, contradictory and too detailed masks: the error says what to do instead."""
    made = await make(service)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await update(service, made.key.key_id, *paths, display_name="new")
    assert told in refusal.fields["update_mask"]


async def test_a_name_cannot_be_taken_away(service: Service) -> None:  # rule 2
    """An update cannot remove the name of a key."""
    made = await make(service)
    for name in ("", "  "):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await update(service, made.key.key_id, "display_name", display_name=name)
        assert list(refusal.fields) == ["key.display_name"]


async def test_an_expiry_in_the_past_is_refused(service: Service, clock: Clock) -> None:  # rule 3
    """As in CreateKey."""
    made = await make(service)
    past = Timestamp()
    past.FromDatetime(clock.now)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await update(service, made.key.key_id, "expire_time", expire_time=past)
    assert "is in the past" in refusal.fields["key.expire_time"]


async def test_verification_learns_at_once(service: Service, clock: Clock) -> None:
    """Changed scopes, expiry and annotations apply once the call has returned, also for a warm key."""
    made = await make(service)
    ask = {"key_string": made.key_string, "required_scopes": ["orders:write"]}
    assert (await service.admin.VerifyKey(**ask)).valid
    await update(
        service, made.key.key_id, "scopes", "annotations", scopes=["orders:read"], annotations={"a": "1"}
    )
    verdict = await service.admin.VerifyKey(**ask)
    assert verdict.code == resources_pb2.VERDICT_CODE_INSUFFICIENT_SCOPE
    assert verdict.annotations == {"a": "1"}
    soon = Timestamp()
    soon.FromDatetime(clock.now + timedelta(seconds=5))
    await update(service, made.key.key_id, "expire_time", expire_time=soon)
    clock.advance(seconds=5)
    verdict = await service.admin.VerifyKey(key_string=made.key_string)
    assert verdict.code == resources_pb2.VERDICT_CODE_EXPIRED


async def test_an_expired_key_can_live_on(service: Service, clock: Clock) -> None:
    """Unlike a revocation, an expiry can be moved after it has passed."""
    made = await make(service, ttl=Duration(seconds=60))
    clock.advance(seconds=61)
    assert not (await service.admin.VerifyKey(key_string=made.key_string)).valid
    later = Timestamp()
    later.FromDatetime(clock.now + timedelta(days=1))
    changed = await update(service, made.key.key_id, "expire_time", expire_time=later)
    assert changed.expire_time.ToDatetime(tzinfo=UTC) == datetime(2026, 11, 22, 12, 1, 1, tzinfo=UTC)
    assert (await service.admin.VerifyKey(key_string=made.key_string)).valid


async def test_an_old_etag_is_refused(service: Service) -> None:
    """An update with an older etag gets ABORTED, and the newer version stays."""
    made = await make(service)
    await update(service, made.key.key_id, "display_name", display_name="first", etag=made.key.etag)
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
        await update(service, made.key.key_id, "display_name", display_name="second", etag=made.key.etag)
    assert (await service.admin.GetKey(key_id=made.key.key_id)).display_name == "first"


async def test_an_update_that_changes_nothing(service: Service, clock: Clock) -> None:
    """It does not change the key, its etag or the audit log, and is checked like any other."""
    expiry = Timestamp()
    expiry.FromDatetime(clock.now + timedelta(days=1))
    fields: dict[str, Any] = {
        "display_name": "Orders",
        "description": "all of them",
        "technical_contacts": [resources_pb2.TechnicalContact(name="Ada", email="ada@example.org")],
        "scopes": ["orders:write", "orders:read"],
        "expire_time": expiry,
        "annotations": {"b": "1", "a": "2"},
    }
    made = (await service.admin.CreateKey(owner_id="acme", **fields)).key
    clock.advance(hours=1)
    assert await update(service, made.key_id, "*", **fields, etag=made.etag) == made
    assert await service.admin.GetKey(key_id=made.key_id) == made
    assert len((await service.admin.ListAuditEvents(owner_id="acme")).events) == 1
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH") as refusal:
        await update(service, made.key_id, "display_name", display_name="Orders", etag="old")
    assert refusal.info.metadata["key_id"] == made.key_id
    reader = await service.admin.CreateKey(owner_id="acme", display_name="r", scopes=["keys:read"])
    with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
        await service.as_caller(reader.key_string).UpdateKey(
            key={"key_id": made.key_id, "display_name": "Orders"}, update_mask={"paths": ["display_name"]}
        )
    changed = await update(service, made.key_id, "display_name", display_name="Orders 2")
    assert changed.etag != made.etag


async def test_an_update_that_changes_nothing_waits_for_workers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier call with the same values may not have waited for all workers (R7)."""
    made = await make(service)
    published: list[Any] = []
    announce = publication.announce

    async def noted(database: Database, entries: Sequence[publication.NewEntry]) -> Any:
        published.extend(entry.key_prefixes for entry in entries)
        return await announce(database, entries)

    monkeypatch.setattr(publication, "announce", noted)
    await update(service, made.key.key_id, "scopes", scopes=["orders:read"])
    await update(service, made.key.key_id, "scopes", scopes=["orders:read"])
    assert published == [{made.key.key_prefix}] * 2


async def test_etags_in_a_race(service: Service) -> None:
    """Of many updates with the same etag, one succeeds."""
    made = await make(service)
    answers = await asyncio.gather(
        *(
            update(service, made.key.key_id, "display_name", display_name=f"n{n}", etag=made.key.etag)
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(a, BaseException) for a in answers) == 1


async def test_an_update_needs_a_key(service: Service) -> None:
    """No key, an empty id, an unknown id."""
    mask = FieldMask(paths=["display_name"])
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.UpdateKey(update_mask=mask)
    assert list(refusal.fields) == ["key"]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.UpdateKey(key=resources_pb2.Key(display_name="x"), update_mask=mask)
    assert list(refusal.fields) == ["key.key_id"]
    with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"):
        await update(service, "key_unknown", "display_name", display_name="x")
