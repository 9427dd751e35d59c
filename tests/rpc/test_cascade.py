"""RevokeKey with `cascade`: a key ends with all that it created, and what that created (R17)."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.keys import cascade as key_cascade
from authsvc.revocation import descendants
from authsvc.revocation.descendants import Descendants, MoreDescendants
from authsvc.rpc.confirmation import CASCADE_KEYS, CASCADE_SESSIONS
from authsvc.store.migrate import migrate
from authsvc.store.pool import Database
from authsvc.v1 import audit_service_pb2, resources_pb2
from tests.conftest import BRIEFLY, Client, Clock, Patience, Service, serving
from tests.faults.load import reason_of
from tests.keys.test_revocation_at_once import held_chain
from tests.revocation.test_barrier import register, two_workers
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import PRECONDITION, REVOKED, code_of, make

ABORTED, DENIED = grpc.StatusCode.ABORTED, grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
MANAGER = ("keys:read", "keys:write", "sessions:write")
CREATOR_REVOKED = resources_pb2.REVOKE_CAUSE_CREATOR_REVOKED
REQUESTED = resources_pb2.REVOKE_CAUSE_REQUESTED


async def manager(service: Service, owner_id: str = "acme", scopes: Any = MANAGER) -> tuple[Any, Client]:
    """Return a new key that may create others, and a client that calls with it."""
    made = await make(service, owner_id, scopes=scopes)
    return made, service.as_caller(made.key_string)


async def create(caller: Client, owner_id: str = "acme", scopes: Any = (), **fields: Any) -> Any:
    return await caller.CreateKey(owner_id=owner_id, display_name="created", scopes=scopes, **fields)


async def session_code(service: Service, token: str) -> str:
    verdict = await service.admin.VerifySession(session_token=token)
    return resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")


async def cascade(caller: Client, key_id: str, **fields: Any) -> tuple[Any, tuple[int, int]]:
    """Revoke a key with all that it created; return it, and how many keys and sessions ended with it."""
    calling: Any = caller.RevokeKey(key_id=key_id, cascade=True, **fields)
    key = await calling
    trailers = dict(await calling.trailing_metadata())
    return key, (int(trailers[CASCADE_KEYS]), int(trailers[CASCADE_SESSIONS]))


async def test_all_that_a_key_created_ends_with_it(service: Service) -> None:
    """Keys and sessions, also what these created; nothing else. Warm or cold, each is refused at once."""
    root, by_root = await manager(service)
    child = await create(by_root, scopes=["keys:write"])
    grandchild = await create(service.as_caller(child.key_string))
    opened = await by_root.CreateSession(owner_id="acme", scopes=["keys:write"])
    by_session = await create(service.as_caller(opened.session_token))
    other = await make(service)
    keys = [root, child, grandchild, by_session]
    assert [await code_of(service, each.key_string) for each in keys] == ["VALID"] * 4
    assert await session_code(service, opened.session_token) == "VALID"

    key, ended = await cascade(service.admin, root.key.key_id, reason="leaked")
    assert (key.state, key.revoke_cause, key.revoke_reason, ended) == (REVOKED, REQUESTED, "leaked", (3, 1))
    assert [await code_of(service, each.key_string) for each in keys] == ["REVOKED"] * 4
    assert await session_code(service, opened.session_token) == "REVOKED"
    assert await code_of(service, other.key_string) == "VALID"
    for each in keys[1:]:
        found = await service.admin.GetKey(key_id=each.key.key_id)
        assert (found.revoke_cause, found.revoke_reason) == (CREATOR_REVOKED, "leaked")
        assert (found.revoker_id, found.revoke_time) == (key.revoker_id, key.revoke_time)
    listed = (await service.admin.ListKeys(owner_id="acme")).keys
    assert [each.revoke_cause for each in listed].count(CREATOR_REVOKED) == 3


async def test_without_cascade_it_stays(service: Service) -> None:
    """A revocation ends only the key, and the answer does not speak of a cascade."""
    root, by_root = await manager(service)
    child = await create(by_root)
    calling: Any = service.admin.RevokeKey(key_id=root.key.key_id)
    await calling
    assert CASCADE_KEYS not in dict(await calling.trailing_metadata())
    assert await code_of(service, child.key_string) == "VALID"


async def test_a_leak_that_is_found_late(service: Service, clock: Clock) -> None:
    """A key that is revoked keeps its revocation, and what it created ends. Then nothing is left to do."""
    root, by_root = await manager(service)
    child = await create(by_root, scopes=["keys:write"])
    grandchild = await create(service.as_caller(child.key_string))
    first = await service.admin.RevokeKey(key_id=root.key.key_id, reason="old")
    # The creator in between has ended long ago, and its creation has not.
    await service.admin.RevokeKey(key_id=child.key.key_id)
    clock.advance(days=1)
    key, ended = await cascade(service.admin, root.key.key_id, reason="a leak")
    assert (key, ended) == (first, (1, 0))
    assert await code_of(service, grandchild.key_string) == "REVOKED"
    with refused(PRECONDITION, "KEY_ALREADY_REVOKED"):
        await cascade(service.admin, root.key.key_id)
    assert (await service.admin.GetKey(key_id=child.key.key_id)).revoke_cause == REQUESTED


async def test_creators_that_were_deleted(service: Service, clock: Clock) -> None:
    """What they created is found as well, through any number of them."""
    root, caller = await manager(service)
    deleted = []
    for _ in range(3):
        made = await create(caller, scopes=["keys:write"])
        caller = service.as_caller(made.key_string)
        deleted.append(made.key.key_id)
    last = await create(caller)
    for key_id in (deleted[1], deleted[0], deleted[2]):
        await service.admin.RevokeKey(key_id=key_id)
        await service.admin.DeleteKey(key_id=key_id)
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (1, 0)
    assert await code_of(service, last.key_string) == "REVOKED"


@pytest.mark.parametrize("number", [2, 3, 5])
async def test_creators_that_were_deleted_at_the_same_time(service: Service, number: int) -> None:
    """One statement deletes all of them, and what the last one created is found."""
    root, caller = await manager(service)
    deleted = []
    for _ in range(number):
        made = await create(caller, scopes=["keys:write"])
        caller = service.as_caller(made.key_string)
        deleted.append(made.key.key_id)
    last = await create(caller)
    await service.admin.BatchRevokeKeys(key_ids=deleted)
    await service.admin.BatchDeleteKeys(key_ids=deleted)
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (1, 0)
    assert await code_of(service, last.key_string) == "REVOKED"


async def test_as_the_role_that_serves(plain_role: str, empty_database_url: str, clock: Clock) -> None:
    """It may not write who created what was deleted: the database does, for its deletions."""
    await migrate(empty_database_url, serving_role=plain_role)
    place = urlsplit(empty_database_url)
    url = f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"
    async with serving(url, clock) as service:
        root, by_root = await manager(service)
        child = await create(by_root, scopes=["keys:write"])
        grandchild = await create(service.as_caller(child.key_string))
        await service.admin.RevokeKey(key_id=child.key.key_id)
        await service.admin.DeleteKey(key_id=child.key.key_id)
        _, ended = await cascade(service.admin, root.key.key_id)
        assert ended == (1, 0)
        assert await code_of(service, grandchild.key_string) == "REVOKED"
        async with service.app.database.connection() as connection:
            for statement in ("DELETE FROM authsvc.deleted_creators", "TRUNCATE authsvc.deleted_creators"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)


async def test_what_is_kept_of_deleted_creators_goes(service: Service, database_url: str) -> None:
    """When the last thing is deleted that they created; a key that created nothing leaves nothing."""
    root, by_root = await manager(service)
    child = await create(by_root, scopes=["keys:write"])
    grandchild = await create(service.as_caller(child.key_string))
    connection = await asyncpg.connect(database_url)
    try:
        for made, left in ((child, 1), (root, 2), (grandchild, 0)):
            await service.admin.RevokeKey(key_id=made.key.key_id)
            await service.admin.DeleteKey(key_id=made.key.key_id)
            assert await connection.fetchval("SELECT count(*) FROM authsvc.deleted_creators") == left
    finally:
        await connection.close()


async def test_rotation_creates_for_the_caller_that_rotates(service: Service) -> None:
    """A successor does not end with the old key, unless that has rotated itself."""
    root, by_root = await manager(service, scopes=[*MANAGER, "keys:self"])
    rotated = await service.admin.RotateKey(key_id=root.key.key_id, grace_period=Duration(seconds=600))
    child = await create(by_root)
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (1, 0)
    assert await code_of(service, child.key_string) == "REVOKED"
    assert await code_of(service, rotated.key_string) == "VALID"
    itself = await service.as_caller(rotated.key_string).RotateSelf(grace_period=Duration(seconds=600))
    _, ended = await cascade(service.admin, rotated.key.key_id)
    assert ended == (1, 0)
    assert await code_of(service, itself.key_string) == "REVOKED"


async def test_it_cannot_be_scheduled(service: Service) -> None:
    """The error says so; a time of zero is now."""
    made = await make(service)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.RevokeKey(key_id=made.key.key_id, cascade=True, revoke_in=Duration(seconds=1))
    assert "a revocation with cascade cannot be scheduled" in refusal.message
    _, ended = await cascade(service.admin, made.key.key_id, revoke_in=Duration())
    assert ended == (0, 0)


async def test_a_scheduled_revocation_becomes_one_now(service: Service) -> None:
    """Of the key, and of what it created."""
    root, by_root = await manager(service)
    child = await create(by_root)
    for each in (root, child):
        await service.admin.RevokeKey(key_id=each.key.key_id, revoke_in=Duration(seconds=3600))
    await cascade(service.admin, root.key.key_id)
    assert [await code_of(service, each.key_string) for each in (root, child)] == ["REVOKED"] * 2


async def test_a_scheduled_revocation_that_is_due_meanwhile(
    service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the call waits for its last lock: the others end nevertheless."""
    root, by_root = await manager(service)
    due, other = await create(by_root), await create(by_root)
    await service.admin.RevokeKey(key_id=due.key.key_id, revoke_in=Duration(seconds=60))

    async def wait(*_: object, **__: object) -> None:
        clock.advance(seconds=60)

    monkeypatch.setattr(key_cascade, "refuse_to_end_last", wait)
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (1, 0)
    assert [await code_of(service, each.key_string) for each in (root, due, other)] == ["REVOKED"] * 3


