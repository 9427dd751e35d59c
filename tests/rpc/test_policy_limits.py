"""What an owner's policy refuses, and what happens to existing keys when it is tightened."""

from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.model.key_string import KeyMint
from authsvc.v1 import owner_policy_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Client, Clock, Service
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_revoke import code_of, make
from tests.rpc.test_rotate import rotate
from tests.rpc.test_update import update

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
ADA = resources_pb2.TechnicalContact(name="Ada", email="ada@example.org")
DAY = Duration(seconds=86400)


# Keys switched off (rule 7).


async def test_keys_are_switched_off_and_on(service: Service) -> None:  # rules 7, 20, 21
    """The right secret gets DISABLED, a wrong one NOT_FOUND; enabled again, the key works as before."""
    made = await make(service, scopes=["orders:read"])
    wrong = await forge(service, made.key.key_prefix)
    assert await code_of(service, made.key_string) == "VALID"
    await set_policy(service, keys_enabled=False)
    assert await code_of(service, wrong) == "NOT_FOUND"  # cold: by argon2
    answer = await service.admin.VerifyKey(key_string=made.key_string, required_scopes=["other"])
    assert not answer.valid
    assert (answer.code, answer.key_id) == (resources_pb2.VERDICT_CODE_DISABLED, made.key.key_id)
    assert await code_of(service, wrong) == "NOT_FOUND"  # warm: from memory
    await set_policy(service, keys_enabled=True)
    assert await code_of(service, made.key_string) == "VALID"


async def test_only_that_owners_keys(service: Service) -> None:  # rule 7
    """Another owner's keys, and the owner's own sessions, continue to work."""
    other = await make(service, "globex")
    token = (await service.admin.CreateSession(owner_id="acme")).session_token
    assert await code_of(service, other.key_string) == "VALID"
    assert (await service.admin.VerifySession(session_token=token)).valid
    await set_policy(service, keys_enabled=False)
    checkouts = service.app.database.checkouts
    assert await code_of(service, other.key_string) == "VALID"
    assert (await service.admin.VerifySession(session_token=token)).valid
    assert service.app.database.checkouts == checkouts  # they stay in memory


async def test_what_is_refused_while_keys_are_off(service: Service, clock: Clock) -> None:  # rule 7
    """Creating, rotating and reviving, for every caller. Reading, editing, revoking and deleting work."""
    made, expired = await make(service), await make(service, ttl=Duration(seconds=60))
    clock.advance(seconds=60)
    await set_policy(service, keys_enabled=False)
    with refused(PRECONDITION, "API_KEYS_NOT_ENABLED") as refusal:
        await make(service)
    assert refusal.info.metadata["policy_field"] == "keys_enabled"
    with refused(PRECONDITION, "API_KEYS_NOT_ENABLED"):
        await rotate(service, made.key.key_id)
    with refused(PRECONDITION, "API_KEYS_NOT_ENABLED"):
        await update(service, expired.key.key_id, "expire_time")
    runs = service.app.hasher.runs
    with refused(PRECONDITION, "API_KEYS_NOT_ENABLED"):
        await make(service)
    assert service.app.hasher.runs == runs  # an owner without keys costs no argon2
    changed = await update(service, made.key.key_id, "display_name", display_name="y")
    assert changed.state == resources_pb2.KEY_STATE_ACTIVE
    assert (await service.admin.LookupKey(key_string=made.key_string)).display_name == "y"
    await service.admin.RevokeKey(key_id=made.key.key_id)
    assert await code_of(service, made.key_string) == "REVOKED"
    assert await code_of(service, expired.key_string) == "EXPIRED"
    await service.admin.DeleteKey(key_id=made.key.key_id)


async def test_what_ended_meanwhile_stays_ended(service: Service, clock: Clock) -> None:  # rules 13, 16
    """Enabling keys again does not revive revoked or expired keys."""
    revoked, expired = await make(service), await make(service, ttl=Duration(seconds=60))
    await set_policy(service, keys_enabled=False)
    assert await code_of(service, expired.key_string) == "DISABLED"
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=60)
    await set_policy(service, keys_enabled=True)
    assert await code_of(service, revoked.key_string) == "REVOKED"
    assert await code_of(service, expired.key_string) == "EXPIRED"


