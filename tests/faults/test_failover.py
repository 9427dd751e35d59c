"""What RevokeKey guarantees survives failover, lost history, a lost standby and restored backups."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import grpc
import pytest
import pytest_asyncio

from authsvc.model.errors import Unavailable
from authsvc.model.feed import Place
from authsvc.revocation import follower as following
from authsvc.store import feed as feed_store
from authsvc.store import pool
from authsvc.store import verification as verification_store
from authsvc.store.feed import FeedConnection
from authsvc.store.pool import Database
from authsvc.store.publication import NewEntry, publication
from authsvc.store.verification import VerificationStore
from tests.faults import replicated
from tests.faults.failover import History, Worker, fleet, load, patiently
from tests.faults.replicated import Pair, Server, until
from tests.rpc.refusal import refused

UNAVAILABLE, PRECONDITION = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def template(reachable_dir: Path) -> AsyncIterator[Path]:
    """A cluster to copy."""
    async with replicated.template(reachable_dir / "template") as cluster:
        yield cluster


@pytest_asyncio.fixture
async def pair(template: Path, reachable_dir: Path, unique: str) -> AsyncIterator[Pair]:
    """A primary and its synchronous standby."""
    async with replicated.pair(template, reachable_dir / unique) as both:
        yield both


@pytest_asyncio.fixture
async def single(template: Path, reachable_dir: Path, unique: str) -> AsyncIterator[Server]:
    """A server without a standby."""
    async with replicated.single(template, reachable_dir / unique) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits, and statements too, are given up after two seconds."""
    monkeypatch.setattr(pool, "_MAX_COMMIT_SECONDS", 2.0)
    monkeypatch.setattr(pool, "_MAX_WAIT_SECONDS", 2.0)


@pytest.fixture
def no_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: a place is identified by its seq alone."""
    conditions = {"renew": "nonce = $3", "acknowledge": "nonce = $3", "read_feed": "here.nonce = $2"}
    for name, condition in conditions.items():
        statement = feed_store._SQL[name]
        mutant = statement.replace(condition, f"{condition[-2:]}::uuid IS NOT NULL")
        assert mutant != statement
        monkeypatch.setitem(feed_store._SQL, name, mutant)


@pytest.fixture
def no_synchronous_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: a renewal does not wait for the standby."""
    statement = feed_store._SQL["renew"]
    mutant = statement.replace("'synchronous_commit', 'on'", "'synchronous_commit', 'off'")
    assert mutant != statement
    monkeypatch.setitem(feed_store._SQL, "renew", mutant)