async def test_what_is_disabled_or_expired_ends_too(service: Service, clock: Clock) -> None:
    """Otherwise it could be enabled, or get a later expiry."""
    root, by_root = await manager(service)
    disabled, expired = await create(by_root), await create(by_root, ttl=Duration(seconds=60))
    await service.admin.DisableKey(key_id=disabled.key.key_id)
    clock.advance(hours=2)
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (2, 0)
    for each in (disabled, expired):
        assert (await service.admin.GetKey(key_id=each.key.key_id)).state == REVOKED


async def test_sessions_that_have_ended_are_not_revoked(service: Service, clock: Clock) -> None:
    """By age, one by one, or all of the owner; what they had created ends."""
    root, by_root = await manager(service)
    made = []
    for ends in ("age", "one", "all"):
        opened = await by_root.CreateSession(
            owner_id="acme", scopes=["keys:write"], lifetime=Duration(seconds=60 if ends == "age" else 86400)
        )
        made.append(await create(service.as_caller(opened.session_token)))
        if ends == "one":
            await service.admin.RevokeSession(session_id=opened.session.session_id)
    await service.admin.RevokeAllSessions(owner_id="acme")
    idle = await by_root.CreateSession(owner_id="acme", idle_timeout=Duration(seconds=60))
    clock.advance(hours=2)
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (3, 1)
    assert [await code_of(service, each.key_string) for each in made] == ["REVOKED"] * 3
    assert await session_code(service, idle.session_token) == "REVOKED"


