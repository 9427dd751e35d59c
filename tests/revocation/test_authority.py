"""Revocations and concurrent changes by the callers that they revoke."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import Unauthenticated
from authsvc.model.session import NewSession
from authsvc.v1 import owner_policy_service_pb2, resources_pb2
from tests.conftest import Clock, Service, serving
from tests.faults.load import reason_of
from tests.rpc.refusal import refused
from tests.rpc.test_authority import nothing_commits, waiting
from tests.rpc.test_policies import set_policy
from tests.rpc.test_revoke import code_of as key_code
from tests.rpc.test_revoke import make
from tests.rpc.test_sessions import code_of as session_code
from tests.rpc.test_update import update

DENIED = grpc.StatusCode.PERMISSION_DENIED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
SESSIONS_ONLY = owner_policy_service_pb2.KEY_MANAGERS_SESSIONS_ONLY


async def opener(service: Service) -> Any:
    return await make(service, scopes=["sessions:write", "keys:write"])


async def test_a_session_that_is_being_opened_is_ended_with_all(  # rule 26
    service: Service, database_url: str
) -> None:
    """RevokeAllSessions waits for it, even if there is no other session to end."""
    made = await opener(service)
    async with nothing_commits(database_url) as other:
        opening = asyncio.ensure_future(service.as_caller(made.key_string).CreateSession(owner_id="acme"))
        await waiting(other, 1)
        ending = asyncio.ensure_future(service.admin.RevokeAllSessions(owner_id="acme"))
        await waiting(other, 2)
        assert not ending.done()
    opened = await opening
    assert (await ending).revoked_count == 1
    assert await session_code(service, opened.session_token) == "REVOKED"


@pytest.mark.parametrize("whole_owner", [False, True])
async def test_no_session_outlives_its_opener_and_the_end_of_all(
    service: Service, database_url: str, whole_owner: bool
) -> None:
    """The key is revoked, then all sessions are ended, both answered OK: none that it created is alive."""
    made = await opener(service)
    caller = service.as_caller(made.key_string)
    which: dict[str, Any] = {"owner_id": "acme"} if whole_owner else {"key_ids": [made.key.key_id]}

    async def end() -> None:
        await service.admin.BatchRevokeKeys(**which)
        await service.admin.RevokeAllSessions(owner_id="acme")

    async with nothing_commits(database_url) as other:
        opening = [asyncio.ensure_future(caller.CreateSession(owner_id="acme")) for _ in range(40)]
        await waiting(other, 2)  # Concurrent sessions share a transaction.
        ending = asyncio.ensure_future(end())
        await waiting(other, 3)
    await ending
    opened = await asyncio.gather(*opening, return_exceptions=True)
    codes = [await session_code(service, o.session_token) for o in opened if not isinstance(o, BaseException)]
    assert set(codes) <= {"REVOKED"}
    assert {reason_of(o) for o in opened if isinstance(o, grpc.aio.AioRpcError)} <= {"CREDENTIAL_REVOKED"}


async def test_only_sessions_may_manage_from_the_answer_on(  # rule 6
    service: Service, database_url: str
) -> None:
    """A key that is creating a session which could manage keys is refused; one that cannot is created."""
    made = await opener(service)
    caller = service.as_caller(made.key_string)
    async with nothing_commits(database_url) as other:
        setting = asyncio.ensure_future(set_policy(service, key_managers=SESSIONS_ONLY))
        await waiting(other, 1)
        managing = asyncio.ensure_future(caller.CreateSession(owner_id="acme", scopes=["keys:write"]))
        plain = asyncio.ensure_future(caller.CreateSession(owner_id="acme", scopes=["sessions:write"]))
        minting = asyncio.ensure_future(caller.CreateKey(owner_id="acme", display_name="x"))
        await waiting(other, 3)
    await setting
    with refused(DENIED, "KEY_MANAGER_NOT_PERMITTED"):
        await managing
    with refused(DENIED, "KEY_MANAGER_NOT_PERMITTED"):
        await minting
    assert await session_code(service, (await plain).session_token) == "VALID"


async def test_scopes_are_granted_as_they_are_at_the_commit(  # rule 6
    service: Service, database_url: str
) -> None:
    """A caller that has lost a scope does not grant it any more, by a key or by a session."""
    made = await make(service, scopes=["keys:write", "sessions:write", "a"])
    target = await make(service)
    caller = service.as_caller(made.key_string)
    async with nothing_commits(database_url) as other:
        scopes = ["keys:write", "sessions:write"]
        reducing = asyncio.ensure_future(update(service, made.key.key_id, "scopes", scopes=scopes))
        await waiting(other, 1)
        key = resources_pb2.Key(key_id=target.key.key_id, scopes=["a"])
        granting = [
            asyncio.ensure_future(call)
            for call in (
                caller.CreateKey(owner_id="acme", display_name="x", scopes=["a"]),
                caller.CreateSession(owner_id="acme", scopes=["a"]),
                caller.UpdateKey(key=key, update_mask={"paths": ["scopes"]}),
            )
        ]
        await waiting(other, 4)
    await reducing
    for call in granting:
        with refused(DENIED, "SCOPE_NOT_GRANTABLE"):
            await call


async def test_who_goes_while_others_open_is_refused_alone(
    service: Service, database_url: str, clock: Clock
) -> None:
    """Concurrent sessions share a transaction; a caller that expires in the middle affects no other."""
    short = await make(service, scopes=["sessions:write"], ttl=Duration(seconds=600))
    long = await make(service, scopes=["sessions:write"])
    callers = [
        Caller(made.key.key_id, "acme", ("sessions:write",), CredentialKind.KEY)
        for made in (long, short, long)
    ]
    async with nothing_commits(database_url) as other:
        creating = [service.app.sessions.create(caller, NewSession(owner_id="acme")) for caller in callers]
        opening = asyncio.gather(*creating, return_exceptions=True)
        await waiting(other, 1)
        clock.advance(seconds=600)
    first, expired, last = await opening
    assert isinstance(expired, Unauthenticated)
    assert expired.reason == "CREDENTIAL_EXPIRED"
    for opened in (first, last):
        assert not isinstance(opened, BaseException)
        assert await session_code(service, opened[1].text) == "VALID"
    listed = await service.admin.ListSessions(owner_id="acme", include_ended=True)
    assert len(listed.sessions) == 2


def put_off(service: Service, key_id: str, seconds: int) -> Awaitable[Any]:
    return service.admin.RevokeKey(key_id=key_id, revoke_in=Duration(seconds=seconds))


async def test_a_revocation_that_is_put_off_keeps_its_place(  # rules 5, 14
    service: Service, database_url: str, clock: Clock
) -> None:
    """A key that is created meanwhile counts it, although its revocation was about to take effect."""
    await set_policy(service, max_active_keys=1)
    made = await make(service)
    await put_off(service, made.key.key_id, 600)
    clock.advance(seconds=599)
    async with nothing_commits(database_url) as other:
        putting = asyncio.ensure_future(put_off(service, made.key.key_id, 3600))
        await waiting(other, 1)
        creating = asyncio.ensure_future(make(service))
        await waiting(other, 2)
    await putting
    clock.advance(seconds=1)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await creating
    assert await key_code(service, made.key_string) == "VALID"


async def test_no_room_is_taken_twice_by_putting_off(service: Service, clock: Clock) -> None:  # rule 5
    """If another key has taken its place, by a clock that is slightly ahead, it cannot be postponed."""
    await set_policy(service, max_active_keys=1)
    made = await make(service)
    await put_off(service, made.key.key_id, 600)
    clock.advance(seconds=600)
    successor = await make(service)
    clock.advance(seconds=-1)
    with refused(PRECONDITION, "MAX_ACTIVE_KEYS"):
        await put_off(service, made.key.key_id, 3600)
    clock.advance(seconds=1)
    assert await key_code(service, made.key_string) == "REVOKED"
    assert await key_code(service, successor.key_string) == "VALID"


async def test_what_has_taken_effect_is_not_put_off(  # rules 14, 16
    service: Service, database_url: str, clock: Clock
) -> None:
    """A revocation that takes effect while a change waits to postpone it stays."""
    made = await make(service)
    await put_off(service, made.key.key_id, 600)
    async with nothing_commits(database_url) as other:
        putting = asyncio.ensure_future(put_off(service, made.key.key_id, 3600))
        await waiting(other, 1)
        clock.advance(seconds=600)
        assert await key_code(service, made.key_string) == "REVOKED"
    with refused(PRECONDITION, "KEY_ALREADY_REVOKED"):
        await putting
    assert await key_code(service, made.key_string) == "REVOKED"
    key = await service.admin.GetKey(key_id=made.key.key_id)
    assert key.state == resources_pb2.KEY_STATE_REVOKED


async def test_who_revoke_one_another_do_not_wait_in_a_circle(database_url: str) -> None:
    """Callers that revoke themselves, each other, and whole owners: each call succeeds, or is too late."""
    async with serving(database_url, None) as one, serving(database_url, None) as two:
        workers = (one, two)
        for _ in range(10):
            made = [await make(one, scopes=["keys:write", "sessions:write"]) for _ in range(3)]
            opened = await one.admin.CreateSession(owner_id="acme", scopes=["keys:write", "sessions:write"])
            texts = [key.key_string for key in made] + [opened.session_token]
            calls: list[Awaitable[Any]] = []
            for number, text in enumerate(texts):
                caller = workers[number % 2].as_caller(text)
                ids = [key.key.key_id for key in made]
                calls += [caller.RevokeKey(key_id=key_id) for key_id in ids]
                calls += [
                    caller.BatchRevokeKeys(key_ids=ids[::-1]),
                    caller.BatchRevokeKeys(owner_id="acme"),
                    caller.RevokeSession(session_id=opened.session.session_id),
                    caller.RevokeAllSessions(owner_id="acme"),
                    caller.CreateSession(owner_id="acme"),
                ]
            done = await asyncio.gather(*calls, return_exceptions=True)
            told = {reason_of(error) for error in done if isinstance(error, grpc.aio.AioRpcError)}
            assert told <= {"CREDENTIAL_REVOKED", "KEY_ALREADY_REVOKED", "SESSION_ALREADY_REVOKED"}
            assert len([answer for answer in done if not isinstance(answer, Exception)]) > 0


async def test_whatever_isolation_is_the_default(database_url: str) -> None:
    """A role or database whose default is REPEATABLE READ has no snapshot from before the locks."""
    connection = await asyncpg.connect(database_url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(
            f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'"
        )
    finally:
        await connection.close()
    async with serving(database_url, None) as service:
        made = await opener(service)
        async with nothing_commits(database_url) as other:
            revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=made.key.key_id))
            await waiting(other, 1)
            creating = asyncio.ensure_future(
                service.as_caller(made.key_string).CreateKey(owner_id="acme", display_name="x")
            )
            await waiting(other, 2)
        await revoking
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED"):
            await creating