@pytest.fixture
def no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: any node may report that a key does not exist."""
    monkeypatch.setitem(verification_store._SQL, "prove_primary", "SELECT 1")


@pytest.mark.usefixtures("impatient")
async def test_failover_under_load(pair: Pair, record_property: Callable[[str, object], None]) -> None:
    """The standby takes over, the old primary can be read: no key is VALID after RevokeKey answered OK.

    Keys that are alive are never REVOKED or NOT_FOUND. All workers recover by themselves, and none has to
    register again, since no entry of the feed was lost.
    """
    history = History()
    async with fleet(pair.primary, 3) as workers:
        history.alive = [await patiently(workers[0].issue) for _ in range(20)]
        async with load(history, workers):
            await history.reach(30)
            await pair.promote()
            for worker in workers:
                worker.address.move(pair.standby)
            moved = time.monotonic()
            await asyncio.gather(*(worker.renewed() for worker in workers))
            renewed = time.monotonic() - moved
            await asyncio.gather(*(changed(worker, history) for worker in workers))
            recovered = time.monotonic() - moved
            await history.reach(len(history.revoked) + 30)
            await pair.primary.stop()
            await history.reach(len(history.revoked) + 30)
        await history.settle(workers)
        assert [worker.app.follower.registrations for worker in workers] == [1, 1, 1]
    record_property("answers", dict(history.answers))
    record_property("renewed_after", renewed)
    record_property("recovered_after", recovered)
    assert not history.violations
    assert history.answers["VALID"] > 100
    assert history.answers["REVOKED"] > 100
    assert renewed < 5
    assert recovered < 15


async def changed(worker: Worker, history: History) -> None:
    """Return when a key was created and revoked through a worker."""
    while not await history.revoke(worker, await patiently(worker.issue)):
        pass


async def left_behind(pair: Pair) -> list[str]:
    """Revoke on the new primary a key that a worker on the old one has in memory; return the violations."""
    history = History()
    async with fleet(pair.primary, 2) as (left, gone):
        key = await gone.issue()
        assert [await history.ask(worker, key) for worker in (left, gone)] == ["VALID", "VALID"]
        await pair.promote()
        await gone.move(pair.primary, pair.standby)
        revoking = asyncio.create_task(patiently(lambda: gone.revoke(key)))
        while not revoking.done():
            await asyncio.wait({revoking}, timeout=0.01)
            await history.ask(left, key)
        await revoking
        history.revoked[key] = time.monotonic()
        assert await history.ask(gone, key) == "REVOKED"
        last = await history.ask(left, key)
        assert last == "LEASE_OVER" or history.violations
        await left.move(pair.primary, pair.standby)
        await left.says(key, "REVOKED")
    return history.violations


async def test_who_stays_with_the_old_primary_stops_in_time(pair: Pair) -> None:
    """It cannot renew there: its last VALID comes before the revocation on the new primary answers OK."""
    assert not await left_behind(pair)


@pytest.mark.usefixtures("no_synchronous_renewal")
async def test_a_renewal_that_does_not_wait_for_the_standby_is_caught(pair: Pair) -> None:
    """A mutant: the old primary renews leases forever."""
    assert await left_behind(pair)


async def lost_history(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], int]:
    """Give one seq to two entries; return the violations, and the registrations of a worker with the first.

    The first is a revocation that was not reported to any caller: its wait for the standby was cancelled.
    """
    monkeypatch.setattr(
        following, "_RENEWALS_PER_LEASE", 2
    )  # Everything up to the promotion is between two renewals.
    history = History()
    async with fleet(pair.primary, 2, lease=4.0) as (late, early):
        lost, key = await early.issue(), await early.issue()
        history.alive.append(key)
        for worker in late, early:
            assert await history.ask(worker, key) == "VALID"
        await late.renewed()
        await pair.part()
        revoking = asyncio.create_task(early.revoke(lost))
        await pair.primary.cancel(await pair.primary.one_waiting("%revoke_keys%"))
        with refused(UNAVAILABLE, "COMMIT_UNCERTAIN"):
            await revoking
        seq = late.app.holder.seq

        async def followed() -> bool:
            late.app.follower.hint()
            return late.app.holder.seq > seq

        await until(followed)
        await pair.promote()
        await early.move(pair.primary, pair.standby)
        await patiently(early.issue)
        revoking = asyncio.create_task(patiently(lambda: early.revoke(key)))
        await until(lambda: pair.standby.fetch("SELECT FROM authsvc.feed WHERE seq = $1", seq + 1))
        await late.move(pair.primary, pair.standby)
        await revoking
        history.alive.remove(key)
        history.revoked[key] = time.monotonic()
        for worker in late, early:
            await history.ask(worker, key)
        for worker in () if history.violations else (late, early):
            await worker.says(lost, "VALID")
        return history.violations, late.app.follower.registrations


async def test_a_place_in_a_lost_history_is_noticed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another entry got the seq that a worker has applied: it drops its memory and registers again."""
    assert await lost_history(pair, monkeypatch) == ([], 2)