async def test_keys_of_the_platform_create_for_others(service: Service) -> None:
    """All of it ends, of whatever owner."""
    root, by_root = await manager(service, "authsvc", ["full_access"])
    made = [await create(by_root, owner) for owner in ("zeta", "acme", "authsvc")]
    opened = await by_root.CreateSession(owner_id="ann")
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (3, 1)
    assert [await code_of(service, each.key_string) for each in made] == ["REVOKED"] * 3
    assert await session_code(service, opened.session_token) == "REVOKED"


async def test_another_owner_ends_only_its_own(service: Service, database_url: str) -> None:  # rule 19
    """A key of another owner is not known. Of what is another owner's nothing ends."""
    root, by_root = await manager(service)
    child = await create(by_root)
    _, stranger = await manager(service, "other")
    with refused(grpc.StatusCode.NOT_FOUND, "KEY_NOT_FOUND"):
        await cascade(stranger, root.key.key_id)
    foreign = await make(service, "other")
    # No caller can do this.
    await _execute(database_url, "UPDATE authsvc.keys SET creator_id = $1 WHERE key_id = $2", root, foreign)
    _, own = await manager(service)
    _, ended = await cascade(own, root.key.key_id)
    assert ended == (1, 0)
    assert await code_of(service, child.key_string) == "REVOKED"
    assert await code_of(service, foreign.key_string) == "VALID"