async def test_a_disabled_key_as_caller(service: Service) -> None:  # rule 7
    """It is refused, with a reason; a session of the same owner is accepted."""
    made = await make(service, scopes=["full_access"])
    session = await service.admin.CreateSession(owner_id="acme", scopes=["keys:read"])
    caller = service.as_caller(made.key_string)
    await caller.ListKeys(owner_id="acme")
    await set_policy(service, keys_enabled=False)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_DISABLED"):
        await caller.ListKeys(owner_id="acme")
    assert (await service.as_caller(session.session_token).ListKeys(owner_id="acme")).keys


# How many (rule 5).


async def test_as_many_as_the_policy_lets(service: Service, clock: Clock) -> None:  # rule 5
    """A key counts until it expires or its revocation takes effect; keys of other owners do not count."""
    await set_policy(service, max_active_keys=2)
    first = await make(service, ttl=Duration(seconds=60))
    second = await make(service)
    await make(service, "globex")
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS") as refusal:
        await make(service)
    assert refusal.info.metadata["limit"] == "2"
    assert "allows at most 2 active keys" in refusal.message
    await service.admin.RevokeKey(key_id=second.key.key_id, revoke_in=Duration(seconds=120))
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await make(service)
    clock.advance(seconds=60)
    third = await make(service)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await make(service)
    await service.admin.RevokeKey(key_id=third.key.key_id)
    await make(service)
    clock.advance(seconds=60)
    await make(service)
    assert await code_of(service, first.key_string) == "EXPIRED"


async def test_a_lost_answer_at_the_limit(service: Service) -> None:  # rule 5
    """A retry of the call that created the last key is told so, not that the limit is reached."""
    await set_policy(service, max_active_keys=1)
    made = await make(service, request_id="r-1")
    with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_REPEATED") as refusal:
        await make(service, request_id="r-1")
    assert refusal.info.metadata["key_id"] == made.key.key_id
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await make(service, request_id="r-2")


async def test_rotation_at_the_limit(service: Service, clock: Clock) -> None:  # rules 5, 30
    """A rotation replaces a key, so it needs no room; keys in their grace period have their own limit."""
    await set_policy(service, max_active_keys=1)
    first = await make(service)
    second = await rotate(service, first.key.key_id, 3600)
    assert {await code_of(service, key.key_string) for key in (first, second)} == {"VALID"}
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await make(service)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS") as refusal:
        await rotate(service, second.key.key_id, 3600)
    assert "grace period" in refusal.message
    third = await rotate(service, second.key.key_id)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):  # nor by rotating in turns
        await rotate(service, third.key.key_id, 3600)
    clock.advance(seconds=3600)
    fourth = await rotate(service, third.key.key_id, 3600)
    codes = [await code_of(service, key.key_string) for key in (first, second, third, fourth)]
    assert codes == ["REVOKED", "REVOKED", "VALID", "VALID"]


async def test_an_expired_key_that_comes_back_counts(service: Service, clock: Clock) -> None:  # rule 5
    """It needs room like a new key; extending an active key does not."""
    await set_policy(service, max_active_keys=1)
    expired = await make(service, ttl=Duration(seconds=60))
    clock.advance(seconds=60)
    active = await make(service)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await update(service, expired.key.key_id, "expire_time")
    await update(service, active.key.key_id, "expire_time", expire_time=stamp(clock, hours=1))
    await service.admin.RevokeKey(key_id=active.key.key_id)
    await update(service, expired.key.key_id, "expire_time")
    assert await code_of(service, expired.key_string) == "VALID"