@pytest.mark.usefixtures("no_nonce")
async def test_without_a_nonce_a_lost_history_is_caught(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the worker reports as applied an entry that it has never seen."""
    violations, _ = await lost_history(pair, monkeypatch)
    assert violations


async def unknown_to_the_old_primary(pair: Pair) -> list[str]:
    """Verify through the old primary what only the new one has; return the verdicts on a new key.

    The first is given through the old one, the last after the worker has moved to the new one.
    """
    async with fleet(pair.primary, 2, lease=8.0) as (left, gone):
        old = await patiently(gone.issue)
        await left.renewed()
        await pair.promote()
        await gone.move(pair.primary, pair.standby)
        new = await patiently(gone.issue)
        verdicts = [await left.verdict(new)]
        left.address.move(pair.standby)
        await left.renewed()
        await patiently(lambda: gone.revoke(old))
        assert await left.verdict(old) == "REVOKED"
        await left.address.cut(pair.primary)
        await left.says(await patiently(gone.issue), "VALID")
        return [*verdicts, await left.verdict(new)]


@pytest.mark.usefixtures("impatient")
async def test_the_old_primary_does_not_say_that_there_is_no_such_key(pair: Pair) -> None:
    """A key that was created on the new primary cannot be verified through the old one, and is VALID later.

    A key that was revoked on the new primary is not VALID through the old one.
    """
    assert await unknown_to_the_old_primary(pair) == ["DATABASE_UNAVAILABLE", "VALID"]


@pytest.mark.usefixtures("impatient", "no_proof")
async def test_a_look_up_without_proof_of_the_primary_is_caught(pair: Pair) -> None:
    """A mutant: a miss on a node that was replaced is remembered as a key that does not exist."""
    assert await unknown_to_the_old_primary(pair) == ["NOT_FOUND", "NOT_FOUND"]


@pytest.mark.usefixtures("impatient")
async def test_no_old_state_is_remembered_after_a_hint(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed follows the new primary, lookups go to the old one, one while a hint is acknowledged.

    A commit that hangs at the old one is given up, so that the worker can stop.
    """
    history = History()
    async with fleet(pair.primary, 2, lease=8.0) as (stuck, other):
        key = await other.issue()
        await pair.promote()
        await other.move(pair.primary, pair.standby)
        stuck.address.move(pair.standby)
        await stuck.renewed()
        acknowledge, filled = FeedConnection.acknowledge, []

        async def fill_first(
            self: FeedConnection, worker_id: UUID, place: Place, before: Place | None = None
        ) -> bool:
            if worker_id == stuck.app.follower.worker_id and before is not None:
                # Waits for the place when it is read from the new primary.
                done, _ = await asyncio.wait({asyncio.ensure_future(stuck.verdict(key))}, timeout=1)
                filled.append([task.result() for task in done])
            return await acknowledge(self, worker_id, place, before)

        monkeypatch.setattr(FeedConnection, "acknowledge", fill_first)
        await history.revoke(other, key)
        assert filled
        assert await history.ask(stuck, key) == "REVOKED"


async def test_a_cancelled_commit_is_not_ok(pair: Pair) -> None:
    """PostgreSQL commits with a warning: that is COMMIT_UNCERTAIN, and a retry waits for the standby."""
    async with fleet(pair.primary, 2, lease=60.0) as (worker, other):
        key = await worker.issue()
        await other.says(key, "VALID")
        await pair.part()
        revoking = asyncio.create_task(worker.revoke(key))
        await pair.primary.cancel(await pair.primary.one_waiting("%revoke_keys%"))
        with refused(UNAVAILABLE, "COMMIT_UNCERTAIN"):
            await revoking
        revoking = asyncio.create_task(worker.revoke(key))
        await pair.primary.one_waiting("%COMMIT")
        assert not revoking.done()
        await pair.join()
        with refused(PRECONDITION, "KEY_ALREADY_REVOKED"):
            await revoking
        assert [await each.verdict(key) for each in (worker, other)] == ["REVOKED", "REVOKED"]


async def test_a_cancelled_renewal_gives_no_lease(pair: Pair) -> None:
    """A renewal that PostgreSQL committed with a warning does not change the lease."""
    async with fleet(pair.primary, 1, lease=8.0) as [worker]:
        await worker.renewed()
        await pair.part()
        backend = await pair.primary.one_waiting("%beat = %")
        ends = worker.app.lease._until
        await pair.primary.cancel(backend)

        async def next_renewal() -> bool:
            return await pair.primary.one_waiting("%beat = %") != backend

        await until(next_renewal)
        assert worker.app.lease._until == ends
        await pair.join()
        await worker.renewed()


@pytest.mark.usefixtures("impatient")
async def test_the_standby_is_gone_and_comes_back(pair: Pair) -> None:
    """RevokeKey does not answer OK, nothing is cancelled on the server, keys in memory verify for a lease.

    When the standby is back, everything recovers by itself, and the requested changes are done.
    """
    async with fleet(pair.primary, 2, lease=6.0) as workers:
        worker, _ = workers
        given_up, too_late, alive = [await patiently(worker.issue) for _ in range(3)]
        for each in workers:
            await each.says(alive, "VALID")
        await pair.part()
        # No waiting caller is told that it is done: neither one that waits until we give up,
        with refused(UNAVAILABLE, "DATABASE_UNAVAILABLE"):
            await worker.revoke(given_up)
        [backend] = await pair.primary.waiting("%revoke_keys%")
        assert [await each.verdict(alive) for each in workers] == ["VALID", "VALID"]
        for each in workers:
            await each.says(alive, "LEASE_OVER")
        assert await pair.primary.waiting("%revoke_keys%") == [backend]
        assert f"[{backend}] WARNING" not in pair.primary.log
        await pair.join()
        for each in workers:
            await each.says(alive, "VALID")
            assert await each.verdict(given_up) == "REVOKED"
        with refused(PRECONDITION, "KEY_ALREADY_REVOKED"):
            await worker.revoke(given_up)

        # nor one that gives up first.
        await pair.part()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await worker.revoke(too_late, timeout=0.3)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        backend = await pair.primary.one_waiting("%revoke_keys%")
        await pair.join()
        for each in workers:
            await each.says(too_late, "REVOKED")
        assert f"[{backend}] WARNING" not in pair.primary.log


@pytest.mark.parametrize("default", ["on", "off"])
async def test_what_waits_for_the_standby(pair: Pair, default: str) -> None:
    """Acknowledgements and reads of the feed do not; all that proves something does, whatever the default."""
    await pair.primary.fetch(f"ALTER ROLE authsvc SET synchronous_commit = {default}")
    feed, worker_id = FeedConnection(pair.primary.url, lease=60, listen=False), uuid4()
    place = (await feed.register(worker_id, 60)).place
    assert await feed.renew(worker_id, place, 0, (), ()) is not None
    await pair.standby.stop()
    assert await feed.read(place) == []
    assert await feed.acknowledge(worker_id, place)
    async with Database.open(pair.primary.url) as database:

        async def change() -> None:
            entry = NewEntry(key_prefixes=["a"])
            async with database.transaction(last=lambda: publication(entry)):
                pass

        waits: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("%INSERT INTO authsvc.workers%", lambda: feed.register(uuid4(), 60)),
            ("%beat = %", lambda: feed.renew(worker_id, place, 0, (), ())),
            ("%authsvc.publish%COMMIT", change),
            ("%pg_logical_emit_message%", lambda: VerificationStore(database).find_credential("a")),
        ]
        for statement, call in waits:
            waiting = asyncio.ensure_future(call())
            backend = await pair.primary.one_waiting(statement)
            assert not waiting.done()
            await pair.primary.cancel(backend)
            with pytest.raises(Unavailable) as uncertain:
                await waiting
            assert uncertain.value.reason == "COMMIT_UNCERTAIN"
    await pair.standby.start()
    await pair.synchronous()
    await feed.leave(worker_id)


