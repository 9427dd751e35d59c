"""Clients that create, verify, revoke, rotate, update and delete at the same time, and record results.

They have keys and, every third, sessions, which are a `Key` as well. In addition there are
callers that lose their authority while they make changes; see `caller_load`.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from math import inf
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from authsvc.model.credential import CredentialKind
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import resources_pb2
from authsvc.v1 import session_service_pb2 as session_pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.owner_policy_service_pb2_grpc import OwnerPolicyServiceStub
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from tests.faults.caller_load import CallerLoad
from tests.faults.history import Change, Ending, History, Operation, Outcome, Verification
from tests.faults.workers import Fleet, Worker

SCOPE = "orders:write"
_SCOPES = ["orders:read", SCOPE, "tokens:derive"]
# What it takes to create more.
_CREATES = ["keys:write", "sessions:write"]
# Where nobody is.
_ELSEWHERE = "203.0.113.0/24"
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_OUTCOMES = {
    number: Outcome(name.removeprefix("VERDICT_CODE_"))
    for name, number in resources_pb2.VerdictCode.items()
    if name.removeprefix("VERDICT_CODE_") in Outcome.__members__
} | {
    # These are told of a key that is alive only.
    resources_pb2.VERDICT_CODE_RATE_LIMITED: Outcome.VALID,
    resources_pb2.VERDICT_CODE_CREDITS_EXHAUSTED: Outcome.VALID,
}
_ALREADY = {"KEY_ALREADY_REVOKED", "SESSION_ALREADY_REVOKED"}
_GONE = {"KEY_NOT_FOUND", "SESSION_NOT_FOUND"}
KEY, SESSION = CredentialKind.KEY, CredentialKind.SESSION
_REVOKE = {KEY: Operation.REVOKE, SESSION: Operation.SESSION_REVOKE}
_BATCH = 20
# One call in this many is a batch.
_BATCH_EVERY = 40
_HOT = 24
# The maximum number of keys in a change.
_TAKEN = 3
# How many callers lose their authority at a time.
_CALLERS = 2
# The part of the keys and sessions that a token is derived from, and of their verifications that use it. A
# token lives for longer than a load.
_TOKENS, _BY_TOKEN = 0.4, 0.5
_AUDIENCE, _TOKEN_LIFETIME = "https://orders.example", Duration(seconds=3600)
# What a part of the keys has. Their verifications borrow from the database.
_LIMITED = 0.1
_LIMITS: dict[str, Any] = {
    "rate_limits": [
        resources_pb2.RateLimit(name="few", limit=100, period=Duration(seconds=1)),
        resources_pb2.RateLimit(name="many", limit=1_000_000_000, period=Duration(seconds=60)),
    ],
    "credits": resources_pb2.Credits(remaining=1_000_000_000),
}
# What a machine that is not busy may add to the duration of a call.
_SLACK = 0.5


class _NotLet(Exception):
    """A caller may not create anything any more."""


@dataclass(eq=False)
class Key:
    """A key or a session as known to the client that created it."""

    key_id: str
    key_string: str = field(repr=False)
    owner_id: str
    kind: CredentialKind = KEY
    scoped: bool = True
    # Whether an update of its scopes was never answered: clients then do not change them any more.
    doubtful: bool = False
    # When it expires by the database's clock, in seconds since the epoch; 0: never.
    expiry: float = 0.0
    # Derived from it; "" if none was.
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Answer:
    """How a change ended, in more detail than the checker needs."""

    ending: Ending
    invoked: float
    answered: float
    reason: str = ""
    message: str = ""
    # How long this process and the workers waited for a CPU meanwhile.
    held_up: float = 0.0

    @property
    def seconds(self) -> float:
        return self.answered - self.invoked

    def within(self, seconds: float) -> bool:
        """Return whether it took no longer than this, apart from delays of the machine."""
        return self.seconds < seconds + _SLACK + self.held_up


class Load:
    """Runs until `finish`; `history` has everything that was observed."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        keys: int = 30,
        verifiers: int = 2,
        changers: int = 3,
        verify_timeout: float = 4.0,
        change_timeout: float = 12.0,
        seed: int = 1,
    ) -> None:
        self.history = History()
        self.refusals: Counter[str] = Counter()
        # How many verifications are of tokens.
        self.by_token = 0
        self.begun = time.monotonic()
        self._fleet = fleet
        self._wanted = keys
        self._verifiers = verifiers
        self._changers = changers
        self._verify_timeout = verify_timeout
        self._change_timeout = change_timeout
        self._random = random.Random(seed)  # noqa: S311
        self._alive: list[Key] = []
        self._hot: deque[Key] = deque(maxlen=_HOT)
        #: What is called with each new key or session, before anybody verifies it.
        self.on_made: list[Callable[[Key], object]] = []
        self._stubs: dict[Worker, tuple[grpc.aio.Channel, Sequence[Any]]] = {}
        self._metadata = [("authorization", f"Bearer {fleet.admin_key}")]
        self._tasks: list[asyncio.Task[None]] = []
        self._probes: set[asyncio.Task[None]] = set()
        self._verified_by: Counter[Worker] = Counter()
        self._stopping = False
        self._callers = CallerLoad(fleet, self.history.callers, seed, self._changing)
        self._owners = 0
        self._kinds = cycle((KEY, SESSION, KEY))
        self._pairs = cycle(((Operation.DISABLE, Operation.ENABLE), (Operation.CONFINE, Operation.FREE)))
        # Whose end comes next when those of one owner are ended, and which one stays alive.
        self._ends = cycle(((SESSION, SESSION), (KEY, SESSION), (SESSION, KEY)))
        # Whether a fault of the service counts as an unknown outcome.
        # Changes are sent to these, or to all that serve if there are none.
        self.revokers: Collection[Worker] = ()

    # What tests do themselves.

    async def start(self) -> None:
        """Create the first keys, make every worker know them, and begin."""
        self._alive += await asyncio.gather(*(self._make_one() for _ in range(self._wanted)))
        for worker in self._fleet.serving:
            self.add_verifiers(worker)
        for _ in range(self._changers):
            self._spawn(self._go_on_changing())
        for _ in range(_CALLERS):
            self._spawn(self._callers.go_on())

    def add_verifiers(self, worker: Worker) -> None:
        """Also begin to verify on a worker; one that is killed and comes back needs no second call."""
        for _ in range(self._verifiers):
            self._spawn(self._go_on_verifying(worker))

    async def _make_one(self, kind: CredentialKind | None = None) -> Key:
        """Create a key or a session for the load itself."""
        kind = kind or next(self._kinds)
        is_limited = kind is KEY and self._random.random() < _LIMITED
        return await self.make(kind=kind, **(_LIMITS if is_limited else {}))

    async def make(
        self,
        *,
        worker: Worker | None = None,
        owner_id: str = "acme",
        kind: CredentialKind | None = None,
        by: Key | None = None,
        warm: bool = True,
        **fields: Any,
    ) -> Key:
        """Create a key or a session, and verify it on every worker that serves, unless it stays cold.

        It is created by the administrator, or `by` another one. Raises _NotLet if that is revoked.
        """
        kind = kind or next(self._kinds)
        given = {"owner_id": owner_id, "scopes": _SCOPES, **fields}
        method, request = (
            ("CreateSession", session_pb.CreateSessionRequest(**given))
            if kind is SESSION
            else ("CreateKey", pb.CreateKeyRequest(display_name="fault", **given))
        )
        while True:
            try:
                made = await self._call(
                    worker or self._revoker(), method, request, self._change_timeout, by=by
                )
            except grpc.aio.AioRpcError as error:
                if by is not None and error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    raise _NotLet from error
                self._expect_passing(error)
                if by is not None and self._stopping:
                    raise _NotLet from error
                await asyncio.sleep(0.05)
                continue
            if kind is SESSION:
                key = Key(made.session.session_id, made.session_token, owner_id, kind)
            else:
                key = Key(made.key.key_id, made.key_string, owner_id)
            if kind is KEY and made.key.HasField("expire_time"):
                key.expiry = made.key.expire_time.ToNanoseconds() / 1e9
                self.history.mortal.add(key.key_id)
            elif self._random.random() < _TOKENS:
                await self._derive(key)
            self._tell(key)
            if warm:
                await self.verify_everywhere(key)
            return key

    async def _derive(self, key: Key) -> None:
        """Derive a token from a key or session, if a worker can do it now."""
        asked = pb.DeriveTokenRequest(
            audience=_AUDIENCE, scopes=["orders:read", SCOPE], lifetime=_TOKEN_LIFETIME
        )
        try:
            told = await self._call(self._revoker(), "DeriveToken", asked, self._verify_timeout, by=key)
        except grpc.aio.AioRpcError as error:
            # Of a cascade that has ended it before.
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                self._expect_passing(error)
        else:
            key.token = told.token

    async def revoke(self, key: Key, worker: Worker, *, timeout: float = 60) -> Answer:
        """Revoke a key or a session, once."""
        self._hot.append(key)
        operation = _REVOKE[key.kind]
        answer, _ = await self._change(operation, [key], worker, *_request(operation, [key]), timeout)
        return answer

    async def revoke_all(
        self, keys: Sequence[Key], worker: Worker, *, spared: Key | None = None, timeout: float = 60
    ) -> Answer:
        """Revoke all sessions of an owner, once: these, and those that are created meanwhile."""
        self._hot.extend(keys)
        operation = Operation.SESSION_REVOKE_ALL
        asked = _request(operation, keys, spared)
        answer, _ = await self._change(operation, keys, worker, *asked, timeout)
        return answer

    async def verify(
        self,
        key: Key,
        worker: Worker,
        *,
        scoped: bool = False,
        timeout: float | None = None,
        by_token: bool = False,
    ) -> Outcome:
        """Verify a key on a worker, `by_token` if it has one: then the worker need not know its string."""
        given: dict[str, Any] = {"required_scopes": [SCOPE] if scoped else [], "client_ip": "192.0.2.1"}
        request: Any
        if by_token and key.token:
            method = "VerifyToken"
            request = pb.VerifyTokenRequest(token=key.token, audience=_AUDIENCE, **given)
            self.by_token += 1
        elif key.kind is SESSION:
            method = "VerifySession"
            request = session_pb.VerifySessionRequest(session_token=key.key_string, **given)
        else:
            method, request = "VerifyKey", pb.VerifyKeyRequest(key_string=key.key_string, **given)
        invoked = time.monotonic()
        outcome = Outcome.UNAVAILABLE
        try:
            verdict = await self._call(worker, method, request, timeout or self._verify_timeout)
            outcome = _OUTCOMES[verdict.code]
        except grpc.aio.AioRpcError as error:
            outcome = self._no_verdict(error)
        finally:
            self._note(key, worker, invoked, outcome, scoped)
        return outcome

    def revoke_soon(self, key: Key, worker: Worker, *, timeout: float = 60) -> "asyncio.Task[Answer]":
        """Begin to revoke a key, without waiting for it."""
        return asyncio.create_task(self.revoke(key, worker, timeout=timeout))

    def verify_soon(
        self, key: Key, worker: Worker, *, timeout: float | None = None
    ) -> "asyncio.Task[Outcome]":
        """Begin to verify a key, without waiting for it."""
        return asyncio.create_task(self.verify(key, worker, timeout=timeout))

    async def watch(self, key: Key, worker: Worker, over: asyncio.Event) -> None:
        """Verify a key on a worker repeatedly."""
        while not over.is_set():
            await self.verify(key, worker)
            await asyncio.sleep(0.005)

    async def recovered(self, worker: Worker, seconds: float = 15) -> None:
        """Wait until the verdict of a worker on a key that is alive is VALID."""
        key = await self.make(warm=False)
        deadline = time.monotonic() + seconds
        while await self.verify(key, worker) is not Outcome.VALID:
            assert time.monotonic() < deadline, f"{worker.name} does not recover"
            await asyncio.sleep(0.02)

    async def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Wait for a condition, and for faults of the load."""
        deadline = time.monotonic() + seconds
        while not condition():
            self._raise_faults()
            assert time.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(0.01)

    async def verdicts(self, key: Key) -> set[Outcome]:
        """Return the current verdicts of all workers that serve on a key."""
        return set(await self.verify_everywhere(key))

    async def until_told(
        self, read: Callable[[], Awaitable[object]], wanted: object, seconds: float = 20
    ) -> None:
        """Wait until what is read has the expected value."""
        deadline = time.monotonic() + seconds
        while (found := await read()) != wanted:
            assert time.monotonic() < deadline, f"still {found}"
            await asyncio.sleep(0.01)

    async def verify_everywhere(self, key: Key, timeout: float | None = None) -> list[Outcome]:
        """Verify a key on every worker that serves, at the same time."""
        asked = (self.verify(key, worker, timeout=timeout) for worker in self._fleet.serving)
        return list(await asyncio.gather(*asked))

    async def reach(self, volume: int, round_: Callable[[], Awaitable[object]] | None = None) -> None:
        """Continue until there are this many verifications, repeating `round_` meanwhile."""
        while len(self.history.verifications) < volume:
            self._raise_faults()
            await (round_() if round_ else asyncio.sleep(0.05))

    async def see(self, count: int, worker: Worker | None = None) -> None:
        """Continue until there are this many more verifications, by a worker if one is given."""
        told = self._verified_by
        wanted = count + (told[worker] if worker else told.total())
        while (told[worker] if worker else told.total()) < wanted:
            self._raise_faults()
            await asyncio.sleep(0.01)

    async def see_changes(self, count: int) -> None:
        """Continue until this many more changes were answered."""
        wanted = len(self.history.changes) + count
        while len(self.history.changes) < wanted:
            self._raise_faults()
            await asyncio.sleep(0.01)

    def last_valid(self, worker: Worker) -> Verification:
        """Return the last VALID verification of a worker."""
        return max(
            (
                seen
                for seen in self.history.verifications
                if seen.worker == worker.name and seen.outcome is Outcome.VALID
            ),
            key=lambda seen: seen.answered,
        )

    async def finish(self) -> None:
        """Stop verifications now, and changes when they are answered or have timed out."""
        self._stopping = True
        self._callers.stop()
        tasks = [*self._tasks, *self._probes]
        _, late = await asyncio.wait(tasks, timeout=6) if tasks else (None, set())
        for task in late:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await self._callers.look_again(6)

    async def abandon(self) -> None:
        """Stop at once, whatever is in progress."""
        self._stopping = True
        tasks = [*self._tasks, *self._probes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def keys(self) -> list[Key]:
        """The keys and sessions that are alive."""
        return list(self._alive)

    # What runs in the background.

    async def _go_on_verifying(self, worker: Worker) -> None:
        count = self._random.randrange(_BATCH_EVERY)
        while not self._stopping:
            if not worker.serves:
                await asyncio.sleep(0.02)
                continue
            count += 1
            before = self._verified_by[worker]
            picked = [self._pick() for _ in range(1 if count % _BATCH_EVERY else _BATCH)]
            batch = [key for key in picked if key.kind is KEY]  # Sessions are verified one by one.
            if len(batch) > 1:
                outcome = await self._verify_batch(batch, worker)
            else:
                scoped = self._random.random() < 0.3
                by_token = self._random.random() < _BY_TOKEN
                outcome = await self.verify(picked[0], worker, scoped=scoped, by_token=by_token)
            if outcome is Outcome.UNAVAILABLE or self._verified_by[worker] == before:
                await asyncio.sleep(0.01)

    async def _verify_batch(self, keys: Sequence[Key], worker: Worker) -> Outcome:
        asked = [(key, self._random.random() < 0.3) for key in keys]
        request = pb.BatchVerifyKeysRequest(
            requests=[
                pb.VerifyKeyRequest(key_string=key.key_string, required_scopes=[SCOPE] if scoped else [])
                for key, scoped in asked
            ]
        )
        invoked = time.monotonic()
        outcomes = [Outcome.UNAVAILABLE] * len(asked)
        try:
            told = await self._call(worker, "BatchVerifyKeys", request, self._verify_timeout)
            outcomes = [_OUTCOMES[verdict.code] for verdict in told.responses]
        except grpc.aio.AioRpcError as error:
            outcomes = [self._no_verdict(error)] * len(asked)
        finally:
            for (key, scoped), outcome in zip(asked, outcomes, strict=True):
                self._note(key, worker, invoked, outcome, scoped)
        return outcomes[0]

    def _tell(self, key: Key) -> None:
        for tell in self.on_made:
            tell(key)

    def _pick(self) -> Key:
        if self._hot and (not self._alive or self._random.random() < 0.45):
            return self._random.choice(self._hot)
        return self._random.choice(self._alive)

    async def _go_on_changing(self) -> None:
        await self.revoke_owner()
        while not self._stopping:
            if len(self._alive) < self._wanted:
                self._alive.append(await self._make_one())
                continue
            # The number of spared sessions grows, and some changes apply to keys only.
            if sum(key.kind is KEY for key in self._alive) < _TAKEN:
                self._alive.append(await self._make_one(KEY))
                continue
            dice = self._random.random()
            if dice < 0.1:
                await self._change_scope(self._random.choice(self._alive))
            elif dice < 0.2:
                await self._take_and_give(self._take(KEY))
            elif dice < 0.65:
                key = self._take()
                await self._kill(_REVOKE[key.kind], [key])
            elif dice < 0.77:
                await self._kill(Operation.ROTATE, [self._take(KEY)])
            elif dice < 0.83:
                await self._kill(Operation.BATCH_REVOKE, [self._take(KEY) for _ in range(_TAKEN)])
            elif dice < 0.87:
                await self._kill(Operation.LEAK_REPORT, [self._take() for _ in range(_TAKEN)])
            elif dice < 0.91:
                await self.cascade()
            elif dice < 0.93:
                await self.revoke_self()
            elif dice < 0.95:
                await self.confine_owner()
            else:
                await self.revoke_owner()

    def _take(self, kind: CredentialKind | None = None) -> Key:
        key = self._random.choice([key for key in self._alive if kind in (None, key.kind)])
        self._alive.remove(key)
        return key

    async def revoke_owner(self) -> None:
        """Create an owner with some keys or sessions, and revoke all of them at once.

        Another one of the owner stays alive: of the other kind, or the session that is excepted.
        """
        self._owners += 1
        kind, other = next(self._ends)
        kinds = (other, kind, kind, kind)
        made = (self.make(owner_id=f"owner-{self._owners}", kind=kind) for kind in kinds)
        spared, *keys = await asyncio.gather(*made)
        self._hot.append(spared)  # No other task may end it meanwhile: an excepted one has to stay alive.
        operation = Operation.OWNER_REVOKE if kind is KEY else Operation.SESSION_REVOKE_ALL
        await self._kill(operation, keys, spared)
        self._alive.append(spared)

    async def revoke_self(self) -> None:
        """Create a key that may end itself, and let it do so; if the outcome is unknown, end it otherwise."""
        key = await self.make(kind=KEY, scopes=[*_SCOPES, "keys:self"])
        self._hot.append(key)
        asked = _request(Operation.SELF_REVOKE, [key])
        answer, _ = await self._change(
            Operation.SELF_REVOKE, [key], self._revoker(), *asked, self._change_timeout, by=key
        )
        self._look_everywhere(key)
        if answer.ending is Ending.UNKNOWN:
            # A repeated call may be refused before all workers have confirmed.
            await self._kill(Operation.REVOKE, [key])

    async def confine_owner(self) -> None:
        """Create an owner with keys and a session, and confine the keys to networks where nobody is."""
        self._owners += 1
        kinds = (KEY, KEY, SESSION)
        made = await asyncio.gather(
            *(self.make(owner_id=f"owner-{self._owners}", kind=kind) for kind in kinds)
        )
        self._hot.extend(made)
        for operation in (Operation.CONFINE_OWNER, Operation.FREE_OWNER):
            await self._until_known(operation, made[:2])
            self._look_everywhere(made[2])
        self._alive += made

    async def cascade(self) -> None:
        """Create a key, let it create others and sessions, and go on with that while all of it is ended."""
        self._owners += 1
        given: dict[str, Any] = {"owner_id": f"owner-{self._owners}", "scopes": [*_SCOPES, *_CREATES]}
        root = await self.make(kind=KEY, **given)
        child = await self.make(kind=KEY, by=root, **given)
        opened = await self.make(kind=SESSION, by=child, **given)
        keys = [root, child, opened, await self.make(kind=KEY, by=opened, **given)]
        over, late = asyncio.Event(), list[Key]()

        async def go_on(by: Key) -> None:
            with suppress(_NotLet):
                while not (over.is_set() or self._stopping):
                    late.append(await self.make(by=by, warm=False, **given))
                    await asyncio.sleep(0.02)  # Others need the machine, too.

        creating = [asyncio.create_task(go_on(key)) for key in keys]
        before = len(self.history.changes)
        try:
            await self._kill(Operation.CASCADE, keys)
            over.set()
            await asyncio.gather(*creating)
        finally:
            for task in creating:
                task.cancel()
        # What the cascade is said to have done to the key, it has done to what was created.
        done = [
            change
            for change in self.history.changes[before:]
            if change.key == root.key_id and change.operation is Operation.CASCADE
        ]
        self.history.changes += [change._replace(key=key.key_id) for change in done for key in late]
        self._hot.extend(late)
        for key in late:
            self._look_everywhere(key)

    async def _kill(self, operation: Operation, keys: list[Key], spared: Key | None = None) -> None:
        """Revoke in one of several ways, repeatedly until the outcome is known; then verify everywhere."""
        method, request = _request(operation, keys, spared)
        self._hot.extend(keys)
        ending = Ending.UNKNOWN
        while ending is Ending.UNKNOWN and not self._stopping:
            timeout = 0.3 if self._random.random() < 0.1 else self._change_timeout
            answer, told = await self._change(operation, keys, self._revoker(), method, request, timeout)
            if answer.reason in _GONE:
                # A deletion whose answer was lost; nothing else deletes keys.
                assert operation is Operation.DELETE, f"{keys} are gone: {answer.message}"
                return
            ending = answer.ending
            for key in keys:
                self._look_everywhere(key)
            # The new key has the scopes of the old one; the checker assumes that it has all.
            if ending is Ending.OK and operation is Operation.ROTATE and set(told.key.scopes) == set(_SCOPES):
                self._alive.append(Key(told.key.key_id, told.key_string, keys[0].owner_id))
                self._tell(self._alive[-1])
            if ending is Ending.UNKNOWN:
                await asyncio.sleep(0.02)
        last = Operation.DELETE if keys[0].kind is KEY else Operation.SESSION_REVOKE
        if operation is not last and self._random.random() < 0.3 and not self._stopping:
            await self._kill(last, keys[:1])

    async def _change_scope(self, key: Key) -> None:
        if key.doubtful or key.kind is SESSION:
            return
        self._alive.remove(key)  # No other task may change it meanwhile.
        self._hot.append(key)
        operation = Operation.TAKE_SCOPE if key.scoped else Operation.GIVE_SCOPE
        key.scoped = not key.scoped
        request = pb.UpdateKeyRequest(
            key=resources_pb2.Key(key_id=key.key_id, scopes=_SCOPES if key.scoped else _SCOPES[:1]),
            update_mask=FieldMask(paths=["scopes"]),
        )
        answer, _ = await self._change(
            operation, [key], self._revoker(), "UpdateKey", request, self._change_timeout
        )
        key.doubtful = answer.ending is not Ending.OK
        for worker in self._fleet.serving:
            self._probe(self.verify(key, worker, scoped=True))
        self._alive.append(key)

    async def _take_and_give(self, key: Key) -> None:
        """Make a key useless for a moment: it is disabled, or confined to networks where nobody is."""
        self._hot.append(key)
        for operation in next(self._pairs):
            await self._until_known(operation, [key])
        self._alive.append(key)

    async def _until_known(self, operation: Operation, keys: Sequence[Key]) -> None:
        """Make a change repeatedly until the outcome is known, and verify everywhere after each call."""
        ending = Ending.UNKNOWN
        while ending is Ending.UNKNOWN and not self._stopping:
            asked = _request(operation, keys)
            answer, _ = await self._change(operation, keys, self._revoker(), *asked, self._change_timeout)
            ending = answer.ending
            for key in keys:
                self._look_everywhere(key)
            if ending is Ending.UNKNOWN:
                await asyncio.sleep(0.02)

    async def _change(
        self,
        operation: Operation,
        keys: Sequence[Key],
        worker: Worker,
        method: str,
        request: object,
        timeout: float,
        *,
        by: Key | None = None,
    ) -> tuple[Answer, Any]:
        invoked, answered, ending, reason, message = time.monotonic(), inf, Ending.UNKNOWN, "", ""
        told, waits = None, self._fleet.waits()
        try:
            told = await self._call(worker, method, request, timeout, by=by)
            answered, ending = time.monotonic(), Ending.OK
        except grpc.aio.AioRpcError as error:
            answered, reason, message = time.monotonic(), reason_of(error), error.details() or ""
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION and reason in _ALREADY:
                ending = Ending.ALREADY
            elif reason not in {*_GONE, "DESCENDANTS_CHANGED"}:
                self._expect_passing(error)
        finally:
            self.history.changes.extend(
                Change(operation, key.key_id, worker.name, invoked, answered, ending) for key in keys
            )
        return Answer(ending, invoked, answered, reason, message, self._fleet.held_up(waits)), told

    def _look_everywhere(self, key: Key) -> None:
        by_token = self._random.random() < _BY_TOKEN
        for worker in self._fleet.serving:
            self._probe(self.verify(key, worker, by_token=by_token))

    def _probe(self, work: Coroutine[Any, Any, object]) -> None:
        async def probe() -> None:
            await work

        task = asyncio.create_task(probe())
        self._probes.add(task)

        def done(_: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is None:
                self._probes.discard(task)

        task.add_done_callback(done)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    def _raise_faults(self) -> None:
        for task in (*self._tasks, *self._probes):
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    def _changing(self) -> list[Worker]:
        return list(self.revokers) or self._fleet.serving

    def _revoker(self) -> Worker:
        return self._random.choice(self._changing())

    async def _call(
        self, worker: Worker, method: str, request: object, timeout: float, *, by: Key | None = None
    ) -> Any:
        if not worker.serves:  # Killed, and not yet back.
            raise _nobody_there()
        channel, stubs = self._stubs.get(worker, (None, ()))
        if channel is not worker.channel:
            channel = worker.channel
            stubs = SessionServiceStub(channel), OwnerPolicyServiceStub(channel), KeyServiceStub(channel)
            self._stubs[worker] = channel, stubs
        stub = next(each for each in stubs if hasattr(each, method))
        metadata = self._metadata if by is None else [("authorization", f"Bearer {by.key_string}")]
        return await getattr(stub, method)(request, metadata=metadata, timeout=timeout)

    def _note(self, key: Key, worker: Worker, invoked: float, outcome: Outcome, scoped: bool) -> None:
        self._verified_by[worker] += 1
        self.history.verifications.append(
            Verification(key.key_id, worker.name, invoked, time.monotonic(), outcome, scoped)
        )

    def _no_verdict(self, error: grpc.aio.AioRpcError) -> Outcome:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return Outcome.UNAUTHENTICATED
        self._expect_passing(error)
        return Outcome.UNAVAILABLE

    def _expect_passing(self, error: grpc.aio.AioRpcError) -> None:
        if error.code() not in _PASSING:
            raise error
        self.refusals[reason_of(error) or f"{error.code().name}: {(error.details() or '')[:80]}"] += 1


def _request(operation: Operation, keys: Sequence[Key], spared: Key | None = None) -> tuple[str, object]:
    """Return the method that makes this change to keys, and its request."""
    owner_id, key_id, key_ids = keys[0].owner_id, keys[0].key_id, [key.key_id for key in keys]
    leaks = [pb.LeakedKey(key_string=key.key_string, place="a test of faults") for key in keys]
    but = spared.key_id if spared is not None and spared.kind is SESSION else ""
    return {
        Operation.REVOKE: ("RevokeKey", pb.RevokeKeyRequest(key_id=key_id)),
        Operation.ROTATE: ("RotateKey", pb.RotateKeyRequest(key_id=key_id)),
        Operation.BATCH_REVOKE: ("BatchRevokeKeys", pb.BatchRevokeKeysRequest(key_ids=key_ids)),
        Operation.OWNER_REVOKE: ("BatchRevokeKeys", pb.BatchRevokeKeysRequest(owner_id=owner_id)),
        Operation.LEAK_REPORT: ("ReportLeakedKeys", pb.ReportLeakedKeysRequest(leaks=leaks)),
        Operation.CASCADE: ("RevokeKey", pb.RevokeKeyRequest(key_id=key_id, cascade=True)),
        Operation.DELETE: ("DeleteKey", pb.DeleteKeyRequest(key_id=key_id)),
        Operation.DISABLE: ("DisableKey", pb.DisableKeyRequest(key_id=key_id)),
        Operation.ENABLE: ("EnableKey", pb.EnableKeyRequest(key_id=key_id)),
        Operation.SELF_REVOKE: ("RevokeSelf", pb.RevokeSelfRequest()),
        Operation.CONFINE_OWNER: ("UpdateOwnerPolicy", _confined_owner(owner_id, _ELSEWHERE)),
        Operation.FREE_OWNER: ("UpdateOwnerPolicy", _confined_owner(owner_id)),
        Operation.CONFINE: ("UpdateKey", _confined(key_id, _ELSEWHERE)),
        Operation.FREE: ("UpdateKey", _confined(key_id)),
        Operation.SESSION_REVOKE: ("RevokeSession", session_pb.RevokeSessionRequest(session_id=key_id)),
        Operation.SESSION_REVOKE_ALL: (
            "RevokeAllSessions",
            session_pb.RevokeAllSessionsRequest(owner_id=owner_id, except_session_id=but),
        ),
    }[operation]


def _confined(key_id: str, *networks: str) -> pb.UpdateKeyRequest:
    key = resources_pb2.Key(key_id=key_id, allowed_networks=networks)
    return pb.UpdateKeyRequest(key=key, update_mask=FieldMask(paths=["allowed_networks"]))


def _confined_owner(owner_id: str, *networks: str) -> policy_pb.UpdateOwnerPolicyRequest:
    policy = policy_pb.OwnerPolicy(owner_id=owner_id, allowed_networks=networks)
    return policy_pb.UpdateOwnerPolicyRequest(
        policy=policy, update_mask=FieldMask(paths=["allowed_networks"])
    )


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the service's reason, or "" if the error is gRPC's own."""
    status = rpc_status.from_call(error)
    info = ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Is(ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    return str(info.reason)


def _nobody_there() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "the worker is not running"
    )