async def test_a_rotated_key_that_comes_back_counts(service: Service, clock: Clock) -> None:  # rule 5
    """A key that expired in its grace period needs room among the keys in theirs."""
    await set_policy(service, max_active_keys=1)
    first = await make(service, ttl=Duration(seconds=60))
    second = await rotate(service, first.key.key_id, 7200)
    await update(service, second.key.key_id, "expire_time")
    clock.advance(seconds=60)
    await rotate(service, second.key.key_id, 3600)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS") as refusal:
        await update(service, first.key.key_id, "expire_time")
    assert "grace period" in refusal.message


async def test_a_lower_limit_ends_no_key(service: Service) -> None:  # rule 5
    """Keys above the limit still work and may be rotated; a new one is refused until there is room."""
    made = [await make(service) for _ in range(3)]
    await set_policy(service, max_active_keys=1)
    assert {await code_of(service, key.key_string) for key in made} == {"VALID"}
    await rotate(service, made[0].key.key_id)
    for key in made[1:]:
        with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
            await make(service)
        await service.admin.RevokeKey(key_id=key.key.key_id)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await make(service)


# Scopes, lifetimes, contacts, brands (rules 2, 3, 4).


async def test_scopes(service: Service) -> None:  # rule 2
    """Scopes that are not allowed are refused and named, when a key is created and when it is changed."""
    old = await make(service, scopes=["a", "x", "y"])
    await set_policy(service, allowed_scopes=["a", "b"])
    with refused(PRECONDITION, "SCOPE_NOT_ALLOWED") as refusal:
        await make(service, scopes=["a", "c", "full_access"])
    assert refusal.info.metadata["scopes"] == "c,full_access"
    key_id = (await make(service, scopes=["a"])).key.key_id
    await update(service, key_id, "scopes", scopes=["a", "b"])
    with refused(PRECONDITION, "SCOPE_NOT_ALLOWED") as refusal:
        await update(service, key_id, "scopes", scopes=["a", "c"])
    assert refusal.info.metadata["scopes"] == "c"
    # An existing key keeps its scopes, may lose them, and can be rotated only after that.
    assert (await service.admin.VerifyKey(key_string=old.key_string, required_scopes=["x"])).valid
    with refused(PRECONDITION, "SCOPE_NOT_ALLOWED") as refusal:
        await rotate(service, old.key.key_id)
    assert refusal.info.metadata["scopes"] == "x,y"
    await update(service, old.key.key_id, "scopes", scopes=["b", "x"])
    await update(service, old.key.key_id, "scopes", scopes=["b"])
    assert (await rotate(service, old.key.key_id)).key.scopes == ["b"]


async def test_lifetimes(service: Service, clock: Clock) -> None:  # rule 3
    """A key's lifetime is limited by the policy, from its creation, however the expiry is given."""
    old = await make(service, expire_time=stamp(clock, days=30))
    never = await make(service)
    await set_policy(service, max_key_lifetime=DAY)
    with refused(PRECONDITION, "EXPIRATION_REQUIRED"):
        await make(service)
    too_long: list[dict[str, Any]] = [
        {"ttl": Duration(seconds=86401)},
        {"expire_time": stamp(clock, days=1, seconds=1)},
        {"expiration_preset": 2},
    ]
    for fields in too_long:
        with refused(PRECONDITION, "KEY_LIFETIME_TOO_LONG") as refusal:
            await make(service, **fields)
        assert refusal.info.metadata["limit_seconds"] == "86400"
    made = await make(service, ttl=DAY)
    clock.advance(hours=12)
    with refused(PRECONDITION, "KEY_LIFETIME_TOO_LONG"):
        await update(service, made.key.key_id, "expire_time", expire_time=stamp(clock, hours=13))
    with refused(PRECONDITION, "EXPIRATION_REQUIRED"):
        await update(service, made.key.key_id, "expire_time")
    await update(service, made.key.key_id, "expire_time", expire_time=stamp(clock, hours=12))
    # An existing key keeps its expiry when other fields are edited; its successor's is within the limit.
    for key in (old, never):
        changed = await update(service, key.key.key_id, "display_name", display_name="y")
        assert changed.expire_time == key.key.expire_time
        successor = await rotate(service, key.key.key_id)
        assert successor.key.expire_time.ToDatetime(tzinfo=UTC) == clock.now + timedelta(days=1)


