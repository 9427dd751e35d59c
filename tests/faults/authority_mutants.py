"""Each part of R9 and of R17 is left out in turn, in a scenario in which it matters.

With all of them, no change is made too late. Without a part, the checker finds such a change.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias
from unittest import mock

import asyncpg

from authsvc.model.policy import OwnerPolicy
from authsvc.revocation import descendants
from authsvc.revocation.authority import Authority, Authorized
from authsvc.revocation.descendants import Descendants
from authsvc.store import authority as authority_store
from authsvc.store import descendants as descendant_store
from authsvc.store.authority import Claim
from authsvc.store.policies import PolicyStore
from tests.faults.authority_course import (
    By,
    Course,
    a_certificate_is_taken_off_under_way,
    a_change_comes_after_a_policy,
    a_change_comes_after_a_revocation,
    a_first_session_is_opened,
    a_key_expires_at_the_end_of_the_feed,
    a_key_expires_under_way,
    a_key_is_revoked_under_way,
    all_sessions_end_under_way,
    course,
)
from tests.faults.caller_history import CallerHistory, Taking
from tests.faults.cascade_course import (
    a_creator_ends_by_schedule_under_a_cascade,
    a_descendant_creates_under_a_cascade,
    a_key_is_created_under_a_cascade,
)

Mutation: TypeAlias = Callable[[Course], AbstractAsyncContextManager[None]]
_hold, _find, _session_owners = authority_store.hold, PolicyStore.find, authority_store._session_owners


def _patched(target: Any, name: str, value: Any) -> Mutation:
    @asynccontextmanager
    async def patched(_: Course) -> AsyncIterator[None]:
        with mock.patch.object(target, name, value):
            yield

    return patched


def _function(*changes: tuple[str, str], name: str = "hold_authority") -> Mutation:
    """Return a mutation that replaces patterns in a function of the schema, in this scenario's database."""

    @asynccontextmanager
    async def replaced(going: Course) -> AsyncIterator[None]:
        connection = await asyncpg.connect(going.database_url)
        try:
            body = await connection.fetchval("SELECT pg_get_functiondef($1::regproc)", f"authsvc.{name}")
            for pattern, by in changes:
                body, found = re.subn(pattern, by, body, flags=re.DOTALL)
                assert found, f"there is no {pattern}"
            await connection.execute(body)
        finally:
            await connection.close()
        yield

    return replaced


def _no_claim(**fields: Any) -> Mutation:
    """Return a mutation that makes transactions claim less."""

    async def hold(connection: Any, callers: Any, claim: Claim, default: Any) -> Any:
        return await _hold(connection, callers, replace(claim, **fields), default)

    return _patched(authority_store, "hold", hold)


# Neither by concurrent calls that share a transaction, nor by one that waits.
_sessions_not_shared = _patched(
    authority_store, "_session_owners", lambda callers, _: _session_owners(callers, ())
)


async def _hold_and_let_go(connection: Any, *given: Any) -> Any:
    await connection.execute("SAVEPOINT held")
    found = await _hold(connection, *given)
    await connection.execute("ROLLBACK TO SAVEPOINT held")
    return found


@asynccontextmanager
async def _policies_read_first(_: Course) -> AsyncIterator[None]:
    read: dict[Any, OwnerPolicy] = {}

    async def hold(connection: Any, callers: Any, claim: Claim, default: OwnerPolicy) -> Any:
        read[connection] = await _find(PolicyStore(default), connection, "acme")
        return await _hold(connection, callers, claim, default)

    async def find(store: PolicyStore, connection: Any, owner_id: str) -> OwnerPolicy:
        return read.get(connection) or await _find(store, connection, owner_id)

    with mock.patch.object(authority_store, "hold", hold), mock.patch.object(PolicyStore, "find", find):
        yield


async def _not_read(*_: Any) -> None: ...