async def _execute(database_url: str, statement: str, *made: Any) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement, *(each.key.key_id for each in made))
    finally:
        await connection.close()


async def test_sessions_need_their_scope(service: Service) -> None:
    """Nothing is revoked without it. Where there is no session to end, it is not needed."""
    root, by_root = await manager(service)
    child = await create(by_root)
    opened = await by_root.CreateSession(owner_id="acme")
    _, other = await manager(service, scopes=["keys:write"])
    with refused(DENIED, "SCOPE_MISSING") as refusal:
        await cascade(other, root.key.key_id)
    assert refusal.info.metadata["required_scope"] == "sessions:write"
    assert [await code_of(service, each.key_string) for each in (root, child)] == ["VALID"] * 2
    await service.admin.RevokeSession(session_id=opened.session.session_id)
    _, ended = await cascade(other, root.key.key_id)
    assert ended == (1, 0)


async def test_a_policy_that_lets_only_sessions_manage_keys(service: Service) -> None:
    """It holds for a cascade as for any revocation."""
    root, by_root = await manager(service)
    await service.admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "key_managers": "KEY_MANAGERS_SESSIONS_ONLY"},
        update_mask={"paths": ["key_managers"]},
    )
    with refused(DENIED, "KEY_MANAGER_NOT_PERMITTED"):
        await cascade(by_root, root.key.key_id)


async def test_a_caller_ends_its_creator_and_itself(service: Service) -> None:
    """The call is answered, and both are revoked: also a leaked key that revokes what created it."""
    root, by_root = await manager(service)
    child = await create(by_root, scopes=["keys:write"])
    _, ended = await cascade(service.as_caller(child.key_string), root.key.key_id)
    assert ended == (1, 0)
    assert [await code_of(service, each.key_string) for each in (root, child)] == ["REVOKED"] * 2
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
        await create(by_root)


async def test_the_last_administrator(service: Service) -> None:
    """Must not be among what ends, unless that is allowed. Nothing ends then."""
    root, by_root = await manager(service, "authsvc", ["full_access"])
    child = await create(by_root, "authsvc", ["full_access"])
    own = await service.admin.LookupKey(key_string=service.admin_key)
    await service.as_caller(child.key_string).RevokeKey(key_id=own.key_id)
    with refused(PRECONDITION, "LAST_ADMINISTRATOR_KEY"):
        await cascade(by_root, root.key.key_id)
    await create(by_root, "acme")
    _, ended = await cascade(by_root, root.key.key_id, allow_last_administrator=True)
    assert ended == (2, 0)


async def test_the_audit_log_names_the_key(service: Service) -> None:
    """Each has its usual event, which names the key that was the cause. That of the key has the counts."""
    root, by_root = await manager(service)
    child = await create(by_root)
    opened = await by_root.CreateSession(owner_id="acme")
    await cascade(service.admin, root.key.key_id, reason="a leak")
    events = (await service.admin.ListAuditEvents(owner_id="acme")).events[:3]
    told = {event.target_id: (event.action, dict(event.details)) for event in events}
    moment = service.clock.now.isoformat()
    with_it = {"cause": "CREATOR_REVOKED", "revoked_with_key_id": root.key.key_id, "reason": "a leak"}
    key_revoked = audit_service_pb2.AUDIT_ACTION_KEY_REVOKED
    assert told == {
        root.key.key_id: (
            key_revoked,
            {"reason": "a leak", "revoke_time": moment, "cascade_keys": "1", "cascade_sessions": "1"},
        ),
        child.key.key_id: (key_revoked, {"revoke_time": moment, **with_it}),
        opened.session.session_id: (audit_service_pb2.AUDIT_ACTION_SESSION_REVOKED, with_it),
    }
    assert {event.actor_id for event in events} == {root.key.creator_id}


@pytest.mark.parametrize("kind", ["key", "session"])
async def test_what_is_being_created_is_found(service: Service, database_url: str, kind: str) -> None:
    """A creation that has its locks first is committed first, and ends with its creator."""
    root, by_root = await manager(service)
    # So that there is something to lock in advance, too.
    await create(by_root)
    async with held_chain(database_url) as chain:
        creating: Any = create(by_root) if kind == "key" else by_root.CreateSession(owner_id="acme")
        creating = asyncio.ensure_future(creating)
        await chain.waited_for(1)
        ending = asyncio.ensure_future(cascade(service.admin, root.key.key_id))
        await chain.waited_for(2)
        await chain.release()
    made, (_, ended) = await creating, await ending
    if kind == "key":
        assert ended == (2, 0)
        assert await code_of(service, made.key_string) == "REVOKED"
    else:
        assert ended == (1, 1)
        assert await session_code(service, made.session_token) == "REVOKED"