async def test_an_expiry_is_required(service: Service, clock: Clock) -> None:  # rule 3
    """New keys need one; an existing key stays without, and needs one before it is rotated."""
    old = await make(service)
    await set_policy(service, expiration_required=True)
    never: list[dict[str, Any]] = [{}, {"expiration_preset": 1}]
    for fields in never:
        with refused(PRECONDITION, "EXPIRATION_REQUIRED"):
            await make(service, **fields)
    made = await make(service, expiration_preset=5)
    with refused(PRECONDITION, "EXPIRATION_REQUIRED"):
        await update(service, made.key.key_id, "expire_time")
    assert await code_of(service, old.key_string) == "VALID"
    with refused(PRECONDITION, "EXPIRATION_REQUIRED"):
        await rotate(service, old.key.key_id)
    await update(service, old.key.key_id, "expire_time", expire_time=stamp(clock, days=1))
    await rotate(service, old.key.key_id)


async def test_contacts_are_required(service: Service) -> None:  # rule 4
    """New keys need one, and the last one cannot be removed; an existing key without one may be edited."""
    old = await make(service)
    await set_policy(service, contacts_required=True)
    with refused(PRECONDITION, "CONTACTS_REQUIRED"):
        await make(service)
    made = await make(service, technical_contacts=[ADA])
    with refused(PRECONDITION, "CONTACTS_REQUIRED"):
        await update(service, made.key.key_id, "technical_contacts")
    await update(service, old.key.key_id, "display_name", display_name="y")
    with refused(PRECONDITION, "CONTACTS_REQUIRED"):
        await rotate(service, old.key.key_id)
    await update(service, old.key.key_id, "technical_contacts", technical_contacts=[ADA])
    assert (await rotate(service, old.key.key_id)).key.technical_contacts == [ADA]


async def test_brands(service: Service) -> None:
    """New and rotated key strings have the policy's brand; others are refused; old strings stay valid."""
    old = await make(service, brand="old")
    await set_policy(service, brand="eg")
    assert (await make(service)).key_string.startswith("eg_live_")
    assert (await make(service, brand="eg", environment="test")).key_string.startswith("eg_test_")
    with refused(PRECONDITION, "BRAND_NOT_ALLOWED") as refusal:
        await make(service, brand="old")
    assert "requires the brand eg" in refusal.message
    assert await code_of(service, old.key_string) == "VALID"
    assert (await rotate(service, old.key.key_id)).key_string.startswith("eg_live_")
    assert (await make(service, "globex", brand="old")).key_string.startswith("old_live_")


# Editing (rule 8).


@pytest.mark.parametrize(
    ("edits", "allowed"),
    [
        (pb.KEY_EDITS_NONE, set()),
        (pb.KEY_EDITS_DETAILS, {"display_name", "description", "technical_contacts"}),
        (
            pb.KEY_EDITS_ALL,
            {"display_name", "description", "technical_contacts", "scopes", "expire_time", "annotations"},
        ),
    ],
)
async def test_what_may_be_edited(service: Service, edits: int, allowed: set[str]) -> None:  # rule 8
    """Fields that may not be edited are named, and nothing changes; this applies to existing keys, too."""
    made = await make(service)
    await set_policy(service, key_edits=edits)
    every = {"display_name", "description", "technical_contacts", "scopes", "expire_time", "annotations"}
    for field in every - allowed:
        with refused(PRECONDITION, "KEY_EDIT_NOT_ALLOWED") as refusal:
            await update(service, made.key.key_id, field, display_name="y")
        assert refusal.info.metadata["fields"] == field
    if edits != pb.KEY_EDITS_ALL:
        with refused(PRECONDITION, "KEY_EDIT_NOT_ALLOWED"):
            await update(service, made.key.key_id, "*", display_name="y")
    assert await service.admin.GetKey(key_id=made.key.key_id) == made.key
    if allowed:
        await update(service, made.key.key_id, *allowed, display_name="y")
    await rotate(service, made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)