async def test_two_hosts_and_a_crash(pair: Pair) -> None:
    """The URL names both; the primary crashes, the standby takes over, and workers continue by themselves."""
    hosts = f"host=127.0.0.1,127.0.0.1&port={pair.primary.port},{pair.standby.port}&sslmode=disable"
    async with fleet(pair.primary, 2, url=f"postgresql://authsvc:standby@/authsvc?{hosts}") as workers:
        worker, other = workers
        warm, key = await worker.issue(), await worker.issue()
        for each in workers:
            assert await each.verdict(warm) == await each.verdict(key) == "VALID"
        await pair.primary.stop()
        assert await other.verdict(warm) == "VALID"
        await pair.standby.fetch("SELECT pg_promote()")
        await patiently(lambda: worker.revoke(key))
        assert "VALID" not in [await each.verdict(key) for each in workers]
        for each in workers:
            await each.says(key, "REVOKED")
            await each.says(warm, "VALID")
            assert each.app.follower.registrations == 1


async def restored(server: Server, backup: Path) -> tuple[list[str], list[int]]:
    """Restore a backup under two workers; return the verdicts of the lost history, and the registrations."""
    async with fleet(server, 2) as workers:
        worker, _ = workers
        revoked_later = await worker.issue()
        for each in workers:
            await each.says(revoked_later, "VALID")
        await server.back_up(backup)
        made_later = await worker.issue()
        await worker.revoke(revoked_later)
        for each in workers:
            assert await each.verdict(made_later) == "VALID"
            assert await each.verdict(revoked_later) == "REVOKED"
            each.address.move(None)
            await each.address.cut(server)
        await server.stop()
        await server.restore(backup)
        await server.start()
        # As many changes as were lost, so that only the nonce distinguishes the histories.
        await server.fetch(publication(NewEntry()))
        for each in workers:
            each.address.move(server)
            await each.renewed()
        stale = []
        for each in workers:
            await patiently(each.issue)  # Its connections are new.
            for key, expected in (made_later, "NOT_FOUND"), (revoked_later, "VALID"):
                if (verdict := await each.verdict(key)) != expected:
                    stale.append(verdict)
        return stale, [each.app.follower.registrations for each in workers]


