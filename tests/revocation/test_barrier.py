"""A change is answered when every worker applies it: several workers on one database, in one process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio

from authsvc.model.caller import BOOTSTRAP, Caller
from authsvc.model.errors import DeadlineExceeded, Unavailable
from authsvc.model.policy import OwnerPolicy
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.store import feed as feed_store
from authsvc.store import pool
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.v1 import resources_pb2
from authsvc.verify.clock import DatabaseClock, Stopwatch, boottime
from authsvc.verify.lease import certainly_over
from tests.conftest import BRIEFLY, MovedStopwatch, Patience, Service, serving
from tests.rpc.refusal import refused

LEASE = 30.0


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as database:
        yield database


def barrier_of(database: Database, stopwatch: Stopwatch = boottime) -> Barrier:
    """Return a barrier like that of the command line: for callers without a credential."""
    authority = Authority(database, PolicyStore(OwnerPolicy()), DatabaseClock())
    return Barrier(database, authority, stopwatch=stopwatch)


@asynccontextmanager
async def two_workers(database_url: str) -> AsyncIterator[tuple[Service, Service]]:
    async with serving(database_url, None) as one, serving(database_url, None) as other:
        other.admin_key = one.admin_key
        yield one, other


async def register(database: Database, lease: float = LEASE) -> str:
    """Register a worker that never applies anything; return its id."""
    worker_id = str(uuid4())
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO authsvc.workers (worker_id, lease_ms, host, pid) VALUES ($1, $2, 'nowhere', 1)",
            worker_id,
            int(lease * 1000),
        )
    return worker_id


async def code(service: Service, key_string: str, *scopes: str) -> str:
    answer = await service.admin.VerifyKey(key_string=key_string, required_scopes=scopes)
    return resources_pb2.VerdictCode.Name(answer.code).removeprefix("VERDICT_CODE_")


def ended(service: Service) -> dict[str, int]:
    """Return how many changes have waited, by how it ended, as the metrics have it."""
    return {outcome: waits.counts[-1] for outcome, waits in service.app.barrier.waits.items()}


@pytest.mark.parametrize("change", ["revoke", "schedule", "update", "rotate", "batch", "owner", "delete"])
async def test_every_worker_knows(database_url: str, change: str) -> None:  # rules 14, 15, 16, 18, 30
    """A change by one worker is applied by another one as soon as it is answered."""
    async with two_workers(database_url) as (one, other):
        made = await one.admin.CreateKey(owner_id="acme", display_name="Orders", scopes=["orders:read"])
        key_id = made.key.key_id
        assert await code(other, made.key_string, "orders:read") == "VALID"
        expected = "REVOKED"
        match change:
            case "revoke":
                await one.admin.RevokeKey(key_id=key_id)
            case "schedule":
                await one.admin.RevokeKey(key_id=key_id, revoke_in={"nanos": 1000})
            case "update":
                await one.admin.UpdateKey(
                    key=resources_pb2.Key(key_id=key_id), update_mask={"paths": ["scopes"]}
                )
                expected = "INSUFFICIENT_SCOPE"
            case "rotate":
                await one.admin.RotateKey(key_id=key_id)
            case "batch":
                await one.admin.BatchRevokeKeys(key_ids=[key_id])
            case "owner":
                await one.admin.BatchRevokeKeys(owner_id="acme")
            case "delete":
                await one.admin.RevokeKey(key_id=key_id)
                await one.admin.DeleteKey(key_id=key_id)
                expected = "NOT_FOUND"
        assert await code(other, made.key_string, "orders:read") == expected
        assert await code(one, made.key_string, "orders:read") == expected


async def test_a_whole_owner_is_one_entry(database_url: str, database: Database) -> None:
    """For any number of keys of an owner, the feed gets one entry, and every worker forgets them all."""
    async with two_workers(database_url) as (one, other):
        made = [
            await one.admin.CreateKey(owner_id="acme", display_name=str(i), scopes=["a"]) for i in range(12)
        ]
        assert {await code(other, key.key_string) for key in made} == {"VALID"}
        before = one.app.holder.seq
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("authsvc.keys.revoke.MAX_RETURNED_KEYS", 5)
            answer = await one.admin.BatchRevokeKeys(owner_id="acme")
        assert answer.revoked_count == 12
        assert one.app.holder.seq == other.app.holder.seq == before + 1
        assert {await code(other, key.key_string) for key in made} == {"REVOKED"}


async def test_a_new_name_waits_for_nobody(database_url: str, database: Database) -> None:
    """A change that does not affect verification adds no entry, and waits for no worker that is gone."""
    async with serving(database_url, None) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        await register(database)
        before = service.app.holder.seq
        key = resources_pb2.Key(key_id=made.key.key_id, display_name="Bills")
        await service.admin.UpdateKey(key=key, update_mask={"paths": ["display_name"]})
        assert service.app.holder.seq == before


async def test_it_waits_for_who_has_not_confirmed(database_url: str, database: Database) -> None:
    """A worker that does not answer is waited for until the lease in its row is certainly over."""
    async with serving(database_url, None) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        await register(database, lease=0.3)
        slow = await register(database, lease=0.6)
        started = boottime()
        await service.admin.RevokeKey(key_id=made.key.key_id)
        assert boottime() - started >= certainly_over(0.6)
        assert ended(service) == {"confirmed": 0, "lease_over": 1, "unconfirmed": 0}
        assert service.app.barrier.waits["lease_over"].total >= certainly_over(0.6)
        async with database.connection() as connection:
            assert (
                await connection.fetchval("SELECT applied FROM authsvc.workers WHERE worker_id = $1", slow)
                == -1
            )


async def test_a_worker_that_left_is_not_waited_for(database_url: str, database: Database) -> None:
    """A registration that is removed while a change waits is not waited for any more."""
    async with serving(database_url, None) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        gone = await register(database, lease=3600)
        revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=made.key.key_id))
        while await code(service, made.key_string) == "VALID":
            pass
        assert not revoking.done()
        assert service.app.barrier.waiting == 1
        async with database.connection() as connection:
            await connection.execute("DELETE FROM authsvc.workers WHERE worker_id = $1", gone)
        assert (await revoking).state == resources_pb2.KEY_STATE_REVOKED
        assert service.app.barrier.waiting == 0
        assert ended(service) == {"confirmed": 1, "lease_over": 0, "unconfirmed": 0}


async def test_a_deadline_before_all_have_confirmed(
    database_url: str, database: Database, patience: Patience
) -> None:  # rule 17
    """The caller learns in time that it is durable and who is missing; a retry waits for the rest."""
    async with serving(database_url, None, stopwatch=patience.stopwatch) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        gone = await register(database, lease=3600)
        for said in ("durably revoked", "nothing is left to do"):  # The retry waits, too.
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "WORKERS_UNCONFIRMED") as refusal:
                await patience.ends(service.admin.RevokeKey(key_id=made.key.key_id, timeout=BRIEFLY))
            assert f"{said}, 1 worker unconfirmed" in refusal.message
            assert refusal.info.metadata["workers"] == gone
        assert ended(service) == {"confirmed": 0, "lease_over": 0, "unconfirmed": 2}
        assert await code(service, made.key_string) == "REVOKED"
        async with database.connection() as connection:
            await connection.execute("DELETE FROM authsvc.workers")
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_ALREADY_REVOKED"):
            await service.admin.RevokeKey(key_id=made.key.key_id)


async def test_the_database_gone_while_a_change_waits(database_url: str, database: Database) -> None:
    """A worker that was behind at the last successful listing is waited for; later ones need not be."""
    stopwatch = MovedStopwatch()
    waiting = barrier_of(database, stopwatch)
    await register(database, lease=3600)
    started = stopwatch()
    calls = 0
    looked = asyncio.Event()
    find_behind = feed_store.find_behind

    async def once(*asked: Any) -> object:
        nonlocal calls
        calls += 1
        if calls > 1:
            looked.set()
            raise Unavailable("gone", reason="DATABASE_UNAVAILABLE", retry_after=1)
        return await find_behind(*asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("authsvc.revocation.barrier.feed_store.find_behind", once)
        publishing = asyncio.ensure_future(_publish(waiting))
        await asyncio.wait_for(looked.wait(), 10)
        stopwatch.advance(3600)
        looked.clear()
        await asyncio.wait_for(looked.wait(), 10)
        assert not publishing.done()
        stopwatch.advance(certainly_over(3600) - 3600)
        await publishing
    assert stopwatch() - started >= certainly_over(3600)
    assert calls > 1


async def test_workers_that_cannot_be_listed_at_all(database: Database) -> None:
    """If the workers are not known, no wait is long enough."""
    stopwatch = MovedStopwatch()
    waiting = barrier_of(database, stopwatch)
    asked = asyncio.Event()

    async def gone(*_: object) -> object:
        asked.set()
        raise Unavailable("gone", reason="DATABASE_UNAVAILABLE", retry_after=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("authsvc.revocation.barrier.feed_store.find_behind", gone)
        caller = BOOTSTRAP._replace(deadline=stopwatch() + 3600)
        publishing = asyncio.ensure_future(_publish(waiting, caller))
        for seconds in (1800, 1800):
            asked.clear()
            await asyncio.wait_for(asked.wait(), 10)
            assert not publishing.done()
            stopwatch.advance(seconds)
        with pytest.raises(DeadlineExceeded, match="an unknown number of workers unconfirmed"):
            await publishing


async def test_a_database_that_hangs_while_a_change_waits(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is answered at its deadline, although the list of the workers never arrives."""
    asked = asyncio.Event()

    async def find_behind(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("authsvc.revocation.barrier.feed_store.find_behind", find_behind)
    caller = BOOTSTRAP._replace(deadline=boottime() + 0.5)
    async with asyncio.timeout(10):
        with pytest.raises(DeadlineExceeded, match="an unknown number of workers unconfirmed"):
            await _publish(barrier_of(database), caller)
    assert asked.is_set()


async def test_a_change_that_is_refused_changes_nothing(database_url: str) -> None:
    """A transaction that is rolled back leaves no entry."""
    async with serving(database_url, None) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        before = service.app.holder.seq
        key = resources_pb2.Key(key_id=made.key.key_id, etag="old")
        with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
            await service.admin.UpdateKey(key=key, update_mask={"paths": ["scopes"]})
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_NOT_REVOKED"):
            await service.admin.DeleteKey(key_id=made.key.key_id)
        assert service.app.holder.seq == before


@pytest.mark.parametrize("ask", ["update", "delete", "revoke"])
async def test_who_is_told_that_it_was_done_may_rely_on_it(
    database_url: str, database: Database, patience: Patience, ask: str
) -> None:  # R7, rule 17
    """Already revoked, or not found: that is answered after the wait that an earlier call did not finish."""
    async with serving(database_url, None, stopwatch=patience.stopwatch) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        key_id = made.key.key_id
        await register(database, lease=3600)
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "WORKERS_UNCONFIRMED"):
            await patience.ends(service.admin.RevokeKey(key_id=key_id, timeout=BRIEFLY))
        if ask == "delete":
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "WORKERS_UNCONFIRMED") as refusal:
                await patience.ends(service.admin.DeleteKey(key_id=key_id, timeout=BRIEFLY))
            assert "durably deleted" in refusal.message

        def again(timeout: float) -> Awaitable[object]:
            named = resources_pb2.Key(key_id=key_id, display_name="Bills")
            return {
                "update": lambda: service.admin.UpdateKey(
                    key=named, update_mask={"paths": ["display_name"]}, timeout=timeout
                ),
                "delete": lambda: service.admin.DeleteKey(key_id=key_id, timeout=timeout),
                "revoke": lambda: service.admin.BatchRevokeKeys(owner_id="acme", timeout=timeout),
            }[ask]()

        with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "WORKERS_UNCONFIRMED") as refusal:
            await patience.ends(again(BRIEFLY))
        if ask != "revoke":
            assert "durably" not in refusal.message
        async with database.connection() as connection:
            await connection.execute("DELETE FROM authsvc.workers WHERE lease_ms = 3600000")
        if ask == "revoke":
            await again(30)
        else:
            told = (
                ("FAILED_PRECONDITION", "KEY_ALREADY_REVOKED")
                if ask == "update"
                else ("NOT_FOUND", "KEY_NOT_FOUND")
            )
            with refused(grpc.StatusCode[told[0]], told[1]):
                await again(30)


