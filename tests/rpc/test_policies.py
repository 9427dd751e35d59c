"""GetOwnerPolicy, UpdateOwnerPolicy."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.v1 import options_pb2, resources_pb2
from authsvc.v1 import owner_policy_service_pb2 as pb
from tests.conftest import Client, Clock, Service, serving
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import make

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DENIED = grpc.StatusCode.PERMISSION_DENIED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EVERYTHING: dict[str, Any] = {
    "keys_enabled": True,
    "max_active_keys": 3,
    "allowed_scopes": ["orders:read", "orders:write"],
    "max_key_lifetime": Duration(seconds=86400),
    "expiration_required": True,
    "contacts_required": True,
    "key_edits": pb.KEY_EDITS_DETAILS,
    "key_managers": pb.KEY_MANAGERS_SESSIONS_ONLY,
    "brand": "eg",
    "rotation_period": Duration(seconds=5184000),
    "allowed_networks": ["127.0.0.0/8"],
    "rate_limits": [resources_pb2.RateLimit(name="all", limit=1000, period=Duration(seconds=60))],
}


async def set_policy(
    service: Service, owner_id: str = "acme", *, client: Client | None = None, etag: str = "", **fields: Any
) -> Any:
    """Give an owner a policy with these fields; other fields do not change."""
    policy = pb.OwnerPolicy(owner_id=owner_id, etag=etag, **fields)
    return await (client or service.admin).UpdateOwnerPolicy(
        policy=policy, update_mask=FieldMask(paths=list(fields))
    )


@pytest_asyncio.fixture
async def strict(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    """A service whose default policy has every limit, and disables keys."""
    settings: dict[str, Any] = {
        f"default_{name}": value
        for name, value in EVERYTHING.items()
        if name not in ("brand", "allowed_networks", "rate_limits")
    }
    settings |= {
        "default_keys_enabled": False,
        "default_max_key_lifetime": timedelta(days=1),
        "default_rotation_period": timedelta(days=60),
        "default_key_edits": "details",
        "default_key_managers": "sessions_only",
        "default_allowed_scopes": "orders:write, orders:read",
    }
    async with serving(database_url, clock, **settings) as running:
        yield running


def test_the_scopes_that_it_needs() -> None:
    """Reading and writing policies are separate scopes."""
    service = pb.DESCRIPTOR.services_by_name["OwnerPolicyService"]
    scopes = {m.name: m.GetOptions().Extensions[options_pb2.required_scope] for m in service.methods}
    assert scopes == {"GetOwnerPolicy": "policies:read", "UpdateOwnerPolicy": "policies:write"}


async def test_an_owner_without_a_policy_has_the_default(service: Service) -> None:
    """Without settings there are no limits, and keys are due to be rotated after 90 days."""
    policy = await service.admin.GetOwnerPolicy(owner_id="acme")
    assert policy.etag
    assert policy == pb.OwnerPolicy(
        owner_id="acme",
        keys_enabled=True,
        key_edits=pb.KEY_EDITS_ALL,
        key_managers=pb.KEY_MANAGERS_ANY,
        rotation_period=Duration(seconds=90 * 86400),
        etag=policy.etag,
    )


async def test_the_operators_default(strict: Service) -> None:
    """The policy in the settings applies to every owner except the platform."""
    policy = await strict.admin.GetOwnerPolicy(owner_id="acme")
    expected = pb.OwnerPolicy(
        owner_id="acme",
        etag=policy.etag,
        **EVERYTHING | {"brand": "", "keys_enabled": False, "allowed_networks": [], "rate_limits": []},
    )
    assert policy == expected
    platform = await strict.admin.GetOwnerPolicy(owner_id="authsvc")
    assert (platform.keys_enabled, platform.max_active_keys) == (True, 0)
    assert platform.rotation_period == policy.rotation_period  # It limits nothing.
    assert (await strict.admin.CreateKey(owner_id="authsvc", display_name="x")).key_string
    with refused(PRECONDITION, "API_KEYS_NOT_ENABLED"):
        await make(strict)
    own = await set_policy(strict, keys_enabled=True)
    assert own.max_active_keys == 3
    with refused(PRECONDITION, "EXPIRATION_REQUIRED"):
        await make(strict)


async def test_the_default_switches_keys_off(database_url: str, clock: Clock) -> None:  # rule 7
    """Keys of owners without their own policy are DISABLED then; those of the platform are not."""
    async with serving(database_url, clock) as service:
        made = await make(service)
        session = await service.admin.CreateSession(owner_id="acme")
        admin_key = service.admin_key
    async with serving(database_url, clock, default_keys_enabled=False) as service:
        service.admin_key = admin_key
        answer = await service.admin.VerifyKey(key_string=made.key_string)
        assert (answer.valid, answer.code) == (False, resources_pb2.VERDICT_CODE_DISABLED)
        assert (await service.admin.VerifySession(session_token=session.session_token)).valid
        await set_policy(service, keys_enabled=True)
        assert (await service.admin.VerifyKey(key_string=made.key_string)).valid


async def test_every_field_is_kept(service: Service, clock: Clock) -> None:
    """The platform and the owner read what was set."""
    reader = await make(service, scopes=["policies:read"])
    clock.advance(hours=1)
    changed = await set_policy(service, **EVERYTHING)
    expected = pb.OwnerPolicy(owner_id="acme", etag=changed.etag, **EVERYTHING)
    expected.update_time.FromDatetime(clock.now)
    assert changed == expected
    assert changed.update_time.ToDatetime(tzinfo=UTC) == clock.now
    assert await service.admin.GetOwnerPolicy(owner_id="acme") == changed
    assert await service.as_caller(reader.key_string).GetOwnerPolicy(owner_id="acme") == changed
    other = await service.admin.GetOwnerPolicy(owner_id="globex")
    assert (other.max_active_keys, other.HasField("update_time")) == (0, False)


async def test_only_what_the_mask_names_changes(service: Service) -> None:
    """Other fields of the message are ignored; a star means all fields that can be changed."""
    await set_policy(service, **EVERYTHING)
    policy = pb.OwnerPolicy(owner_id="acme", max_active_keys=7, brand="other")
    changed = await service.admin.UpdateOwnerPolicy(
        policy=policy, update_mask=FieldMask(paths=["max_active_keys"])
    )
    assert (changed.max_active_keys, changed.brand, changed.keys_enabled) == (7, "eg", True)
    policy = pb.OwnerPolicy(owner_id="acme", key_edits=pb.KEY_EDITS_ALL, key_managers=pb.KEY_MANAGERS_ANY)
    changed = await service.admin.UpdateOwnerPolicy(policy=policy, update_mask=FieldMask(paths=["*"]))
    assert not changed.keys_enabled
    assert not changed.HasField("max_key_lifetime")
    assert not changed.HasField("rotation_period")
    assert (list(changed.allowed_scopes), changed.brand, changed.max_active_keys) == ([], "", 0)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ([], "is empty; name the fields to change"),
        (["colour"], "colour is not a field of OwnerPolicy"),
        (["*", "brand"], "must be the only path"),
        (["brand", "brand"], "is listed twice"),
        (["max_key_lifetime.seconds"], "use the path max_key_lifetime and send the whole field"),
        (["owner_id"], "owner_id cannot be changed"),
        (["update_time"], "update_time cannot be changed"),
        (["brand", "etag"], "etag cannot be changed"),
    ],
)
async def test_masks_that_make_no_sense(service: Service, paths: list[str], told: str) -> None:  # rule 8
    """The error says what to do instead, and nothing changes."""
    before = await service.admin.GetOwnerPolicy(owner_id="acme")
    policy = pb.OwnerPolicy(owner_id="acme", brand="eg")
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.UpdateOwnerPolicy(policy=policy, update_mask=FieldMask(paths=paths))
    assert told in refusal.fields["update_mask"]
    assert await service.admin.GetOwnerPolicy(owner_id="acme") == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_active_keys", -1),
        ("max_active_keys", 100_001),
        ("allowed_scopes", ["Orders"]),
        ("allowed_scopes", ["a", "a"]),
        ("allowed_scopes", [f"s{i}" for i in range(65)]),
        ("max_key_lifetime", Duration(seconds=-1)),
        ("max_key_lifetime", Duration(nanos=500)),
        ("max_key_lifetime", Duration(seconds=3155760001)),
        ("rotation_period", Duration(seconds=-1)),
        ("rotation_period", Duration(nanos=500)),
        ("rotation_period", Duration(seconds=3155760001)),
        ("key_edits", 0),
        ("key_edits", 9),
        ("key_managers", 0),
        ("brand", "Eg"),
        ("brand", "x" * 11),
    ],
)
async def test_values_that_make_no_sense(service: Service, field: str, value: object) -> None:
    """Each is refused with its path; half a second as a maximum lifetime would mean no limit."""
    fields: dict[str, Any] = {field: value}
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await set_policy(service, **fields)
    [path] = refusal.fields
    assert path.startswith(f"policy.{field}")


async def test_scopes_have_to_be_known(database_url: str, clock: Clock) -> None:  # rule 2
    """A scope that does not exist is an error."""
    async with serving(database_url, clock, scopes="orders:read") as service:
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await set_policy(service, allowed_scopes=["orders:red"])
        assert refusal.fields["policy.allowed_scopes"].endswith("did you mean orders:read?")
        await set_policy(service, allowed_scopes=["orders:read", "keys:read"])


async def test_an_owner_does_not_lift_its_own_limits(service: Service) -> None:
    """Only the platform changes policies; an owner can read its own, and no other."""
    mine = await make(service, scopes=["full_access"])
    caller = service.as_caller(mine.key_string)
    for owner_id in ("acme", "globex", "authsvc"):
        with refused(DENIED, "PLATFORM_ONLY"):
            await set_policy(service, owner_id, client=caller, max_active_keys=9)
    await caller.GetOwnerPolicy(owner_id="acme")
    for owner_id in ("globex", "authsvc"):
        with refused(DENIED, "OWNER_NOT_PERMITTED"):
            await caller.GetOwnerPolicy(owner_id=owner_id)


async def test_the_platform_has_no_policy(service: Service) -> None:
    """So it cannot lock itself out."""
    attempts: list[dict[str, Any]] = [{"keys_enabled": False}, {"max_active_keys": 1}, {"keys_enabled": True}]
    for fields in attempts:
        with refused(PRECONDITION, "PLATFORM_HAS_NO_POLICY"):
            await set_policy(service, "authsvc", **fields)
    assert await service.app.keys.ensure_administrator(another=True)


async def test_an_etag(service: Service) -> None:
    """An update with an old etag is refused; the default policy has an etag, too."""
    default = await service.admin.GetOwnerPolicy(owner_id="acme")
    first = await set_policy(service, etag=default.etag, max_active_keys=1)
    for etag in (default.etag, "rubbish"):
        with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
            await set_policy(service, etag=etag, max_active_keys=2)
    second = await set_policy(service, etag=first.etag, max_active_keys=2)
    assert len({default.etag, first.etag, second.etag}) == 3
    assert (await set_policy(service, brand="eg")).max_active_keys == 2


async def test_an_update_that_changes_nothing(service: Service, clock: Clock) -> None:
    """It does not change etag, time and audit log; but the first update creates the owner's own policy."""
    default = await service.admin.GetOwnerPolicy(owner_id="acme")
    own = await set_policy(service, max_active_keys=default.max_active_keys)
    assert own.etag != default.etag
    clock.advance(hours=1)
    assert await set_policy(service, max_active_keys=own.max_active_keys, keys_enabled=True) == own
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
        await set_policy(service, etag=default.etag, max_active_keys=own.max_active_keys)
    events = await service.admin.ListAuditEvents(owner_id="acme")
    assert len(events.events) == 1


async def test_of_many_with_one_etag_one_wins(service: Service) -> None:
    """Concurrent updates of one policy are serialized, also the first one for an owner."""
    for first in (1, 11):
        etag = (await service.admin.GetOwnerPolicy(owner_id="acme")).etag
        calls = [set_policy(service, etag=etag, max_active_keys=n) for n in range(first, first + 10)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        [won] = [answer for answer in done if not isinstance(answer, BaseException)]
        assert await service.admin.GetOwnerPolicy(owner_id="acme") == won
        codes = {error.code() for error in done if isinstance(error, grpc.aio.AioRpcError)}
        assert codes == {grpc.StatusCode.ABORTED}


async def test_updates_without_an_etag_all_count(service: Service) -> None:
    """Concurrent changes of different fields do not undo each other."""
    await asyncio.gather(*(set_policy(service, **{name: value}) for name, value in EVERYTHING.items()))
    policy = await service.admin.GetOwnerPolicy(owner_id="acme")
    expected = pb.OwnerPolicy(owner_id="acme", etag=policy.etag, update_time=policy.update_time, **EVERYTHING)
    assert policy == expected
