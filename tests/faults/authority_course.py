"""Scenarios in which R9 matters: a caller's change waits, and its authority is revoked meanwhile.

One real worker on a real database, with a clock that jumps. A scenario holds the end of an owner's audit
chain, so that a caller's change waits there until the caller's authority has been
revoked. The revoked callers belong to the platform, whose end is in another chain.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any
from unittest import mock

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from authsvc.app import parts
from authsvc.model.caller import Caller
from authsvc.model.errors import AuthsvcError
from authsvc.model.new_key import NewKey
from authsvc.revocation.authority import Authority
from authsvc.v1 import audit_service_pb2, owner_policy_service_pb2, resources_pb2
from tests.conftest import Clock, Service, database_clock, eventually, serving
from tests.faults.caller_history import CallerHistory, Look, Positions, Taken, Taking

_CERTIFICATE = "CN=deploy,O=Example"
_MANAGERS = owner_policy_service_pb2.KEY_MANAGERS_SESSIONS_ONLY


class By(Enum):
    """How a caller changes a key of acme."""

    CREATION = "one statement that creates it"
    REVOCATION = "one statement that revokes it"
    ROTATION = "a transaction of several statements"


class Listed:
    """A file of callers, which becomes known when it is read."""

    def __init__(self) -> None:
        self.value: Mapping[str, Caller] = {
            _CERTIFICATE: Caller(_CERTIFICATE, "acme", ("keys:write",)),
        }
        self.says = self.value

    async def look(self) -> None:
        """Read it."""
        self.value = self.says


class Chain:
    """The end of an owner's audit chain, which no other transaction can lock until it is released."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._held = connection.transaction()

    async def hold(self, owner_id: str) -> None:
        """Lock it."""
        await self._held.start()
        query = "SELECT true FROM authsvc.audit_heads WHERE owner_id = $1 FOR UPDATE"
        assert await self._connection.fetchval(query, owner_id)

    async def release(self) -> None:
        """Release it."""
        await self._held.rollback()

    async def waited_for(self, waiters: int, done: "asyncio.Future[Any] | None" = None) -> None:
        """Return when at least this many transactions wait for a lock, or when this task is done."""
        query = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
        await eventually(
            lambda: self._connection.fetchval(query),
            lambda waiting: waiting >= waiters or (done is not None and done.done()),
        )


@dataclass
class Course:
    """The events on one worker, and what was observed of its callers."""

    service: Service
    database_url: str
    listed: Listed
    history: CallerHistory = field(default_factory=CallerHistory)
    now: Callable[[], int] = field(default_factory=lambda: count().__next__)

    @asynccontextmanager
    async def chain(self, owner_id: str) -> AsyncIterator[Chain]:
        """Hold the end of an owner's audit chain until it is released, or until the block ends."""
        connection = await asyncpg.connect(self.database_url)
        try:
            chain = Chain(connection)
            await chain.hold(owner_id)
            yield chain
        finally:
            await connection.close()

    def gone(self, caller_id: str, taking: Taking) -> None:
        """Record that the authority of a caller is revoked from now on."""
        self.history.taken.append(Taken(caller_id, taking, "the worker", self.now(), self.now()))

    async def look(self, caller_id: str) -> None:
        """Record which keys of acme a caller has created or revoked, and which of its sessions are alive."""
        invoked = self.now()
        keys = await self.service.admin.ListKeys(owner_id="acme")
        sessions = await self.service.admin.ListSessions(owner_id="acme")
        made = {key.key_id for key in keys.keys if key.creator_id == caller_id}
        made |= {f"revoked {key.key_id}" for key in keys.keys if key.revoker_id == caller_id}
        made |= {opened.session_id for opened in sessions.sessions if opened.creator_id == caller_id}
        self.history.looks.append(Look(caller_id, invoked, frozenset(made)))

    async def under_way(
        self,
        caller_id: str,
        call: Callable[[], Awaitable[Any]],
        take: Callable[[], Awaitable[Any]],
        how: Taking,
    ) -> None:
        """A call waits for acme's chain; the revocation of its authority is answered or waits for it."""

        async def taking() -> None:
            await take()
            self.gone(caller_id, how)
            await self.look(caller_id)

        async with self.chain("acme") as acme:
            calling = asyncio.ensure_future(call())
            await acme.waited_for(1)
            taken = asyncio.ensure_future(taking())
            await acme.waited_for(2, taken)
        await taken
        await over(calling)
        await self.look(caller_id)


