"""The follower of a replica: one connection to the feed and one registration for all workers.

Real processes are killed and stopped. A lease of ten minutes shows that nobody waits for one.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import UUID

import grpc

from tests.conftest import Client
from tests.e2e.test_workers import Pack, alive, children, pack

# The last statement of such a connection is a renewal, but for a moment.
FEED_CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND (query LIKE '%authsvc.workers%beat%' OR query LIKE 'LISTEN%')
       AND pid <> pg_backend_pid()
"""
# Nothing waits for the lease if it ends earlier.
SOON = 60


@asynccontextmanager
async def clients(on: Pack, number: int = 12) -> AsyncIterator[list[Client]]:
    """Yield clients with a connection each, which together reach all workers."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(on.client()) for _ in range(number)]


async def create(admin: Client) -> tuple[str, str]:
    made = await admin.CreateKey(owner_id="acme", display_name="Orders")
    return made.key.key_id, made.key_string


async def verified(admins: list[Client], key_string: str) -> set[bool]:
    """Return what all workers say about a key."""
    return {(await admin.VerifyKey(key_string=key_string)).valid for admin in admins}


async def follower_pid(on: Pack) -> int:
    [pid] = (await on.registrations()).values()
    return pid


async def revoked_soon(admins: list[Client], key_id: str, key_string: str) -> None:
    """Revoke a key within a fraction of the lease, and check that every worker refuses it then."""
    async with asyncio.timeout(SOON):
        await admins[0].RevokeKey(key_id=key_id)
    assert await verified(admins, key_string) == {False}


async def test_a_replica_has_one_connection_to_the_feed(directory: Path, database_url: str) -> None:
    """And one registration, whose process is not one of the workers."""
    async with pack(directory, database_url, workers=3, lease=600) as on, clients(on) as admins:
        pids = await on.until(lambda pids: len(pids) == 3)
        assert await follower_pid(on) not in pids
        counts = set()
        for _ in range(40):  # longer than the pause between two renewals
            counts.add(await on.database.fetchval(FEED_CONNECTIONS))
            await asyncio.sleep(0.1)
        assert max(counts) == 1
        key_id, key_string = await create(admins[0])
        assert await verified(admins, key_string) == {True}
        await revoked_soon(admins, key_id, key_string)


async def test_a_killed_follower_is_replaced(directory: Path, database_url: str) -> None:
    """Workers go on with what they know, and attach to the next; the registration of the dead one goes."""
    async with pack(directory, database_url, workers=2, lease=600) as on, clients(on) as admins:
        key_id, key_string = await create(admins[0])
        assert await verified(admins, key_string) == {True}
        [(dead, pid)] = (await on.registrations()).items()
        os.kill(pid, signal.SIGKILL)
        assert await verified(admins, key_string) == {True}
        await revoked_soon(admins, key_id, key_string)
        await until_removed(on, dead)
        assert len(await on.until(lambda pids: len(pids) == 2)) == 2
        assert on.told("the follower has ended: SIGKILL") == 1
        assert on.told("worker 0 has ended") == on.told("worker 1 has ended") == 0


async def test_followers_that_are_killed_again_and_again(directory: Path, database_url: str) -> None:
    """While keys are verified and revoked: no verdict is wrong, and none is missing."""
    async with pack(directory, database_url, workers=2, lease=600) as on, clients(on, 6) as admins:
        for _ in range(5):
            key_id, key_string = await create(admins[0])
            assert await verified(admins, key_string) == {True}
            [*pids] = (await on.registrations()).values()
            for pid in pids:
                if alive([pid]):
                    os.kill(pid, signal.SIGKILL)
            await revoked_soon(admins, key_id, key_string)
        assert on.told("Traceback") == 0


async def test_a_follower_that_hangs_is_replaced(directory: Path, database_url: str) -> None:
    """Before the lease is over, so that verification goes on all the time."""
    async with pack(directory, database_url, workers=2, lease=20) as on, clients(on) as admins:
        key_id, key_string = await create(admins[0])
        os.kill(await follower_pid(on), signal.SIGSTOP)
        deadline = time.monotonic() + SOON
        while not on.told("the follower has ended: SIGKILL"):
            assert await verified(admins, key_string) == {True}
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        await revoked_soon(admins, key_id, key_string)


async def test_a_worker_that_hangs_is_waited_for_once(directory: Path, database_url: str) -> None:
    """A change waits until its lease is over; the next ones do not. It accepts nothing when it continues."""
    async with pack(directory, database_url, workers=2, lease=4) as on, clients(on) as admins:
        keys = [await create(admins[0]) for _ in range(3)]
        for _, key_string in keys:
            assert await verified(admins, key_string) == {True}
        [hung, other] = await on.until(lambda pids: len(pids) == 2)
        admin = await reaching(on, admins, not_pid=hung)
        os.kill(hung, signal.SIGSTOP)
        try:
            began = time.monotonic()
            await admin.RevokeKey(key_id=keys[0][0], timeout=SOON)
            assert time.monotonic() - began > 2  # It had a lease for at least that long.
            applied = await on.database.fetchval("SELECT applied FROM authsvc.workers")
            assert applied == await on.database.fetchval("SELECT seq FROM authsvc.feed_head")
            for key_id, _ in keys[1:]:
                # Not even once a lease: nobody waits for who has none.
                await admin.RevokeKey(key_id=key_id, timeout=2)
        finally:
            os.kill(hung, signal.SIGCONT)
        for _, key_string in keys:
            assert await verified(admins, key_string) == {False}
        assert alive([hung, other]) == [hung, other]


async def test_a_rolling_restart_keeps_the_registration(directory: Path, database_url: str) -> None:
    """New workers attach to the same follower."""
    async with pack(directory, database_url, workers=2, lease=600) as on, clients(on) as admins:
        before, registrations = await on.until(lambda pids: len(pids) == 2), await on.registrations()
        on.signal(signal.SIGHUP)
        await on.tells("the rolling restart is done")
        await on.until(lambda pids: len(pids) == 2 and not set(pids) & set(before))
        assert await on.registrations() == registrations
        key_id, key_string = await create(admins[0])
        await revoked_soon(admins, key_id, key_string)


async def test_a_stop_removes_the_registration(directory: Path, database_url: str) -> None:
    """The follower ends last, and cleanly."""
    async with pack(directory, database_url, workers=2, lease=600) as on:
        family = children(on.server.process.pid)
        assert on.server.end() == 0
        assert await on.registrations() == {}
        assert alive(family) == []
        assert on.told("did not stop cleanly") == 0


async def reaching(on: Pack, admins: list[Client], not_pid: int) -> Client:
    """Return a client whose worker is not this one."""
    os.kill(not_pid, signal.SIGSTOP)
    try:
        for admin in admins:
            try:
                await admin.ListKeys(owner_id="acme", timeout=1)
            except grpc.aio.AioRpcError:
                continue
            return admin
    finally:
        os.kill(not_pid, signal.SIGCONT)
    raise AssertionError("all clients have the same worker")


async def until_removed(on: Pack, dead: UUID) -> None:
    """Wait until a registration is gone, and another is there."""
    deadline = time.monotonic() + SOON
    while dead in (now := await on.registrations()) or len(now) != 1:
        assert time.monotonic() < deadline, now
        await asyncio.sleep(0.05)
