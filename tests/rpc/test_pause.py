"""DisableKey and EnableKey."""

from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1 import audit_service_pb2, resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_revoke import code_of, make

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
DENIED = grpc.StatusCode.PERMISSION_DENIED
DISABLED = resources_pb2.KEY_STATE_DISABLED


def at(clock: Clock, **after: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(clock.now + timedelta(**after))
    return moment


async def test_a_disabled_key_is_refused_from_the_answer_on_until_it_is_enabled(
    service: Service, clock: Clock
) -> None:
    made = await make(service)
    key_id = made.key.key_id
    assert await code_of(service, made.key_string) == "VALID"
    disabled = await service.admin.DisableKey(key_id=key_id, reason="audit")
    assert await code_of(service, made.key_string) == "DISABLED"
    assert disabled.state == DISABLED
    assert disabled.disable_time.ToDatetime(tzinfo=UTC) == clock.now
    assert (disabled.disable_reason, disabled.disabler_id) == ("audit", made.key.creator_id)
    assert disabled.disabled_by_platform
    assert not disabled.HasField("disabled_until")
    assert disabled.etag != made.key.etag
    assert await service.admin.GetKey(key_id=key_id) == disabled

    clock.advance(days=1)
    enabled = await service.admin.EnableKey(key_id=key_id, reason="all is well")
    assert await code_of(service, made.key_string) == "VALID"
    assert enabled.state == resources_pb2.KEY_STATE_ACTIVE
    for field in ("disable_time", "disabled_until"):
        assert not enabled.HasField(field)
    assert (enabled.disable_reason, enabled.disabler_id, enabled.disabled_by_platform) == ("", "", False)
    page = await service.admin.ListAuditEvents(owner_id="acme")
    told = [(event.action, dict(event.details)) for event in page.events][:2]
    assert told == [
        (audit_service_pb2.AUDIT_ACTION_KEY_ENABLED, {"reason": "all is well"}),
        (audit_service_pb2.AUDIT_ACTION_KEY_DISABLED, {"reason": "audit"}),
    ]


async def test_a_pause_ends_by_itself(service: Service, clock: Clock) -> None:
    """At its time and not before, warm or cold; then nothing of it is shown."""
    made = await make(service)
    await service.admin.DisableKey(key_id=made.key.key_id, disabled_until=at(clock, hours=1))
    clock.advance(minutes=59, seconds=59)
    assert await code_of(service, made.key_string) == "DISABLED"
    assert (await service.admin.GetKey(key_id=made.key.key_id)).state == DISABLED
    clock.advance(seconds=1)
    assert await code_of(service, made.key_string) == "VALID"
    shown = await service.admin.GetKey(key_id=made.key.key_id)
    assert shown.state == resources_pb2.KEY_STATE_ACTIVE
    assert not shown.HasField("disable_time")


async def test_a_second_call_changes_the_end_and_the_reason(service: Service, clock: Clock) -> None:
    """The same call again changes nothing and records nothing."""
    made = await make(service)
    asked: dict[str, Any] = {"key_id": made.key.key_id, "disabled_until": at(clock, hours=2), "reason": "a"}
    first = await service.admin.DisableKey(**asked)
    assert await service.admin.DisableKey(**asked) == first
    later = await service.admin.DisableKey(key_id=made.key.key_id, reason="b")
    assert (later.disable_reason, later.HasField("disabled_until")) == ("b", False)
    page = await service.admin.ListAuditEvents(
        owner_id="acme", filter={"actions": [audit_service_pb2.AUDIT_ACTION_KEY_DISABLED]}
    )
    assert len(page.events) == 2


async def test_enabling_what_is_not_disabled_changes_nothing(service: Service) -> None:
    made = await make(service)
    assert (await service.admin.EnableKey(key_id=made.key.key_id)).etag == made.key.etag


@pytest.mark.parametrize("ended", ["revoked", "expired"])
async def test_what_is_over_is_neither_disabled_nor_enabled(
    service: Service, clock: Clock, ended: str
) -> None:
    """A pause ends no sooner than the key, and does not bring it back."""
    fields: dict[str, Any] = {"expire_time": at(clock, hours=1)} if ended == "expired" else {}
    made = await make(service, **fields)
    key_id = made.key.key_id
    await service.admin.DisableKey(key_id=key_id, disabled_until=at(clock, hours=2))
    if ended == "revoked":
        await service.admin.RevokeKey(key_id=key_id)
    clock.advance(hours=1)
    reason = "KEY_ALREADY_REVOKED" if ended == "revoked" else "KEY_EXPIRED"
    for method in (service.admin.DisableKey, service.admin.EnableKey):
        with refused(PRECONDITION, reason):
            await method(key_id=key_id)
    assert await code_of(service, made.key_string) == ended.upper()
    clock.advance(hours=2)
    assert await code_of(service, made.key_string) == ended.upper()


async def test_an_expired_key_that_is_extended_stays_disabled(service: Service, clock: Clock) -> None:
    made = await make(service, expire_time=at(clock, hours=1))
    await service.admin.DisableKey(key_id=made.key.key_id)
    clock.advance(hours=2)
    key = resources_pb2.Key(key_id=made.key.key_id, expire_time=at(clock, hours=1))
    changed = await service.admin.UpdateKey(key=key, update_mask=FieldMask(paths=["expire_time"]))
    assert changed.state == DISABLED
    assert await code_of(service, made.key_string) == "DISABLED"


async def test_a_disabled_key_counts_and_is_not_rotated(service: Service) -> None:  # rule 5
    made = await make(service)
    await set_policy(service, max_active_keys=1)
    await service.admin.DisableKey(key_id=made.key.key_id)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await make(service)
    with refused(PRECONDITION, "KEY_DISABLED"):
        await service.admin.RotateKey(key_id=made.key.key_id)


async def test_a_disabled_key_is_in_lists_by_its_state(service: Service, clock: Clock) -> None:
    """Also when its pause is over, and in the order of expiry."""
    kept, paused = await make(service), await make(service)
    await service.admin.DisableKey(key_id=paused.key.key_id, disabled_until=at(clock, hours=1))

    async def listed(state: "resources_pb2.KeyState.ValueType", order_by: str = "") -> list[str]:
        page = await service.admin.ListKeys(
            owner_id="acme", filter={"states": [state]}, order_by=order_by, include_total_size=True
        )
        assert page.total_size == len(page.keys)
        return [key.key_id for key in page.keys]

    for order_by in ("", "expire_time", "last_use_time desc"):
        assert await listed(DISABLED, order_by) == [paused.key.key_id]
        assert await listed(resources_pb2.KEY_STATE_ACTIVE, order_by) == [kept.key.key_id]
    clock.advance(hours=1)
    assert await listed(DISABLED) == []
    assert len(await listed(resources_pb2.KEY_STATE_ACTIVE)) == 2


async def test_an_owner_ends_no_pause_of_the_platform(service: Service, clock: Clock) -> None:
    """It does not shorten or replace it either. Its own pauses are its own matter, and the platform's."""
    manager = service.as_caller((await make(service, scopes=["keys:write"])).key_string)
    made = await make(service)
    key_id = made.key.key_id
    await service.admin.DisableKey(key_id=key_id, reason="abuse")
    for method in (manager.EnableKey, manager.DisableKey):
        with refused(DENIED, "DISABLED_BY_PLATFORM"):
            await method(key_id=key_id)
    with refused(DENIED, "DISABLED_BY_PLATFORM"):
        await manager.DisableKey(key_id=key_id, disabled_until=at(clock, seconds=1))
    await service.admin.EnableKey(key_id=key_id)
    own = await manager.DisableKey(key_id=key_id)
    assert not own.disabled_by_platform
    await manager.EnableKey(key_id=key_id)
    await manager.DisableKey(key_id=key_id)
    await service.admin.EnableKey(key_id=key_id)
    assert await code_of(service, made.key_string) == "VALID"


async def test_what_the_owner_has_disabled_for_longer_stays_disabled(service: Service, clock: Clock) -> None:
    """The platform may take the pause over, and may not shorten it by that; its own it may shorten."""
    manager = service.as_caller((await make(service, scopes=["keys:write"])).key_string)
    made = await make(service)
    key_id = made.key.key_id
    await manager.DisableKey(key_id=key_id, reason="leaked?")
    for _ in range(2):  # A repetition does not end the pause earlier either.
        with refused(PRECONDITION, "DISABLED_BY_OWNER_FOR_LONGER"):
            await service.admin.DisableKey(key_id=key_id, disabled_until=at(clock, hours=2), reason="audit")
    taken = await service.admin.DisableKey(key_id=key_id, reason="audit")
    assert (taken.disable_reason, taken.disabled_by_platform) == ("audit", True)
    assert not taken.HasField("disabled_until")
    shortened = await service.admin.DisableKey(key_id=key_id, disabled_until=at(clock, hours=2))
    assert shortened.HasField("disabled_until")


async def test_only_who_has_the_scopes_of_a_key_lets_it_work_again(service: Service, clock: Clock) -> None:
    """Whoever may manage keys may disable it, and may not enable it, or end the pause sooner."""
    manager = service.as_caller((await make(service, scopes=["keys:write"])).key_string)
    made = await make(service, scopes=["orders:write"])
    key_id = made.key.key_id
    await manager.DisableKey(key_id=key_id, disabled_until=at(clock, hours=2))
    await manager.DisableKey(key_id=key_id, disabled_until=at(clock, hours=3))
    with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
        await manager.DisableKey(key_id=key_id, disabled_until=at(clock, hours=1))
    with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
        await manager.EnableKey(key_id=key_id)
    assert await code_of(service, made.key_string) == "DISABLED"


async def test_the_last_administrator_is_not_disabled_by_accident(service: Service) -> None:
    page = await service.admin.ListKeys(owner_id="authsvc")
    [admin] = page.keys
    with refused(PRECONDITION, "LAST_ADMINISTRATOR_KEY"):
        await service.admin.DisableKey(key_id=admin.key_id)
    other = await make(service, owner_id="authsvc", scopes=["full_access"])
    await service.admin.VerifyKey(key_string=other.key_string)
    await service.admin.DisableKey(key_id=other.key.key_id)
    # A disabled administrator is none.
    with refused(PRECONDITION, "LAST_ADMINISTRATOR_KEY"):
        await service.admin.RevokeKey(key_id=admin.key_id)
    await service.admin.DisableKey(key_id=admin.key_id, allow_last_administrator=True)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_DISABLED"):
        await service.admin.EnableKey(key_id=admin.key_id)


async def test_bad_input(service: Service, clock: Clock) -> None:
    made = await make(service)
    for until in (at(clock), at(clock, seconds=-1)):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            await service.admin.DisableKey(key_id=made.key.key_id, disabled_until=until)
        assert "leave it unset" in refusal.fields["disabled_until"]
    assert await code_of(service, made.key_string) == "VALID"


async def test_only_the_right_secret_is_told(service: Service) -> None:  # rule 21
    made = await make(service)
    await service.admin.DisableKey(key_id=made.key.key_id)
    wrong = made.key_string[:-1] + ("a" if made.key_string[-1] != "a" else "b")
    assert await code_of(service, wrong) == "NOT_FOUND"