# Who manages (rule 6).


async def test_only_sessions_manage(service: Service) -> None:  # rule 6
    """Calls with keys of the owner that change a key are refused; calls of the platform are not."""
    strong = await make(service, scopes=["full_access"])
    target = await make(service)
    session = await service.admin.CreateSession(owner_id="acme", scopes=["keys:write", "keys:read"])
    await set_policy(service, key_managers=pb.KEY_MANAGERS_SESSIONS_ONLY)
    await service.as_caller(strong.key_string).ListKeys(owner_id="acme")
    key_id = target.key.key_id
    runs = service.app.hasher.runs
    for attempt in attempts(service.as_caller(strong.key_string), key_id):
        with refused(grpc.StatusCode.PERMISSION_DENIED, "KEY_MANAGER_NOT_PERMITTED"):
            await attempt()
    assert service.app.hasher.runs == runs
    assert (await service.as_caller(strong.key_string).ListKeys(owner_id="acme")).keys
    assert (await service.as_caller(strong.key_string).VerifyKey(key_string=target.key_string)).valid
    person = service.as_caller(session.session_token)
    assert (await person.CreateKey(owner_id="acme", display_name="x")).key.creator_id.startswith("ses_")
    for caller in (person, service.admin):
        other = await make(service)
        for attempt in attempts(caller, other.key.key_id)[1:-2]:
            await attempt()


@pytest.mark.parametrize("scope", ["keys:write", "full_access"])
async def test_no_key_makes_a_session_that_manages(service: Service, scope: str) -> None:  # rule 6
    """With SESSIONS_ONLY a key cannot open a session that manages keys; a session and the platform can."""
    strong = service.as_caller((await make(service, scopes=["full_access"])).key_string)
    session = await service.admin.CreateSession(owner_id="acme", scopes=["full_access"])
    await strong.CreateSession(owner_id="acme", scopes=[scope])
    await set_policy(service, key_managers=pb.KEY_MANAGERS_SESSIONS_ONLY)
    with refused(grpc.StatusCode.PERMISSION_DENIED, "KEY_MANAGER_NOT_PERMITTED"):
        await strong.CreateSession(owner_id="acme", scopes=["keys:read", scope])
    await strong.CreateSession(owner_id="acme", scopes=["keys:read", "sessions:write"])
    for caller in (service.as_caller(session.session_token), service.admin):
        await caller.CreateSession(owner_id="acme", scopes=[scope])


async def forge(service: Service, key_prefix: str) -> str:
    """Return a key string with this prefix, a wrong secret and a valid tag."""
    async with service.app.database.connection() as connection:
        mint = KeyMint(await connection.fetchval("SELECT tag_key FROM authsvc.tag_keys"))
    body = key_prefix + "0" * 43
    return body + mint._tag(body)


def attempts(caller: Client, key_id: str) -> list[Any]:
    """Return all calls that change a key, in an order in which they can be made."""
    return [
        lambda: caller.RotateKey(key_id=key_id),
        lambda: caller.CreateKey(owner_id="acme", display_name="x"),
        lambda: caller.UpdateKey(
            key=resources_pb2.Key(key_id=key_id, description="y"),
            update_mask=FieldMask(paths=["description"]),
        ),
        lambda: caller.RevokeKey(key_id=key_id),
        lambda: caller.BatchRevokeKeys(key_ids=[key_id]),
        lambda: caller.DeleteKey(key_id=key_id),
        lambda: caller.BatchDeleteKeys(key_ids=[key_id]),
        lambda: caller.BatchRevokeKeys(owner_id="acme"),
    ]


def stamp(clock: Clock, **delta: float) -> Any:
    """Return the current time plus a delta, as a message."""
    key = resources_pb2.Key()
    key.expire_time.FromDatetime(clock.now + timedelta(**delta))
    return key.expire_time