async def test_a_restored_back_up_is_noticed(single: Server) -> None:
    """Workers find their place gone, forget all and register again; nothing of the lost history stays."""
    assert await restored(single, single.directory.with_name("backup")) == ([], [2, 2])


# What follows does not hold yet.


async def test_a_key_that_a_restored_back_up_lacks_is_forgotten(single: Server) -> None:
    """Only a key was created after the backup: it does not exist any more and cannot be revoked."""
    backup = single.directory.with_name("backup")
    async with fleet(single, 1) as [worker]:
        await single.back_up(backup)
        key = await worker.issue()
        assert await worker.verdict(key) == "VALID"
        await worker.renewed()
        await single.stop()
        await single.restore(backup)
        await single.start()
        await worker.renewed()
        assert await worker.verdict(key) == "NOT_FOUND"


@pytest.mark.usefixtures("impatient")
async def test_already_revoked_is_said_by_the_primary(pair: Pair) -> None:
    """A revocation is lost, but can be seen on the old primary: no caller is told that it is done."""
    history = History()
    async with fleet(pair.primary, 2) as (worker, other):
        key = await patiently(worker.issue)
        await pair.part()
        revoking = asyncio.create_task(history.revoke(worker, key))
        await pair.primary.cancel(await pair.primary.one_waiting("%revoke_keys%"))
        assert not await revoking
        await pair.promote()
        worker.address.move(pair.standby)
        await other.move(pair.primary, pair.standby)
        if await history.revoke(worker, key):
            await other.renewed()
            await history.ask(other, key)
        assert not history.violations


async def test_changes_recover_with_the_feed(pair: Pair) -> None:
    """When the feed has found the new primary, no revocation hangs on a connection to the old one."""
    async with fleet(pair.primary, 1) as [worker]:
        key = await worker.issue()
        await pair.promote()
        worker.address.move(pair.standby)
        await worker.renewed()
        revoking = asyncio.create_task(worker.revoke(key))
        done, _ = await asyncio.wait({revoking}, timeout=4)
        await pair.primary.stop()
        await asyncio.wait({revoking})
        assert done
        await revoking


async def test_who_registers_anew_is_waited_for_under_one_name(pair: Pair) -> None:
    """A worker that dropped its memory removes its old registration: no change waits a lease for it."""
    async with fleet(pair.primary, 1, lease=60.0) as [worker]:
        worker.app.follower._lose("the test says so")
        worker.app.follower.hint()

        async def registered_anew() -> bool:
            return worker.app.follower.registrations == 2

        async def one_is_left() -> bool:
            return len(await pair.primary.fetch("SELECT FROM authsvc.workers")) == 1

        # Long before the lease of the old registration is over.
        await until(registered_anew)
        await until(one_is_left)