def _both(one: Mutation, other: Mutation) -> Mutation:
    @asynccontextmanager
    async def both(going: Course) -> AsyncIterator[None]:
        async with one(going), other(going):
            yield

    return both


async def _known_only(*given: Any) -> Any:
    return given[-1]


async def _as_if_locked(*_: Any) -> bool:
    return True


async def _hold_the_key_only(connection: Any, callers: Any, claim: Claim, default: Any) -> Any:
    return await _hold(connection, callers, replace(claim, changes=list(claim.changes)[:1]), default)


_NO_LOOK = (r"PERFORM authsvc.refuse_from\([^;]*;", "")
# In the statements that create and revoke keys.
_READ_ONLY = (
    r"SELECT h.kind.*? INTO held\s*FROM authsvc.hold_authority.*?;",
    "SELECT c.*, false AS is_over INTO held FROM authsvc.credentials c"
    " WHERE c.credential_id = hold_judged.caller_id;",
)
_NOT_JUDGED = _function(
    (r"end_time := least\(.*?;", ""), (r"is_as_judged := FOUND .*?;", ""), name="hold_judged"
)
_HELD = r"SELECT h.is_as_judged.*?NOT held.is_as_judged;"
_SHARED = (
    (r"PERFORM pg_advisory_xact_lock_shared", "PERFORM "),
    (r"FOR KEY SHARE", ""),
)
_EXCLUSIVE = (
    (r"PERFORM pg_advisory_xact_lock\(", "PERFORM ("),
    (r"FOR UPDATE", ""),
)
_READ_FIRST = ((r"(\n *BEGIN\n)(.*)(\n *RETURN QUERY.*?;)", r"\1\3\2"),)