async def test_a_repeated_rotation_may_be_relied_on(
    database_url: str, database: Database, patience: Patience
) -> None:  # R7
    """A caller that gets the result of an earlier request has waited for what the earlier call did not."""
    async with serving(database_url, None, stopwatch=patience.stopwatch) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        await register(database, lease=3600)
        for said in ("durably rotated", "nothing is left to do"):
            with refused(grpc.StatusCode.DEADLINE_EXCEEDED, "WORKERS_UNCONFIRMED") as refusal:
                rotating = service.admin.RotateKey(key_id=made.key.key_id, request_id="r-1", timeout=BRIEFLY)
                await patience.ends(rotating)
            assert said in refusal.message


async def test_a_mistake_waits_for_nobody(database_url: str, database: Database) -> None:
    """Deleting a key that is not revoked is refused at once, even if workers are unreachable."""
    async with serving(database_url, None) as service:
        made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
        await register(database, lease=3600)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_NOT_REVOKED"):
            await service.admin.DeleteKey(key_id=made.key.key_id)


async def test_a_commit_that_no_node_knows(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failover to an asynchronous standby lost is not answered OK, and not waited for forever."""
    monkeypatch.setattr("authsvc.revocation.barrier._MAX_FAILOVER_SECONDS", 0.0)

    async def unknown(*_: object) -> list[None]:
        return [None]

    monkeypatch.setattr("authsvc.revocation.barrier.feed_store.find_behind", unknown)
    with pytest.raises(Unavailable) as refusal:
        await _publish(barrier_of(database))
    assert refusal.value.reason == "COMMIT_UNCERTAIN"


async def _publish(waiting: Barrier, caller: Caller = BOOTSTRAP) -> None:
    async with waiting.change(caller) as change:
        change.key_prefixes.add("eg_live_000000000000")


async def test_entries_without_gaps(database_url: str) -> None:
    """Concurrent changes on two workers are consecutive entries, each known to both."""
    async with two_workers(database_url) as (one, other):
        made = [await one.admin.CreateKey(owner_id="acme", display_name=str(i)) for i in range(40)]
        before = one.app.holder.seq
        calls = [(one, other)[i % 2].admin.RotateKey(key_id=key.key.key_id) for i, key in enumerate(made)]
        await asyncio.gather(*calls)
        assert one.app.holder.seq == other.app.holder.seq == before + len(made)
        assert set(range(before + 1, before + len(made) + 1)) <= set(one.app.holder._history._nonces)


async def test_a_change_that_is_about_to_commit_holds_nobody_up(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the feed is locked by the message that commits, so a slow worker does not delay others."""
    about_to, go_on = asyncio.Event(), asyncio.Event()
    commit = pool._commit

    async def first_waits(connection: pool.Connection, last: str) -> None:
        if "publish" in last and not about_to.is_set():
            about_to.set()
            await go_on.wait()
        await commit(connection, last)

    async with serving(database_url, None) as service:
        made = [
            await service.admin.CreateKey(owner_id=owner, display_name="x")
            for owner in ("acme", "other", "third")
        ]
        monkeypatch.setattr(pool, "_commit", first_waits)
        waiting = asyncio.ensure_future(service.admin.RotateKey(key_id=made[0].key.key_id))
        await about_to.wait()
        await service.admin.RotateKey(key_id=made[1].key.key_id)
        await service.admin.RevokeKey(key_id=made[2].key.key_id)
        assert not waiting.done()
        go_on.set()
        assert (await waiting).key.rotated_from_key_id == made[0].key.key_id