@pytest.mark.parametrize("creator", ["root", "child"])
@pytest.mark.parametrize("kind", ["key", "session"])
async def test_what_comes_later_is_refused(
    service: Service, database_url: str, kind: str, creator: str
) -> None:
    """A creation that finds the locks of the cascade taken waits, and is refused."""
    root, by_root = await manager(service)
    child = await create(by_root, scopes=["keys:write", "sessions:write"])
    caller = by_root if creator == "root" else service.as_caller(child.key_string)
    async with held_chain(database_url) as chain:
        ending = asyncio.ensure_future(cascade(service.admin, root.key.key_id))
        await chain.waited_for(1)
        creating: Any = create(caller) if kind == "key" else caller.CreateSession(owner_id="acme")
        creating = asyncio.ensure_future(creating)
        await chain.waited_for(2)
        await chain.release()
    assert (await ending)[1] == (1, 0)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
        await creating
    await _nothing_alive(service)


async def test_a_descendant_that_creates_meanwhile(service: Service, database_url: str) -> None:
    """What a new descendant is creating is waited for as well, by another attempt."""
    root, by_root = await manager(service)
    async with held_chain(database_url) as chain:
        first = asyncio.ensure_future(create(by_root, scopes=["keys:write"]))
        await chain.waited_for(1)
        ending = asyncio.ensure_future(cascade(service.admin, root.key.key_id))
        await chain.waited_for(2)
        await chain.release()
    child = await first
    # The first attempt finds it under its locks, where a change that it makes could hold it.
    assert (await ending)[1] == (1, 0)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
        await create(service.as_caller(child.key_string))
    await _nothing_alive(service)