# What is left out, how, and the scenario in which it matters.
MUTANTS: dict[str, tuple[Mutation, Callable[[Course], Awaitable[None]]]] = {
    "no lock on a credential": (_function(*_SHARED), a_key_is_revoked_under_way),
    "no lock on sessions": (_function(*_SHARED), all_sessions_end_under_way),
    "a revoker without a lock": (_function(*_EXCLUSIVE), a_key_is_revoked_under_way),
    "all sessions ended without a lock": (_function(*_EXCLUSIVE), all_sessions_end_under_way),
    "locks that go before the commit": (
        _patched(authority_store, "hold", _hold_and_let_go),
        partial(a_key_is_revoked_under_way, by=By.ROTATION),
    ),
    "credentials read before the locks": (_function(*_READ_FIRST), a_change_comes_after_a_revocation),
    "policies read before the locks": (
        _policies_read_first,
        partial(a_change_comes_after_a_policy, by=By.ROTATION),
    ),
    "callers not judged again": (
        _both(
            _patched(Authority, "judge", lambda _, caller, *__: caller), _function(_NO_LOOK, name="publish")
        ),
        partial(a_change_comes_after_a_revocation, by=By.ROTATION),
    ),
    "a key created without locks": (
        _function(_READ_ONLY, name="hold_judged"),
        a_key_is_revoked_under_way,
    ),
    "a key created for a caller that was not judged again": (
        _NOT_JUDGED,
        a_change_comes_after_a_revocation,
    ),
    "a key created for a caller that is disabled": (
        _function((r"AND \(held.disable_time IS NULL.*?\n", ""), name="hold_judged"),
        partial(a_change_comes_after_a_revocation, taking=Taking.DISABLED),
    ),
    "a key rotated for a caller that is disabled": (
        _patched(authority_store, "disabled_until", lambda *_: None),
        partial(a_change_comes_after_a_revocation, by=By.ROTATION, taking=Taking.DISABLED),
    ),
    "a key revoked for a caller that is confined to other networks": (
        _function((r"AND held.allowed_networks.*?\n", ""), name="hold_judged"),
        partial(a_change_comes_after_a_revocation, by=By.REVOCATION, taking=Taking.CONFINED),
    ),
    "a key rotated for a caller that is confined to other networks": (
        _patched(authority_store, "allowed_networks", lambda _: None),
        partial(a_change_comes_after_a_revocation, by=By.ROTATION, taking=Taking.CONFINED),
    ),
    "a key created by a policy that was not compared": (
        _function((r"CONTINUE WHEN key.owner_id <> 'authsvc' AND .*?;", ""), name="create_keys"),
        a_change_comes_after_a_policy,
    ),
    "a key created by a policy that was compared before the locks": (
        _function(
            (rf"({_HELD})(.*?)(CONTINUE WHEN key.owner_id <> 'authsvc' AND .*?;)", r"\3\1\2"),
            name="create_keys",
        ),
        a_change_comes_after_a_policy,
    ),
    "a key created without a last look at the clock": (
        _function(_NO_LOOK, name="create_keys"),
        a_key_expires_under_way,
    ),
    "a key revoked without locks": (
        _function(_READ_ONLY, name="hold_judged"),
        partial(a_key_is_revoked_under_way, by=By.REVOCATION),
    ),
    "a key revoked for a caller that was not judged again": (
        _NOT_JUDGED,
        partial(a_change_comes_after_a_revocation, by=By.REVOCATION),
    ),
    "a key revoked by a policy that was not compared": (
        _function((r"given.version\s*<> coalesce.*?OR cardinality", "cardinality"), name="revoke_keys"),
        partial(a_change_comes_after_a_policy, by=By.REVOCATION),
    ),
    "a key revoked by a policy that was compared before the locks": (
        _function((rf"({_HELD})(.*?)(CONTINUE WHEN given.version.*?;)", r"\3\1\2"), name="revoke_keys"),
        partial(a_change_comes_after_a_policy, by=By.REVOCATION),
    ),
    "a key revoked without a last look at the clock": (
        _function(_NO_LOOK, name="publish"),
        partial(a_key_expires_at_the_end_of_the_feed, by=By.REVOCATION),
    ),
    "no look at the clock behind the end of the feed": (
        _function(_NO_LOOK, name="publish"),
        a_key_expires_at_the_end_of_the_feed,
    ),
    "nothing to do, said without a lock": (_no_claim(ends_sessions_of=None), a_first_session_is_opened),
    "sessions opened without a lock": (_sessions_not_shared, a_first_session_is_opened),
    "no last look at the clock": (
        _both(_patched(Authorized, "refuse_if_gone", lambda *_: None), _function(_NO_LOOK, name="publish")),
        partial(a_key_expires_under_way, by=By.ROTATION),
    ),
    "a cascade that reads once": (
        _patched(Descendants, "lock_all", _known_only),
        a_key_is_created_under_a_cascade,
    ),
    "a cascade without locks": (_no_claim(changes=()), a_key_is_created_under_a_cascade),
    "a cascade whose creators do not share": (_function(*_SHARED), a_key_is_created_under_a_cascade),
    "a cascade that locks the key only": (
        _patched(authority_store, "hold", _hold_the_key_only),
        a_descendant_creates_under_a_cascade,
    ),
    "a cascade that does not lock what is new": (
        _patched(descendant_store, "lock_free", _as_if_locked),
        partial(a_descendant_creates_under_a_cascade, is_known=False),
    ),
    "a cascade that does not lock creators whose time is over": (
        _patched(descendants, "_SETTLED_AFTER", timedelta()),
        a_creator_ends_by_schedule_under_a_cascade,
    ),
    "no last look at the file": (
        _patched(Authority, "read_caller_file", _not_read),
        a_certificate_is_taken_off_under_way,
    ),
}


async def run(name: str, database_url: str, *, mutated: bool) -> CallerHistory:
    """Run the scenario of a mutant, with the whole rule or without a part; return what was observed."""
    mutate, happens = MUTANTS[name]
    async with course(database_url) as going, mutate(going) if mutated else nullcontext():
        await happens(going)
    return going.history
