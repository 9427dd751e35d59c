"""Sessions that are created at the same time share a transaction, but no locks of different owners."""

import asyncio

import asyncpg
import pytest

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.session import NewSession
from tests.conftest import Service
from tests.rpc.test_authority import waiting
from tests.rpc.test_revoke import make

# What other transactions may lock: the owner, or the key that creates its sessions ($1: owner, $2: key).
LOCKS = {
    "owner": "SELECT pg_advisory_xact_lock(hashtextextended($1, 0)) WHERE $2 <> ''",
    "sessions": "SELECT pg_advisory_xact_lock(hashtextextended('sessions of ' || $1, 0)) WHERE $2 <> ''",
    "key": "SELECT key_id FROM authsvc.keys WHERE owner_id = $1 AND key_id = $2 FOR UPDATE",
    "chain": "SELECT position FROM authsvc.audit_heads WHERE owner_id = $1 AND $2 <> '' FOR UPDATE",
}


async def opener(service: Service, owner_id: str) -> Caller:
    made = await make(service, owner_id=owner_id, scopes=["sessions:write"])
    return Caller(made.key.key_id, owner_id, ("sessions:write",), CredentialKind.KEY)


@pytest.mark.parametrize("held", LOCKS)
async def test_nobody_waits_for_the_locks_of_another_owner(
    service: Service, database_url: str, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """A session that has to wait for a lock is created later, and does not delay the others."""
    monkeypatch.setattr("authsvc.store.lock_wait._LOCK_TIMEOUT_MS", 600_000)
    monkeypatch.setattr("authsvc.store.lock_wait._SHORT_LOCK_TIMEOUT_MS", 20)
    slow, quick = [await opener(service, owner_id) for owner_id in ("slow", "quick")]

    def opening(caller: Caller) -> "asyncio.Task[object]":
        return asyncio.create_task(service.app.sessions.create(caller, NewSession(owner_id=caller.owner_id)))

    locker = await asyncpg.connect(database_url)
    try:
        async with locker.transaction():
            await locker.execute(LOCKS[held], "slow", slow.credential_id)
            # More than the concurrent transactions can contain.
            held_up = [opening(slow) for _ in range(40)]
            beside = opening(quick)
            await waiting(locker, 1)
            await beside
            await opening(quick)
            assert not any(task.done() for task in held_up)
        await asyncio.gather(*held_up)
    finally:
        await locker.close()
    listed = await service.admin.ListSessions(owner_id="slow", page_size=100)
    assert len(listed.sessions) == 40
