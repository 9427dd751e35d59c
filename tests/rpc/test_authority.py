"""Changes whose caller loses its authority after the call and before the commit (R9).

Each call is made while nothing can be committed. Either the change that removes the authority already
holds its locks and the call waits for them, or the call holds its locks and the time passes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.certificates import replace
from tests.conftest import Client, Clock, Service, database_clock, eventually
from tests.rpc.refusal import refused
from tests.rpc.test_access_table import METHODS, ROWS, Target, delivery_of, disabled_key, scope_of, spent_key
from tests.rpc.test_authentication import Door, door
from tests.rpc.test_policies import set_policy
from tests.rpc.test_rotate import rotate
from tests.rpc.test_update import update

__all__ = ["door"]

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
# A test of a webhook changes nothing.
CHANGES = sorted({method for method in METHODS if scope_of(method).endswith(":write")} - {"TestWebhook"})
ELSEWHERE = "203.0.113.0/24"
SCOPES = ["keys:write", "sessions:write", "policies:write", "webhooks:write"]


class Loss(NamedTuple):
    """A way to lose authority, by a change or by the clock, and the error that the caller gets."""

    code: grpc.StatusCode
    reason: str
    take: Callable[[Service, str], Awaitable[Any]] | None = None
    of_session: bool = False
    fields: dict[str, Any] = {}  # noqa: RUF012 - of the credential


def _reduce(service: Service, key_id: str) -> Awaitable[Any]:
    return update(service, key_id, "scopes", scopes=["keys:read"])


def _of_owner(call: Callable[[Service, str], Awaitable[Any]]) -> Callable[[Service, str], Awaitable[Any]]:
    async def take(service: Service, credential_id: str) -> Any:
        return await call(service, await owner_of(service, credential_id))

    return take


LOSSES = {
    "its key is revoked": Loss(
        UNAUTHENTICATED, "CREDENTIAL_REVOKED", lambda s, key_id: s.admin.RevokeKey(key_id=key_id)
    ),
    "its key is revoked with others": Loss(
        UNAUTHENTICATED, "CREDENTIAL_REVOKED", lambda s, key_id: s.admin.BatchRevokeKeys(key_ids=[key_id])
    ),
    "all keys of its owner are revoked": Loss(
        UNAUTHENTICATED,
        "CREDENTIAL_REVOKED",
        _of_owner(lambda s, owner_id: s.admin.BatchRevokeKeys(owner_id=owner_id)),
    ),
    "its key is rotated": Loss(UNAUTHENTICATED, "CREDENTIAL_REVOKED", rotate),
    "its scopes are reduced": Loss(DENIED, "SCOPE_MISSING", _reduce),
    "its key is disabled": Loss(
        UNAUTHENTICATED, "CREDENTIAL_DISABLED", lambda s, key_id: s.admin.DisableKey(key_id=key_id)
    ),
    "its key is confined to other networks": Loss(
        UNAUTHENTICATED,
        "CREDENTIAL_ADDRESS_NOT_ALLOWED",
        lambda s, key_id: update(s, key_id, "allowed_networks", allowed_networks=[ELSEWHERE]),
    ),
    "its owner is confined to other networks": Loss(
        UNAUTHENTICATED,
        "CREDENTIAL_ADDRESS_NOT_ALLOWED",
        _of_owner(lambda s, owner_id: set_policy(s, owner_id, allowed_networks=[ELSEWHERE])),
    ),
    "its owner is switched off": Loss(
        UNAUTHENTICATED,
        "CREDENTIAL_DISABLED",
        _of_owner(lambda s, owner_id: set_policy(s, owner_id, keys_enabled=False)),
    ),
    "its session is revoked": Loss(
        UNAUTHENTICATED,
        "CREDENTIAL_REVOKED",
        lambda s, session_id: s.admin.RevokeSession(session_id=session_id),
        of_session=True,
    ),
    "all sessions of its owner are revoked": Loss(
        UNAUTHENTICATED,
        "CREDENTIAL_REVOKED",
        _of_owner(lambda s, owner_id: s.admin.RevokeAllSessions(owner_id=owner_id)),
        of_session=True,
    ),
    "its key expires": Loss(UNAUTHENTICATED, "CREDENTIAL_EXPIRED", fields={"ttl": Duration(seconds=600)}),
    "its session is too old": Loss(
        UNAUTHENTICATED, "CREDENTIAL_EXPIRED", of_session=True, fields={"lifetime": Duration(seconds=600)}
    ),
}


async def owner_of(service: Service, credential_id: str) -> str:
    async with service.app.database.connection() as connection:
        owner_id: str = await connection.fetchval(
            "SELECT owner_id FROM authsvc.credentials WHERE credential_id = $1", credential_id
        )
    return owner_id


@asynccontextmanager
async def nothing_commits(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Make every change wait for its audit chain, or for a delivery, with its other locks held."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE authsvc.audit_heads IN EXCLUSIVE MODE")
            await connection.execute("SELECT FROM authsvc.webhook_deliveries FOR UPDATE")
            yield connection
    finally:
        await connection.close()


async def waiting(connection: asyncpg.Connection, count: int) -> None:
    """Return when at least this many transactions wait for a lock."""
    await eventually(
        lambda: connection.fetchval("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"),
        lambda waiters: waiters >= count,
    )


async def target_of(service: Service, admin: Client, owner_id: str) -> Target:
    """Return what the RPCs of the access table are about, for this owner."""
    key = await admin.CreateKey(owner_id=owner_id, display_name="x")
    gone = await admin.CreateKey(owner_id=owner_id, display_name="x")
    await admin.RevokeKey(key_id=gone.key.key_id)
    session = await admin.CreateSession(owner_id=owner_id)
    disabled = await disabled_key(admin, owner_id)
    return Target(
        key.key.key_id,
        key.key_string,
        gone.key.key_id,
        disabled,
        session.session.session_id,
        session.session_token,
        "",  # No change is about a token.
        *(await delivery_of(service, owner_id, admin)),
        spent_key_id=await spent_key(admin, owner_id),
    )


async def traces(database_url: str, credential_id: str) -> dict[str, int]:
    """Return the number of rows that a caller created or changed, by table."""
    connection = await asyncpg.connect(database_url)
    try:
        queries = {
            "keys": "SELECT count(*) FROM authsvc.keys WHERE $1 IN (creator_id, revoker_id)",
            "sessions": "SELECT count(*) FROM authsvc.sessions WHERE $1 IN (creator_id, revoker_id)",
            "ends": "SELECT count(*) FROM authsvc.session_ends WHERE revoker_id = $1",
            "webhooks": "SELECT count(*) FROM authsvc.webhooks WHERE creator_id = $1",
            "events": "SELECT count(*) FROM authsvc.audit_events WHERE actor_id = $1",
        }
        return {what: await connection.fetchval(query, credential_id) for what, query in queries.items()}
    finally:
        await connection.close()


NOTHING = {"keys": 0, "sessions": 0, "ends": 0, "webhooks": 0, "events": 0}


def asked(method: str, target: Target, owner_id: str) -> dict[str, Any]:
    """Return the request in the access table, for this owner."""
    request = ROWS[method].request(target)
    if "owner_id" in request:
        request["owner_id"] = owner_id
    if "policy" in request:
        request["policy"]["owner_id"] = owner_id
    return request


@pytest.mark.parametrize("method", CHANGES)
async def test_who_loses_authority_while_a_call_waits(
    service: Service, database_url: str, clock: Clock, method: str
) -> None:
    """Every RPC that changes something, every way to lose authority: refused, and nothing is written."""
    for number, (how, loss) in enumerate(LOSSES.items()):
        target = await target_of(service, service.admin, f"acme{number}")
        # Only the platform changes policies.
        owner_id = "authsvc" if method == "UpdateOwnerPolicy" else f"acme{number}"
        if owner_id == "authsvc" and "owner" in how:
            continue  # It has no policy, and this test calls with its own key.
        if loss.of_session:
            opened = await service.admin.CreateSession(owner_id=owner_id, scopes=SCOPES, **loss.fields)
            credential_id, text = opened.session.session_id, opened.session_token
        else:
            made = await service.admin.CreateKey(
                owner_id=owner_id, display_name="caller", scopes=SCOPES, **loss.fields
            )
            credential_id, text = made.key.key_id, made.key_string
        caller = service.as_caller(text)
        async with database_clock(database_url) as let_a_day_pass:
            async with nothing_commits(database_url) as other:
                taking: asyncio.Future[Any] | None = None
                if loss.take is not None:
                    taking = asyncio.ensure_future(loss.take(service, credential_id))
                    await waiting(other, 1)
                request = asked(method, target, f"acme{number}")
                calling = asyncio.ensure_future(getattr(caller, method)(**request))
                await waiting(other, 1 if taking is None else 2)
                if taking is None:
                    clock.advance(seconds=600)
                    await let_a_day_pass()
            if taking is not None:
                await taking
            with refused(loss.code, loss.reason):
                await calling
        assert await traces(database_url, credential_id) == NOTHING, how


@pytest.mark.parametrize("method", [method for method in CHANGES if method != "UpdateOwnerPolicy"])
@pytest.mark.parametrize("reduced", [False, True], ids=["taken off the list", "reduced"])
async def test_a_certificate_while_a_call_waits(
    door: Door, database_url: str, method: str, reduced: bool
) -> None:
    """The file of callers counts as it is before the commit, not as it was at authentication."""
    name = "CN=deploy,O=Example"
    listed = '[[caller]]\nsubject = "{}"\nowner_id = "acme"\nscopes = ["{}"]\n'
    replace(door.callers, listed.format(name, 'keys:write", "sessions:write", "webhooks:write').encode())
    await door.look()
    async with (
        door.client("CN=nobody", key_string=door.service.admin_key) as admin,
        door.client(name) as caller,
    ):
        target = await target_of(door.service, admin, "acme")
        async with nothing_commits(database_url) as other:
            calling = asyncio.ensure_future(getattr(caller, method)(**ROWS[method].request(target)))
            await waiting(other, 1)
            left = listed.format(name if reduced else "CN=other", "keys:read")
            replace(door.callers, left.encode())
        code, reason = (DENIED, "SCOPE_MISSING") if reduced else (UNAUTHENTICATED, "CERTIFICATE_UNKNOWN")
        with refused(code, reason):
            await calling
    assert await traces(database_url, name) == NOTHING
