"""Each rule of the protocol is left out in turn, in a scenario in which it matters.

Real workers in one process on a real database, with a stopwatch that jumps. A scenario
pauses them where necessary, and ends with verifications on the worker that was paused. With
all rules the history has no violation; with the rule left out it has some. Rules
that matter only in a failover are left out in `test_failover`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any
from unittest import mock
from uuid import UUID

import grpc

from authsvc.app import follower as app_follower
from authsvc.keys.revocations import Revocations
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import AlreadyDone, FailedPrecondition
from authsvc.model.feed import FeedEntry, Place, Renewal
from authsvc.revocation import reaper
from authsvc.revocation.authority import Authorized
from authsvc.revocation.barrier import Barrier
from authsvc.revocation.follower import Follower
from authsvc.revocation.holder import Holder
from authsvc.store import feed as feed_store
from authsvc.store import pool
from authsvc.store.feed import FeedConnection
from authsvc.store.publication import NewEntry
from authsvc.v1 import resources_pb2
from authsvc.verify.clock import boottime
from authsvc.verify.lease import Lease, certainly_over
from authsvc.verify.prefix_cache import PrefixCache, _Fill
from tests.conftest import Service, serving
from tests.faults.history import Change, Ending, History, Operation, Outcome, Verification
from tests.verify.parts import Pause

LEASE = 30.0
# Verifications at the end of a scenario.
ASKED = 25
_OPERATIONS = ("register", "renew", "read", "acknowledge", "leave")


async def until(condition: Callable[[], object]) -> None:
    """Poll for a condition that is not signalled."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Held(FeedConnection):
    """A worker's connection that pauses where the scenario requires: before or after an operation."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.pauses: dict[str, Pause] = {}
        self.deaf = False

    def _hear(self, *hint: Any) -> None:
        if not self.deaf:
            super()._hear(*hint)

    async def _at(self, point: str) -> None:
        if pause := self.pauses.get(point):
            await pause.here()

    async def register(self, worker_id: UUID, lease: float) -> FeedEntry:
        await self._at("before register")
        return await super().register(worker_id, lease)

    async def renew(self, worker_id: UUID, place: Place, *given: Any) -> Renewal | None:
        await self._at("before renew")
        renewal = await super().renew(worker_id, place, *given)
        await self._at("after renew")
        return renewal

    async def read(self, place: Place) -> Any:
        await self._at("before read")
        return await super().read(place)

    async def acknowledge(self, worker_id: UUID, place: Place, before: Place | None = None) -> bool:
        await self._at("before acknowledge")
        return await super().acknowledge(worker_id, place, before)


class Worker:
    """A running worker and the points where it can be paused."""

    def __init__(self, name: str, service: Service) -> None:
        self.name = name
        self.service = service
        store = service.app.follower._store
        assert isinstance(store, Held)
        self.store = store

    def pause(self, point: str) -> Pause:
        """Pause it at this point, from the next time on."""
        self.store.pauses[point] = Pause()
        return self.store.pauses[point]

    def hold(self) -> None:
        """Let it receive and send nothing from now on; its current operation continues."""
        self.store.deaf = True
        for operation in _OPERATIONS:
            self.store.pauses.setdefault(f"before {operation}", Pause())

    def release(self) -> None:
        """Let it continue."""
        self.store.deaf = False
        pauses, self.store.pauses = self.store.pauses, {}
        for pause in pauses.values():
            pause.open()

    async def renew(self) -> None:
        """Make it renew its lease now."""
        feed = self.service.app.follower
        feed._renew_at = 0.0
        left = self.service.app.lease._until
        feed.hint()
        await until(lambda: self.service.app.lease._until != left)


class Course:
    """The events on some workers with one database, by one stopwatch that jumps."""

    def __init__(self, database_url: str, **settings: object) -> None:
        self.database_url = database_url
        self.settings: dict[str, Any] = {"lease": LEASE, "drain_grace": 0.5, **settings}
        self.history = History()
        self.workers: list[Worker] = []
        self.ahead = 0.0
        self.looks = 0
        self.behind: set[UUID] = set()
        self.key = ""
        self.key_id = ""
        self.kind = CredentialKind.KEY
        self._stack = AsyncExitStack()

    def stopwatch(self) -> float:
        return boottime() + self.ahead

    async def start_worker(self) -> Worker:
        """Start another worker."""
        service = await self._stack.enter_async_context(
            serving(self.database_url, None, stopwatch=self.stopwatch, **self.settings)
        )
        if self.workers:
            service.admin_key = self.workers[0].service.admin_key
        worker = Worker(f"worker {len(self.workers)}", service)
        self.workers.append(worker)
        return worker

    def jump(self, seconds: float) -> None:
        """Let this much time pass for all."""
        self.ahead += seconds
        for worker in self.workers:
            worker.service.app.follower.hint()

    async def verify(self, worker: Worker, times: int = 1) -> Outcome:
        """Verify the key on a worker."""
        for _ in range(times):
            invoked = time.monotonic()
            try:
                if self.kind is CredentialKind.SESSION:
                    answer = await worker.service.admin.VerifySession(session_token=self.key)
                else:
                    answer = await worker.service.admin.VerifyKey(key_string=self.key)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                outcome = Outcome.UNAVAILABLE
            else:
                code = resources_pb2.VerdictCode.Name(answer.code).removeprefix("VERDICT_CODE_")
                outcome = Outcome(code)
            seen = Verification(self.key_id, worker.name, invoked, time.monotonic(), outcome)
            self.history.verifications.append(seen)
        return outcome

    async def revoke(self, worker: Worker, timeout: float = 60) -> Ending:
        """Revoke the key on a worker."""
        invoked = time.monotonic()
        ending = Ending.OK
        try:
            await worker.service.admin.RevokeKey(key_id=self.key_id, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            ending = Ending.ALREADY if "already revoked" in (error.details() or "") else Ending.UNKNOWN
        self.history.changes.append(
            Change(Operation.REVOKE, self.key_id, worker.name, invoked, time.monotonic(), ending)
        )
        return ending

    async def open_session(self) -> None:
        """Use a session, which every worker knows, instead of the key."""
        made = await self.workers[0].service.admin.CreateSession(owner_id="acme")
        self.key, self.key_id = made.session_token, made.session.session_id
        self.kind = CredentialKind.SESSION
        for worker in self.workers:
            assert await self.verify(worker) is Outcome.VALID

    async def revoke_all_sessions(self, worker: Worker) -> None:
        """Revoke all sessions of the owner on a worker."""
        invoked = time.monotonic()
        await worker.service.admin.RevokeAllSessions(owner_id="acme")
        self.history.changes.append(
            Change(
                Operation.SESSION_REVOKE_ALL,
                self.key_id,
                worker.name,
                invoked,
                time.monotonic(),
                Ending.OK,
            )
        )

    async def answered_or_waiting(self, revoking: "asyncio.Task[Ending]") -> None:
        """Wait until a revocation was answered, or waits only for paused workers."""
        looks = self.looks

        def waits_in_vain() -> bool:
            held = {worker.service.app.follower.worker_id for worker in self.workers if worker.store.pauses}
            return self.looks >= looks + 4 and self.behind <= held

        await until(lambda: revoking.done() or waits_in_vain())

    async def finish(self, revoking: "asyncio.Task[Ending]", held: Worker) -> None:
        """Verify on the paused worker, before and after the leases of others are certainly over."""
        await self.answered_or_waiting(revoking)
        await self.verify(held, ASKED)
        self.jump(certainly_over(LEASE) + 1)
        async with asyncio.timeout(20):
            await revoking
        await self.verify(held, ASKED)


@asynccontextmanager
async def course(database_url: str, workers: int = 2, **settings: object) -> AsyncIterator[Course]:
    """Run some workers, the second of which knows a key."""
    going = Course(database_url, **settings)
    find_behind = feed_store.find_behind

    async def looked(*given: Any) -> Any:
        listed = await find_behind(*given)
        going.looks, going.behind = going.looks + 1, set().union(*filter(None, listed))
        return listed

    with (
        mock.patch.object(app_follower, "FeedConnection", Held),
        mock.patch.object(feed_store, "find_behind", looked),
    ):
        async with going._stack:
            for _ in range(workers):
                await going.start_worker()
            made = await going.workers[0].service.admin.CreateKey(owner_id="acme", display_name="Orders")
            going.key, going.key_id = made.key_string, made.key.key_id
            for worker in going.workers:
                assert await going.verify(worker) is Outcome.VALID
            try:
                yield going
            finally:
                for worker in going.workers:
                    worker.release()


# The scenarios.


async def a_worker_that_hears_nothing(going: Course) -> None:
    """A worker is cut off from the feed while a key is revoked."""
    one, held = going.workers
    held.hold()
    await going.finish(asyncio.ensure_future(going.revoke(one)), held)


async def a_retry(going: Course) -> None:
    """The same, and the caller gives up and retries."""
    one, held = going.workers
    held.hold()
    assert await going.revoke(one, timeout=2) is Ending.UNKNOWN
    await going.finish(asyncio.ensure_future(going.revoke(one)), held)


async def a_late_reply(going: Course) -> None:
    """The reply to a renewal arrives when its lease is over for all others."""
    one, held = going.workers
    answered = held.pause("after renew")
    held.service.app.follower._renew_at = 0.0
    held.service.app.follower.hint()
    await answered.reached()
    held.hold()
    revoking = asyncio.ensure_future(going.revoke(one))
    await going.answered_or_waiting(revoking)
    going.jump(certainly_over(LEASE) + 1)
    await revoking
    before = held.service.app.lease._until
    answered.open()
    await until(lambda: held.service.app.lease._until != before)
    await going.verify(held, ASKED)


async def a_worker_that_starts(going: Course) -> None:
    """A worker has its place and fills its memory, and has not renewed yet, when a key is revoked."""
    one = going.workers[0]
    registered = Pause()
    register = Follower._register

    async def and_then(feed: Follower) -> Place:
        place = await register(feed)
        if feed._store.pauses is late:  # type: ignore[attr-defined]
            await registered.here()
        return place

    late: dict[str, Pause] = {}
    _, starting = going.workers
    # The start of a worker again: a server is needed to fill its memory.
    starting.store.pauses = late
    with mock.patch.object(Follower, "_register", and_then):
        await starting.store.leave(starting.service.app.follower.worker_id)
        starting.service.app.follower._lose("for a test")
        starting.service.app.follower.hint()
        await registered.reached()
    assert await going.verify(starting) is Outcome.UNAVAILABLE  # And the key is in memory.
    starting.service.app.lease.renew(boottime() + going.ahead + LEASE)
    assert await going.verify(starting) is Outcome.VALID
    starting.service.app.lease.end("for a test")
    granting = starting.pause("granting")
    renewing = starting.pause("before renew")
    for operation in ("read", "acknowledge"):
        starting.pause(f"before {operation}")
    registered.open()
    renewing.open()
    with suppress(TimeoutError):
        await asyncio.wait_for(granting.reached(), 4)
    revoking = asyncio.ensure_future(going.revoke(one))
    await going.answered_or_waiting(revoking)
    granting.open()
    await starting.service.app.lease.taken()
    await going.verify(starting, ASKED)
    starting.release()
    await revoking
    await going.verify(starting, ASKED)


async def a_worker_that_was_reaped(going: Course) -> None:
    """A worker pauses for longer than its lease, is reaped, and continues."""
    one, held = going.workers
    renewing = held.pause("before renew")
    held.service.app.follower._renew_at = 0.0
    held.service.app.follower.hint()
    await renewing.reached()
    await one.service.app.reaper.look()
    going.jump(certainly_over(LEASE) + 1)
    await one.renew()
    await one.service.app.reaper.look()
    held.hold()
    went_on = asyncio.ensure_future(_next_outcome(held))
    renewing.open()
    await went_on
    await going.finish(asyncio.ensure_future(going.revoke(one)), held)


async def a_worker_that_starts_before_the_commit(going: Course) -> None:
    """A worker registers, renews and fills its memory while a revocation is about to commit."""
    with _paused_commit() as about_to:
        revoking = asyncio.ensure_future(going.revoke(going.workers[0]))
        await about_to.reached()
    late = await going.start_worker()
    assert await going.verify(late) is Outcome.VALID
    late.hold()
    about_to.open()
    await going.finish(revoking, late)


async def a_slow_commit(going: Course) -> None:
    """A commit takes long, and a worker renews meanwhile."""
    one, held = going.workers
    with _paused_commit() as about_to:
        revoking = asyncio.ensure_future(going.revoke(one))
        await about_to.reached()
    going.jump(25)
    await held.renew()
    held.hold()
    going.jump(certainly_over(LEASE) - 24)
    await one.renew()
    about_to.open()
    await going.finish(revoking, held)


@contextmanager
def _paused_commit() -> Iterator[Pause]:
    """Pause any transaction that is about to commit. Revocations are of several messages then."""
    commit, about_to = pool._commit, Pause()

    async def longer_way(*_: Any, **__: Any) -> tuple[()]:
        return ()

    async def paused(connection: Any, last: str) -> None:
        await about_to.here()
        await commit(connection, last)

    with (
        mock.patch.object(pool, "_commit", paused),
        mock.patch.object(Revocations, "revoke", longer_way),
    ):
        yield about_to


async def a_fill_under_way(going: Course) -> None:
    """A fill has read the key, and is proving it, when it is revoked."""
    one, filling = going.workers
    filling.service.app.cache.clear()
    await filling.service.admin.GetKey(key_id=going.key_id)  # The caller's own key is in memory again.
    hasher, proving = filling.service.app.hasher, Pause()
    verify = hasher.verify

    async def paused(secret: str, secret_hash: str) -> bool:
        await proving.here()
        return await verify(secret, secret_hash)

    with mock.patch.object(hasher, "verify", paused):
        asking = asyncio.ensure_future(going.verify(filling))
        await _reached(proving, asking)
    await going.revoke(one)
    proving.open()
    await asking
    await going.verify(filling, ASKED)


async def a_read_from_a_node_that_is_behind(going: Course) -> None:
    """A fill is answered by a connection to a node that does not have the revocation."""
    one, filling = going.workers
    store = filling.service.app.verifier._loader._store
    prefix = going.key[:-51]
    find, refresh = store.find_credential, store.refresh
    old = await find(prefix)
    await going.revoke(one)
    behind = True

    async def from_there(key_prefix: str) -> Any:
        return old if behind and key_prefix == prefix else await find(key_prefix)

    async def and_away() -> None:
        nonlocal behind
        behind = False
        await refresh()

    with (
        mock.patch.object(store, "find_credential", from_there),
        mock.patch.object(store, "refresh", and_away),
    ):
        await going.verify(filling, ASKED)


async def a_hasty_reaper(going: Course) -> None:
    """A reaper checks twice at once, while a worker that receives nothing has its lease."""
    one, held = going.workers
    held.hold()
    await one.service.app.reaper.look()
    await one.service.app.reaper.look()
    await going.finish(asyncio.ensure_future(going.revoke(one)), held)


async def a_reaper_and_a_slow_renewal(going: Course) -> None:
    """A worker renews after a reaper has found it dead, and before the reaper has deleted it."""
    one, held = going.workers
    renewing = held.pause("before renew")
    held.service.app.follower._renew_at = 0.0
    held.service.app.follower.hint()
    await renewing.reached()
    await one.service.app.reaper.look()
    going.jump(certainly_over(LEASE) + 1)
    await one.renew()
    reap, about_to = feed_store.reap, Pause()

    async def paused(*given: Any) -> bool:
        await about_to.here()
        return await reap(*given)

    with mock.patch.object(feed_store, "reap", paused):
        looking = asyncio.ensure_future(one.service.app.reaper.look())
        await about_to.reached()
        renewing.open()
        await held.service.app.lease.taken()
        held.hold()
        about_to.open()
        await looking
    await going.finish(asyncio.ensure_future(going.revoke(one)), held)


async def an_early_acknowledgement(going: Course) -> None:
    """A worker is paused between reading the feed and acknowledging it."""
    one, held = going.workers
    between = held.pause("between")
    revoking = asyncio.ensure_future(going.revoke(one))
    await going.answered_or_waiting(revoking)
    await going.verify(held, ASKED)
    between.open()
    await revoking
    await going.verify(held, ASKED)


async def all_sessions_of_an_owner(going: Course) -> None:
    """A worker knows a session when all sessions of its owner are revoked on another."""
    one, other = going.workers
    await going.open_session()
    await going.revoke_all_sessions(one)
    await going.verify(other, ASKED)


async def all_sessions_while_one_is_filled(going: Course) -> None:
    """A fill has read a session, but not yet the feed, when all sessions of its owner are revoked."""
    one, filling = going.workers
    await going.open_session()
    filling.service.app.cache.clear()
    await filling.service.admin.ListSessions(owner_id="acme")  # The caller's own key is in memory again.
    store, reading = filling.service.app.verifier._loader._store, Pause()
    find = store.find_credential

    async def paused(key_prefix: str) -> Any:
        found = await find(key_prefix)
        await reading.here()
        return found

    with mock.patch.object(store, "find_credential", paused):
        asking = asyncio.ensure_future(going.verify(filling))
        await _reached(reading, asking)
        await going.revoke_all_sessions(one)
        reading.open()
        await asking
    await going.verify(filling, ASKED)


async def _next_outcome(worker: Worker) -> None:
    """Wait until a renewal gave a lease, or did not."""
    lease = worker.service.app.lease
    before = lease._until
    await until(lambda: lease._until != before)


async def _reached(pause: Pause, asking: "asyncio.Future[Any]") -> None:
    reached = asyncio.ensure_future(pause.reached())
    await asyncio.wait((reached, asking), return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert reached.done(), "it was answered without getting there"


# The mutations.


@contextmanager
def _patched(target: Any, name: str, value: Any) -> Iterator[None]:
    with mock.patch.object(target, name, value):
        yield


def _no_wait() -> Any:
    async def at_once(*_: Any) -> None: ...

    return _patched(Barrier, "_wait", at_once)


def _retry_that_answers_at_once() -> Any:
    change = Barrier.change

    @asynccontextmanager
    async def at_once(waiting: Barrier, *given: Any, **named: Any) -> AsyncIterator[Any]:
        async with change(waiting, *given, **named) as changing:
            try:
                yield changing
            except AlreadyDone as error:
                raise FailedPrecondition(error.message, reason=error.reason) from error

    return _patched(Barrier, "change", at_once)


def _lease_not_looked_at() -> Any:
    return _patched(Lease, "check", lambda lease: None)


def _lease_from_the_reply() -> Any:
    renew = Lease.renew

    def from_now(lease: Lease, until: float) -> None:
        renew(lease, lease._stopwatch() + LEASE)

    return _patched(Lease, "renew", from_now)


@contextmanager
def _registering_while_granting() -> Iterator[None]:
    """The registration is committed with the first renewal, whose entries are from before."""

    async def register(store: Held, worker_id: UUID, lease: float) -> FeedEntry:
        async with store._asking() as connection:
            [row] = await connection.fetch(feed_store._SQL["find_head"])
        return FeedEntry(Place(row["seq"], row["nonce"]), (), None)

    renew = Held.renew

    async def grant(store: Held, worker_id: UUID, place: Place, *given: Any) -> Renewal | None:
        if "granting" not in store.pauses:
            return await renew(store, worker_id, place, *given)
        entries = await FeedConnection.read(store, place)
        await store._at("granting")
        await FeedConnection.register(store, worker_id, LEASE)
        async with store._asking() as connection:
            now = await connection.fetchval("SELECT clock_timestamp()")
        return Renewal(now, entries or ())

    with mock.patch.object(Held, "register", register), mock.patch.object(Held, "renew", grant):
        yield


def _renewing_without_registration() -> Any:
    sql = feed_store._SQL["renew"].replace("FROM me LEFT", "FROM (SELECT clock_timestamp() AS now) me LEFT")
    sql = sql.replace("WITH me AS", "WITH ignored AS")
    return mock.patch.dict(feed_store._SQL, {"renew": sql})


@contextmanager
def _list_before_the_commit() -> Iterator[None]:
    confirm, find_behind = Authorized.confirm, feed_store.find_behind
    listed: list[UUID] = []

    async def list_first(authorized: Authorized) -> None:
        async with authorized._authority._database.connection() as connection:
            listed.extend(row[0] for row in await connection.fetch("SELECT worker_id FROM authsvc.workers"))
        await confirm(authorized)

    async def of_those(*given: Any) -> Any:
        return [
            behind and {worker: lease for worker, lease in behind.items() if worker in listed}
            for behind in await find_behind(*given)
        ]

    with (
        mock.patch.object(Authorized, "confirm", list_first),
        mock.patch.object(feed_store, "find_behind", of_those),
    ):
        yield


@contextmanager
def _waiting_from_the_begin() -> Iterator[None]:
    change, wait = Barrier.change, Barrier._wait
    begun: list[float] = []

    def noted(waiting: Barrier, *given: Any, **named: Any) -> Any:
        begun.append(waiting._stopwatch())
        return change(waiting, *given, **named)

    async def from_then(waiting: Barrier, entry: NewEntry, committed: float, *given: Any) -> None:
        await wait(waiting, entry, begun[-1], *given)

    with mock.patch.object(Barrier, "change", noted), mock.patch.object(Barrier, "_wait", from_then):
        yield


def _fills_not_detached() -> Any:
    return _patched(PrefixCache, "_detach", lambda *_: None)


def _owners_not_forgotten() -> Any:
    return _patched(PrefixCache, "forget_owner", lambda *_: None)


def _owners_forgotten_but_not_detached() -> Any:
    return _patched(_Fill, "concerns", lambda *_: False)


def _reads_not_checked() -> Any:
    async def always(*_: Any) -> bool:
        return True

    return _patched(Holder, "knows", always)


def _reaping_early() -> Any:
    return _patched(reaper, "certainly_over", lambda lease: 0.0)


def _reaping_without_the_beat() -> Any:
    sql = "DELETE FROM authsvc.workers WHERE worker_id = $1 AND $2::uuid IS NOT NULL RETURNING true"
    return mock.patch.dict(feed_store._SQL, {"reap": sql})


@contextmanager
def _acknowledging_before_applying() -> Iterator[None]:
    async def read_early(feed: Follower, place: Place) -> None:
        entries = await feed._store.read(place)
        if entries:
            await feed._store.acknowledge(feed._worker_id, entries[-1].place)
            await feed._store._at("between")  # type: ignore[attr-defined]
            feed._apply(place, entries)

    def forget_later(feed: Follower, entry: FeedEntry) -> None:
        feed._forgetting = entry

    async def hint_early(feed: Follower, place: Place, entry: FeedEntry) -> None:
        if await feed._store.acknowledge(feed._worker_id, entry.place, place):
            await feed._store._at("between")  # type: ignore[attr-defined]
            feed._apply(place, [entry])

    with (
        mock.patch.object(Follower, "_read", read_early),
        mock.patch.object(Follower, "_forget", forget_later),
        mock.patch.object(Follower, "_follow_hint", hint_early),
    ):
        yield


Mutation = Callable[[], Any]
# What is left out, how, and the scenario in which it matters.
MUTANTS: dict[str, tuple[Mutation, Callable[[Course], Awaitable[None]]]] = {
    "no wait": (_no_wait, a_worker_that_hears_nothing),
    "a retry that answers at once": (_retry_that_answers_at_once, a_retry),
    "the lease not looked at": (_lease_not_looked_at, a_worker_that_hears_nothing),
    "the lease counted from the reply": (_lease_from_the_reply, a_late_reply),
    "registering in the granting statement": (_registering_while_granting, a_worker_that_starts),
    "no registration check on renewal": (_renewing_without_registration, a_worker_that_was_reaped),
    "the list read before the commit": (_list_before_the_commit, a_worker_that_starts_before_the_commit),
    "the wait counted from BEGIN": (_waiting_from_the_begin, a_slow_commit),
    "no tombstones: fills not detached": (_fills_not_detached, a_fill_under_way),
    "owners not forgotten": (_owners_not_forgotten, all_sessions_of_an_owner),
    "fills not detached from an owner": (
        _owners_forgotten_but_not_detached,
        all_sessions_while_one_is_filled,
    ),
    "no fill check": (_reads_not_checked, a_read_from_a_node_that_is_behind),
    "reaping early": (_reaping_early, a_hasty_reaper),
    "reaping without the beat": (_reaping_without_the_beat, a_reaper_and_a_slow_renewal),
    "acknowledging before applying": (_acknowledging_before_applying, an_early_acknowledgement),
}


async def run(name: str, database_url: str, *, mutated: bool) -> History:
    """Run the scenario of a mutant, with the rule or without it; return what was observed."""
    mutate, happens = MUTANTS[name]
    async with course(database_url) as going:
        with mutate() if mutated else nullcontext():
            await happens(going)
        for worker in going.workers:
            worker.release()
    return going.history
