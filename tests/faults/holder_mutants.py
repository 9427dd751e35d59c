"""Each rule for clients that verify by themselves (R12 to R16) is left out in turn, where it matters.

Real workers in one process on a real database, with a stopwatch that jumps, as in `mutants`. The client is
either the real one, or one whose messages are sent and read when a scenario says so; that one keeps what it
holds in the real memory. A scenario ends with verifications in the client. With all rules the history has no
violation; with the rule left out it has some.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from math import inf
from pathlib import Path
from typing import Any
from unittest import mock

from authsvc import app
from authsvc.client import AuthClient, auth_client, follow_stream
from authsvc.client.follow_stream import FollowStream
from authsvc.client.held import credential_of, instant_of, seconds_of
from authsvc.client.memory import Memory
from authsvc.client.questions import about_key
from authsvc.client.verdict import Verdict
from authsvc.model.key_string import TAIL_LENGTH
from authsvc.net.lent_leases import LentLeases
from authsvc.revocation import client_holders
from authsvc.revocation.client_holder import ClientHolder
from authsvc.revocation.client_holders import ClientHolders
from authsvc.revocation.holders import Attached, Holders
from authsvc.revocation.predecessors import Predecessors
from authsvc.rpc.following import Following
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.verify.clock import boottime
from authsvc.verify.lease import certainly_over
from tests.e2e.process import environment
from tests.faults.history import Ending, History, Outcome, Verification
from tests.faults.mutants import ASKED, LEASE, Course, Worker, course, until
from tests.rpc.following import FollowingClient, following
from tests.verify.parts import Pause

SUB_LEASE = 5.0
_CHECKOUT = Path(__file__).parent.parent.parent


class HolderCourse:
    """The events on a client, on the worker that it follows, and on another one that revokes."""

    def __init__(self, going: Course) -> None:
        self.going = going
        self.followed, self.other = going.workers
        #: Reads the stopwatch of clients.
        self.stopwatch: Callable[[], float] = going.stopwatch

    def note(self, verdict: Verdict | None, invoked: float, name: str = "client") -> None:
        """Note a verification; None if memory did not answer."""
        self.note_code(_code(verdict), invoked, name)

    def note_code(self, code: str, invoked: float, name: str) -> None:
        """Note a verification by the name of its outcome."""
        outcome = Outcome(code)
        seen = Verification(self.going.key_id, name, invoked, time.monotonic(), outcome)
        self.going.history.verifications.append(seen)

    @property
    def clients(self) -> ClientHolders:
        """The clients of the worker that is followed."""
        return self.followed.service.app.holder.clients

    @asynccontextmanager
    async def client(self, worker: Worker | None = None) -> AsyncIterator["Client"]:
        """Run a client that follows a worker, message by message; at the end it is cut off."""
        service = (worker or self.followed).service
        async with following(service.address, self.followed.service.admin_key) as stream:
            yield Client(self, stream, Memory(100, lambda: self.stopwatch()))

    @asynccontextmanager
    async def holding(self) -> AsyncIterator["Client"]:
        """Run a client that holds the key and has a sub-lease."""
        async with self.client() as client:
            await client.join()
            await client.hold()
            await client.renew()
            client.verify()
            assert self.going.history.verifications[-1].outcome is Outcome.VALID
            yield client

    def revoke(self) -> "asyncio.Future[Ending]":
        """Begin to revoke the key on the other worker."""
        return asyncio.ensure_future(self.going.revoke(self.other))

    def waits(self) -> bool:
        """Whether the worker that is followed has to be waited for."""
        follower, clients = self.followed.service.app.follower, self.clients
        is_settled = clients.settled_mark >= clients.mark and follower.holders.all_settled
        return bool(self.followed.store.pauses) or not is_settled

    async def answered_or_waiting(
        self, revoking: "asyncio.Future[Ending]", waits: Callable[[], bool] | None = None
    ) -> None:
        """Wait until a revocation was answered, or is committed and waits for whom it has to."""
        looks, waits = self.going.looks, waits or self.waits
        await until(lambda: revoking.done() or (self.going.looks > looks and waits()))

    async def finish(
        self,
        revoking: "asyncio.Future[Ending]",
        client: "Client",
        *,
        seconds: float = SUB_LEASE,
        waits: Callable[[], bool] | None = None,
    ) -> None:
        """Verify in a client, before and after a sub-lease is certainly over; the change is answered then."""
        await self.answered_or_waiting(revoking, waits)
        client.verify(ASKED)
        self.going.jump(certainly_over(seconds) + 0.1)
        async with asyncio.timeout(20):
            await revoking
        client.verify(ASKED)


class Client:
    """A client that does what a scenario says. It forgets nothing by itself."""

    def __init__(self, on: HolderCourse, stream: FollowingClient, memory: Memory) -> None:
        self.stream, self.memory, self._on = stream, memory, on

    async def join(self) -> None:
        await self.stream.join()
        self.memory.start(100)

    async def hold(self) -> None:
        """Hold the key."""
        self.take(await self.stream.hold(self._on.going.key))

    def take(self, held: pb.FollowResponse.Held) -> None:
        """Hold what the worker has sent."""
        text = self._on.going.key
        if held.HasField("credential"):
            digest = self.memory.digest(text)
            self.memory.admit(text[:-TAIL_LENGTH], digest, credential_of(held.credential))

    async def renew(self) -> None:
        asked = self._on.stopwatch()
        grant = await self.stream.renew()
        now = instant_of(grant.now)
        self.memory.grant(asked + seconds_of(grant.lease), now, asked, self._on.stopwatch())

    def verify(self, times: int = 1) -> None:
        """Verify the key from memory."""
        for _ in range(times):
            invoked = time.monotonic()
            verdict = self.memory.recall(about_key((), ""), self._on.going.key)
            self._on.note(verdict, invoked)


def _code(verdict: Verdict | None) -> str:
    return Outcome.UNAVAILABLE.value if verdict is None else verdict.code.name


# The scenarios.


async def a_client_that_does_nothing(on: HolderCourse) -> None:
    """It is told, and does not carry it out."""
    async with on.holding() as client:
        await on.finish(on.revoke(), client)


async def a_client_whose_stream_has_ended(on: HolderCourse) -> None:
    """It lives on with what it holds."""
    async with on.holding() as client:
        client.stream.call.cancel()
        [known] = on.clients._clients
        await until(lambda: known.is_lost or not on.clients._clients)
        await on.finish(on.revoke(), client)


async def a_credential_that_is_on_its_way(on: HolderCourse) -> None:
    """It is revoked while the worker looks it up for the client."""
    looking, look_up = Pause(), Following._look_up

    async def paused(stream: Following, *given: Any) -> None:
        await looking.here()
        await look_up(stream, *given)

    on.followed.service.app.cache.clear()
    await on.followed.service.admin.ListKeys(owner_id="acme")  # The caller's own key is in memory again.
    async with on.client() as client:
        await client.join()
        await client.renew()
        with mock.patch.object(Following, "_look_up", paused) if look_up is _LOOK_UP else nullcontext():
            holding = asyncio.ensure_future(client.stream.hold(on.going.key))
            pause = looking if look_up is _LOOK_UP else _between
            await pause.reached()
            await on.revoke()
            pause.open()
            client.take(await holding)
        client.verify(ASKED)


async def a_client_with_a_slow_stopwatch(on: HolderCourse) -> None:
    """Its stopwatch falls behind by as much as may be."""
    begun = on.going.stopwatch()
    on.stopwatch = lambda: begun + (on.going.stopwatch() - begun) / 1.15
    async with on.holding() as client:
        granted = on.going.stopwatch()
        revoking = on.revoke()
        await on.answered_or_waiting(revoking)
        # For the worker, what it has granted is over, without the margin.
        on.going.jump(max(0.0, granted + SUB_LEASE + 0.05 - on.going.stopwatch()))
        on.clients.settle()
        if on.clients.settled_mark == inf:
            await revoking
        client.verify(ASKED)
        await on.finish(revoking, client)


async def a_worker_at_the_end_of_its_lease(on: HolderCourse) -> None:
    """It grants a sub-lease right before its own lease ends, and hears nothing of a revocation."""
    async with on.holding() as client:
        on.followed.hold()
        revoking = on.revoke()
        await on.answered_or_waiting(revoking)
        on.going.jump(on.followed.service.app.lease.left - 1)
        await client.renew()
        await on.finish(revoking, client, seconds=LEASE - 25)


async def a_worker_that_registers_anew(on: HolderCourse) -> None:
    """It has lost its place, and begins anew after the revocation, while a client holds the key."""
    async with on.holding() as client:
        follower = on.followed.service.app.follower
        on.followed.hold()
        revoking = on.revoke()
        await on.answered_or_waiting(revoking)
        before = follower.registrations
        follower._lose("for a test")
        on.followed.release()
        follower.hint()
        await until(lambda: follower.registrations > before)
        # What its holders have not carried out, it waits for.
        await on.finish(revoking, client)


async def a_worker_that_has_ended(on: HolderCourse) -> None:
    """Its follower notices it at once; its client lives on."""
    async with on.holding() as client:
        follower = on.followed.service.app.follower
        [attached] = follower.holders._attached
        follower.holders.detach(attached)
        await on.finish(on.revoke(), client)


async def a_worker_that_is_alone_and_dies(on: HolderCourse) -> None:
    """Another one starts in its place, and knows that it is dead; its client lives on."""
    lent = LentLeases()
    follower = on.followed.service.app.follower
    # What the supervisor shares with all its workers.
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitpid(ended, 0)  # noqa: ASYNC222 - it ends at once
    on.clients._note_lent = lent.claim(0, ended) if "unnoted" not in vars(on) else lambda _: None
    async with on.holding() as client:
        on.followed.hold()
        revoking = on.revoke()
        await on.answered_or_waiting(revoking)
        predecessors = Predecessors([follower.worker_id], lent_until=lent.of_dead)
        registration = app.Registration(predecessors=predecessors, lent=lent)
        with mock.patch.object(app, "running", partial(app.running, registration=registration)):
            successor = await on.going.start_worker()
        assert successor.service.app.lease.left
        # The successor waits, and the revoker for the registration.
        await on.finish(revoking, client, waits=lambda: predecessors.next_end(on.going.stopwatch()) < inf)


async def a_client_that_moves(on: HolderCourse) -> None:
    """It follows the other worker next, which does not know what it holds."""
    async with on.holding() as client, on.client(on.other) as moved:
        client.stream.call.cancel()
        moved.memory = client.memory
        await moved.join()
        await moved.renew()
        await on.finish(on.revoke(), moved)
        await moved.renew()
        moved.verify(ASKED)


async def a_suspended_client(on: HolderCourse) -> None:
    """It continues after its sub-lease, and has not heard anything."""
    await a_client_that_does_nothing(on)


async def a_client_that_is_told(on: HolderCourse) -> None:
    """The real one."""
    async with _real(on) as verify:
        await on.revoke()
        verify(ASKED)


async def a_late_grant(on: HolderCourse) -> None:
    """A sub-lease reaches the real client when it is over for the worker, and before the change does."""
    late, read, grant = Pause(), follow_stream._read, Memory.grant

    async def slowly(call: Any) -> Any:
        response = await read(call)
        if response is not None and response.HasField("grant"):
            await late.here()
        return response

    async with _real(on) as verify:
        granted = asyncio.Event()

        def then_verify(*given: Any) -> None:
            grant(*given)
            verify(ASKED)
            granted.set()

        with (
            mock.patch.object(follow_stream, "_read", slowly),
            mock.patch.object(Memory, "grant", then_verify),
        ):
            granted.clear()
            await late.reached()
            revoking = on.revoke()
            await on.answered_or_waiting(revoking)
            on.going.jump(certainly_over(SUB_LEASE) + 0.1)
            await revoking
            granted.clear()
            late.open()
            await granted.wait()


async def a_client_that_forks(on: HolderCourse) -> None:
    """A child asks the memory that it has inherited, after the client has forgotten the key."""
    program = [sys.executable, "-m", "tests.faults.holder_mutants", on.followed.service.address, on.going.key]
    given = {"FAULTS_KEY": on.followed.service.admin_key, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    if "forked_memory" in vars(on):
        given["FAULTS_FORKED_MEMORY"] = "1"
    child = await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_CHECKOUT,
        env=environment() | given,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert await child.stdout.readline() == b"forked\n"
    await on.revoke()
    invoked = time.monotonic()
    told, _ = await child.communicate(b"\n")
    for line in told.decode().split():
        on.note_code(line, invoked, "a forked client")


@asynccontextmanager
async def _real(on: HolderCourse) -> AsyncIterator[Callable[[int], None]]:
    """Run the real client, which holds the key; yield what verifies it so many times from memory."""
    service, key = on.followed.service, on.going.key

    def stopwatch() -> float:
        return on.stopwatch()

    with mock.patch.object(auth_client, "boottime", stopwatch):
        client = AuthClient(service.address, key=service.admin_key, tls=None, hold=True, deadline=30)

        def verify(times: int = 1) -> None:
            for _ in range(times):
                invoked = time.monotonic()
                verdict = client.verify_key_now(key)
                on.note(verdict, invoked, "the real client")

        async with client, asyncio.timeout(60):
            while client.verify_key_now(key) is None:
                await client.verify_key(key)
            verify()
            yield verify


def _in_a_child(address: str, key: str) -> None:
    """Be a client that forks; print what the child says when it is asked."""
    if os.environ.get("FAULTS_FORKED_MEMORY"):
        Memory.forked = lambda _: None  # type: ignore[assignment, method-assign]
        pid = os.getpid()
        os.getpid = lambda: pid

    async def run() -> None:
        client = AuthClient(address, key=os.environ["FAULTS_KEY"], tls=None, hold=True, deadline=30)
        async with client:
            while client.verify_key_now(key) is None:
                await client.verify_key(key)
            child = os.fork()
            if child == 0:
                os.write(1, b"forked\n")
                os.read(0, 1)
                for _ in range(ASKED):
                    verdict = client.verify_key_now(key)
                    os.write(1, f"{_code(verdict)}\n".encode())
                os._exit(0)
            await asyncio.to_thread(os.waitpid, child, 0)

    asyncio.run(run())


# The mutations.

_LOOK_UP = Following._look_up
_between = Pause()
Mutation = Callable[[HolderCourse], Any]


def _patched(target: Any, name: str, value: Any) -> Mutation:
    return lambda _: mock.patch.object(target, name, value)


@contextmanager
def _sent_after_an_await(_: HolderCourse) -> Iterator[None]:
    global _between
    _between = Pause()

    async def later(stream: Any, number: int, text: str, kind: Any, caller: Any) -> None:
        credential = await stream._verifier.identify(text, caller)
        await _between.here()
        stream._send_held(number, text, kind, credential)

    with mock.patch.object(Following, "_look_up", later):
        yield


def _not_noted(*_: Any) -> bool:
    return True


def _lost_is_gone(clients: ClientHolders, client: ClientHolder) -> None:
    clients._remove(client)
    clients._on_settled()


def _lost_is_not_told(clients: ClientHolders, entry: Any) -> None:
    for client in clients._clients:
        if not client.is_lost and not client.has_ended:
            client.forget(entry, clients._mark, clients._stopwatch())


def _granted_beyond_the_lease(on: HolderCourse) -> Any:
    return mock.patch.object(on.clients, "_lease", mock.Mock(left=1000.0))


def _no_margin(_: HolderCourse) -> Any:
    return mock.patch.object(client_holders, "certainly_over", lambda seconds: seconds)


def _kept_by_the_next_stream(memory: Memory, _: int) -> None:
    memory._pid = os.getpid()


def _stopwatch_that_stands_still(on: HolderCourse) -> Any:
    return mock.patch.object(on, "stopwatch", boottime)


def _sub_lease_not_looked_at(_: HolderCourse) -> Any:
    start = Memory.start

    def started(memory: Memory, capacity: int) -> None:
        start(memory, capacity)
        memory._lease.check = lambda: None  # type: ignore[method-assign]

    return mock.patch.object(Memory, "start", started)


def _only_confirmed(stream: FollowStream, forget: pb.FollowResponse.Forget) -> None:
    stream._outbox.confirm(forget.number)


def _from_the_answer(_: HolderCourse) -> Any:
    grant = FollowStream._grant

    def from_now(stream: FollowStream, granted: pb.FollowResponse.Grant) -> None:
        stream._renewed[granted.number] = stream._stopwatch()
        grant(stream, granted)

    return mock.patch.object(FollowStream, "_grant", from_now)


def _flag(name: str) -> Mutation:
    return lambda on: mock.patch.object(on, name, True, create=True)


_detach = Holders.detach


def _detached_for_good(holders: Holders, holder: Attached) -> None:
    holder.until = -inf
    _detach(holders, holder)


_AT_ONCE = property(lambda _: inf)
# What is left out, how, and the scenario in which it matters.
MUTANTS: dict[str, tuple[Mutation, Callable[[HolderCourse], Awaitable[None]]]] = {
    "R12: sent after an await": (_sent_after_an_await, a_credential_that_is_on_its_way),
    "R12: not noted what the client holds": (
        _patched(ClientHolders, "hold", _not_noted),
        a_client_that_does_nothing,
    ),
    "R12: what is held moves to another worker": (
        _patched(Memory, "start", _kept_by_the_next_stream),
        a_client_that_moves,
    ),
    "R13: counted from the answer": (_from_the_answer, a_late_grant),
    "R13: no margin": (_no_margin, a_client_with_a_slow_stopwatch),
    "R13: beyond the lease of the worker": (_granted_beyond_the_lease, a_worker_at_the_end_of_its_lease),
    "R13: a stopwatch that stands still in a suspended machine": (
        _stopwatch_that_stands_still,
        a_suspended_client,
    ),
    "R14: not passed on": (
        _patched(ClientHolders, "_forget", lambda *_: None),
        a_client_that_does_nothing,
    ),
    "R14: confirmed at once": (
        _patched(ClientHolders, "settled_mark", _AT_ONCE),
        a_client_that_does_nothing,
    ),
    "R14: a client is gone with its stream": (
        _patched(ClientHolders, "lost", _lost_is_gone),
        a_client_whose_stream_has_ended,
    ),
    "R14: not counted for a client without a stream": (
        _patched(ClientHolders, "_forget", _lost_is_not_told),
        a_client_whose_stream_has_ended,
    ),
    "R14: a new start that clients are not told of": (
        _patched(ClientHolders, "end", lambda *_: None),
        a_worker_that_registers_anew,
    ),
    "R14: confirmed and not forgotten": (
        _patched(FollowStream, "_forget", _only_confirmed),
        a_client_that_is_told,
    ),
    "R15: an end that frees at once": (
        _patched(Holders, "detach", _detached_for_good),
        a_worker_that_has_ended,
    ),
    "R15: predecessors removed at once": (
        _patched(LentLeases, "of_dead", lambda _: -inf),
        a_worker_that_is_alone_and_dies,
    ),
    "R15: lent and not noted": (_flag("unnoted"), a_worker_that_is_alone_and_dies),
    "R16: the sub-lease not looked at": (_sub_lease_not_looked_at, a_client_that_does_nothing),
    "R16: the process not looked at": (_flag("forked_memory"), a_client_that_forks),
}


async def run(name: str, database_url: str, *, mutated: bool) -> History:
    """Run the scenario of a mutant, with the rule or without it; return what was observed."""
    mutate, happens = MUTANTS[name]
    seconds = LEASE if happens is a_worker_at_the_end_of_its_lease else SUB_LEASE
    async with course(database_url, holder_lease=seconds) as going:
        on = HolderCourse(going)
        with mutate(on) if mutated else nullcontext():
            await happens(on)
        for worker in going.workers:
            worker.release()
    return going.history


if __name__ == "__main__":
    _in_a_child(*sys.argv[1:])