@asynccontextmanager
async def course(database_url: str) -> AsyncIterator[Course]:
    """Run a worker with a file of callers and two owners that have audit chains."""
    listed = Listed()

    def with_file(*given: Any, **named: Any) -> Authority:
        return Authority(*given, **{**named, "certified": listed})

    with mock.patch.object(parts, "Authority", with_file):
        async with serving(database_url, Clock()) as service:
            for owner_id in ("authsvc", "acme"):
                await service.admin.CreateKey(owner_id=owner_id, display_name="first")
            yield Course(service, database_url, listed)


async def over(calling: "asyncio.Future[Any]") -> None:
    """Wait for a call to end; the history has its outcome."""
    with suppress(grpc.aio.AioRpcError, AuthsvcError):
        async with asyncio.timeout(20):
            await calling


# The scenarios.


async def a_key_is_revoked_under_way(going: Course, *, by: By = By.CREATION) -> None:
    """A key is revoked while its change waits."""
    key_id, change = await caller(going, by)
    revoke = going.service.admin.RevokeKey
    await going.under_way(key_id, change, lambda: revoke(key_id=key_id), Taking.REVOKED)


async def confine(going: Course, key_id: str) -> None:
    """Confine a key to networks where nobody is."""
    key = resources_pb2.Key(key_id=key_id, allowed_networks=["203.0.113.0/24"])
    await going.service.admin.UpdateKey(key=key, update_mask=FieldMask(paths=["allowed_networks"]))


async def all_sessions_end_under_way(going: Course) -> None:
    """All sessions of an owner are ended, by a row of another session, while the change of one waits."""
    admin = going.service.admin
    opened = await admin.CreateSession(owner_id="authsvc", scopes=["keys:write"])
    caller = going.service.as_caller(opened.session_token)
    await going.under_way(
        opened.session.session_id,
        lambda: caller.CreateKey(owner_id="acme", display_name="late"),
        lambda: admin.RevokeAllSessions(owner_id="authsvc"),
        Taking.SESSIONS_REVOKED,
    )


async def a_first_session_is_opened(going: Course) -> None:
    """All sessions of an owner are ended while the first one is being created."""
    admin = going.service.admin
    made = await admin.CreateKey(owner_id="acme", display_name="opener", scopes=["sessions:write"])
    caller = going.service.as_caller(made.key_string)
    await going.under_way(
        made.key.key_id,
        lambda: caller.CreateSession(owner_id="acme"),
        lambda: admin.RevokeAllSessions(owner_id="acme"),
        Taking.SESSIONS_REVOKED,
    )


async def a_key_expires_under_way(going: Course, *, by: By = By.CREATION) -> None:
    """A key expires while its change waits."""
    key_id, change = await caller(going, by, ttl=Duration(seconds=600))
    async with database_clock(going.database_url) as let_a_day_pass:

        async def take() -> None:
            going.service.clock.advance(seconds=600)
            await let_a_day_pass()

        await going.under_way(key_id, change, take, Taking.EXPIRED)