async def test_what_is_new_and_not_free(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descendant that was not known, and is in use now, is waited for by another attempt."""
    root, by_root = await manager(service)
    child = await create(by_root)

    async def nothing(*_: object) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(Descendants, "find", nothing)
    async with held_chain(database_url) as chain:
        # It waits for the chain, and shares the row of the child.
        using = asyncio.ensure_future(service.admin.UpdateKey(key=_renamed(child), update_mask=_NAME))
        await chain.waited_for(1)
        ending = asyncio.ensure_future(cascade(service.admin, root.key.key_id))
        await chain.waited_for(2)
        await chain.release()
    await using
    assert (await ending)[1] == (1, 0)
    assert await code_of(service, child.key_string) == "REVOKED"


async def test_what_is_never_free(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some attempts the call is refused, and nothing is revoked."""
    root, by_root = await manager(service)
    child = await create(by_root)
    attempts = 0

    async def more(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise MoreDescendants([child.key.key_id])

    monkeypatch.setattr(Descendants, "lock_all", more)
    with refused(ABORTED, "DESCENDANTS_CHANGED") as refusal:
        await cascade(service.admin, root.key.key_id)
    assert attempts == 5
    assert "repeat the call" in refusal.message
    assert [await code_of(service, each.key_string) for each in (root, child)] == ["VALID"] * 2


@pytest.mark.parametrize("bound", ["MAX_DESCENDANTS", "MAX_OWNERS"])
async def test_too_much_to_end(service: Service, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Nothing is revoked; the error says how much there is, and what to do. What has ended does not count."""
    root, by_root = await manager(service, "authsvc", ["full_access"])
    made = [await create(by_root, owner) for owner in ("a", "b", "c")]
    monkeypatch.setattr(descendants, bound, 2)
    with refused(PRECONDITION, "CASCADE_TOO_LARGE") as refusal:
        await cascade(service.admin, root.key.key_id)
    assert "at least 3 keys and sessions of 3 owners" in refusal.message
    assert "Nothing was revoked. End a part first" in refusal.message
    assert [await code_of(service, each.key_string) for each in (root, *made)] == ["VALID"] * 4
    await service.admin.RevokeKey(key_id=made[0].key.key_id)
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (2, 0)


async def test_more_than_are_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many prefixes for an entry: workers forget the whole owner, and other keys of it verify on."""
    monkeypatch.setattr(key_cascade, "_MAX_PREFIXES", 2)
    monkeypatch.setattr(key_cascade, "_BATCH", 2)
    root, by_root = await manager(service)
    made = [await create(by_root) for _ in range(5)]
    opened = await by_root.CreateSession(owner_id="acme")
    other = await make(service)
    for each in (root, *made, other):
        assert await code_of(service, each.key_string) == "VALID"
    _, ended = await cascade(service.admin, root.key.key_id)
    assert ended == (5, 1)
    assert [await code_of(service, each.key_string) for each in (root, *made)] == ["REVOKED"] * 6
    assert await session_code(service, opened.session_token) == "REVOKED"
    assert await code_of(service, other.key_string) == "VALID"


async def test_contacts_of_what_ends_are_told(service: Service, database_url: str) -> None:
    """By the events: one notification for each key, to its own contacts."""
    root, by_root = await manager(service)
    contact = {"name": "Ann", "email": "ann@example.org"}
    child = await create(by_root, technical_contacts=[contact])
    await cascade(service.admin, root.key.key_id)
    connection = await asyncpg.connect(database_url)
    try:
        query = "SELECT details, contacts FROM authsvc.notifications WHERE type = $1 AND target_id = $2"
        [told] = await connection.fetch(query, "key.revoked", child.key.key_id)
    finally:
        await connection.close()
    assert json.loads(told["contacts"]) == [contact]
    assert json.loads(told["details"])["revoked_with_key_id"] == root.key.key_id


async def test_every_worker_refuses_from_the_answer_on(database_url: str) -> None:
    """Also the one that was not asked, and that has all of it in memory."""
    async with two_workers(database_url) as (one, other):
        root, by_root = await manager(one)
        child = await create(by_root)
        opened = await by_root.CreateSession(owner_id="acme")
        assert await code_of(other, child.key_string) == "VALID"
        assert await session_code(other, opened.session_token) == "VALID"
        await cascade(one.admin, root.key.key_id)
        assert await code_of(other, child.key_string) == "REVOKED"
        assert await session_code(other, opened.session_token) == "REVOKED"


async def test_a_repeated_cascade_waits_for_the_rest(database_url: str, patience: Patience) -> None:
    """Also if nothing is left to do: "already revoked" means that every worker refuses all of it."""
    async with serving(database_url, None, stopwatch=patience.stopwatch) as service:
        root, by_root = await manager(service)
        child = await create(by_root)
        async with Database.open(database_url) as database:
            await register(database)
            for _ in range(2):
                with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "WORKERS_UNCONFIRMED"):
                    call = service.admin.RevokeKey(key_id=root.key.key_id, cascade=True, timeout=BRIEFLY)
                    await patience.ends(call)
                assert await code_of(service, child.key_string) == "REVOKED"


async def test_two_cascades_at_once(service: Service) -> None:
    """Of a key and of what it created: both are answered, and everything is revoked."""
    root, by_root = await manager(service)
    child = await create(by_root, scopes=["keys:write"])
    by_child = service.as_caller(child.key_string)
    for _ in range(5):
        await create(by_child)
    await asyncio.gather(
        *(_done(cascade(service.admin, each.key.key_id)) for each in (root, child, root, child))
    )
    await _nothing_alive(service)


async def test_keys_that_create_without_a_pause(service: Service) -> None:
    """A cascade ends all of it, in the end, and nothing that they create stays."""
    root, by_root = await manager(service)

    async def go_on(caller: Client) -> None:
        for _ in range(30):
            made = await create(caller, scopes=["keys:write", "sessions:write"])
            await service.as_caller(made.key_string).CreateSession(owner_id="acme")
            caller = service.as_caller(made.key_string)

    creating = [asyncio.ensure_future(go_on(by_root)) for _ in range(4)]
    await create(by_root)
    while await _done(cascade(service.admin, root.key.key_id)) == "DESCENDANTS_CHANGED":
        pass
    over = await asyncio.gather(*creating, return_exceptions=True)
    assert all(isinstance(each, grpc.aio.AioRpcError) for each in over)
    await _nothing_alive(service)


_NAME = FieldMask(paths=["display_name"])


def _renamed(made: Any) -> resources_pb2.Key:
    return resources_pb2.Key(key_id=made.key.key_id, display_name="renamed")


async def _done(call: Awaitable[Any]) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return ""


async def _nothing_alive(service: Service) -> None:
    keys = (await service.admin.ListKeys(owner_id="acme", page_size=1000)).keys
    sessions = (await service.admin.ListSessions(owner_id="acme")).sessions
    assert keys
    assert [each.key_id for each in keys if each.state != REVOKED] == []
    assert list(sessions) == []