async def a_key_expires_at_the_end_of_the_feed(going: Course, *, by: By = By.ROTATION) -> None:
    """A key expires while the message that commits its change waits for the end of the feed."""
    key_id, change = await caller(going, by, ttl=Duration(seconds=600))
    connection = await asyncpg.connect(going.database_url)
    try:
        async with database_clock(going.database_url) as let_a_day_pass:
            async with connection.transaction():
                await connection.execute("SELECT FROM authsvc.feed_head FOR UPDATE")
                calling = asyncio.ensure_future(change())
                query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                await eventually(lambda: connection.fetchval(query), lambda waiting: waiting > 0)
                going.service.clock.advance(seconds=600)
                await let_a_day_pass()
                going.gone(key_id, Taking.EXPIRED)
                await going.look(key_id)
            await over(calling)
            await going.look(key_id)
    finally:
        await connection.close()


async def a_certificate_is_taken_off_under_way(going: Course) -> None:
    """A caller with a certificate is removed from its file while its change waits."""
    caller = going.listed.value[_CERTIFICATE]
    new = NewKey(owner_id="acme", display_name="late")

    async def take() -> None:
        going.listed.says = {}

    await going.under_way(
        _CERTIFICATE, lambda: going.service.app.keys.create(caller, new), take, Taking.UNLISTED
    )


async def a_change_comes_after_a_revocation(
    going: Course, *, by: By = By.CREATION, taking: Taking = Taking.REVOKED
) -> None:
    """A revocation has its locks when a change arrives, and both wait; later the change waits again."""
    key_id, change = await caller(going, by)
    admin = going.service.admin
    takes: Mapping[Taking, Callable[[], Awaitable[Any]]] = {
        Taking.REVOKED: lambda: admin.RevokeKey(key_id=key_id),
        Taking.DISABLED: lambda: admin.DisableKey(key_id=key_id),
        Taking.CONFINED: lambda: confine(going, key_id),
    }
    async with going.chain("authsvc") as platform, going.chain("acme") as acme:
        revoking = asyncio.ensure_future(takes[taking]())
        await platform.waited_for(1)
        calling = asyncio.ensure_future(change())
        await platform.waited_for(2)
        await platform.release()
        await revoking
        going.gone(key_id, taking)
        await going.look(key_id)
        await acme.waited_for(1, calling)
    await over(calling)
    await going.look(key_id)


async def a_change_comes_after_a_policy(going: Course, *, by: By = By.CREATION) -> None:
    """Keys lose the permission to manage keys, by a change that has its locks when a key's change arrives."""
    key_id, change = await caller(going, by, owner_id="acme")
    policy = owner_policy_service_pb2.OwnerPolicy(owner_id="acme", key_managers=_MANAGERS)
    async with going.chain("acme") as acme:
        setting = asyncio.ensure_future(
            going.service.admin.UpdateOwnerPolicy(policy=policy, update_mask={"paths": ["key_managers"]})
        )
        await acme.waited_for(1)
        calling = asyncio.ensure_future(change())
        await acme.waited_for(2)
    await setting
    await over(calling)
    page = await going.service.admin.ListAuditEvents(owner_id="acme")
    changed = audit_service_pb2.AUDIT_ACTION_OWNER_POLICY_UPDATED
    [taken] = (event.position for event in page.events if event.action == changed)
    done = tuple(event.position for event in page.events if event.actor_id == key_id)
    going.history.positions.append(Positions(key_id, taken, done))


async def caller(
    going: Course, by: By, *, owner_id: str = "authsvc", **fields: object
) -> tuple[str, Callable[[], Awaitable[Any]]]:
    """Return a new key, and its call that changes a key of acme."""
    admin = going.service.admin
    made = await admin.CreateKey(owner_id=owner_id, display_name="caller", scopes=["keys:write"], **fields)
    calls = going.service.as_caller(made.key_string)
    if by is By.CREATION:
        return made.key.key_id, lambda: calls.CreateKey(owner_id="acme", display_name="late")
    old = await admin.CreateKey(owner_id="acme", display_name="old")
    method = calls.RotateKey if by is By.ROTATION else calls.RevokeKey
    return made.key.key_id, lambda: method(key_id=old.key.key_id)
