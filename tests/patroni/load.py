"""The load of the fault tests on connections to replicas: what it has created, and when it was answered."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc

from authsvc.v1 import key_service_pb2 as pb
from tests.faults.history import Ending, Outcome
from tests.faults.load import KEY, SESSION, Key, Load
from tests.faults.workers import Worker
from tests.patroni.replicas import Line, Replicas

# Clients pause after a verification, or they would take the CPU that the cluster needs.
_PAUSE = 0.04
# The intervals at which each connection is asked about keys that its worker knows, and each replica about one
# that it does not know, and to change something.
_WARM, _COLD, _WRITE = 0.04, 0.4, 0.25
_WARM_KEYS = 6
# An outage of so many seconds uses up the unknown keys; writes make new ones.
_OUTAGE = 40
_KEPT = 12
_AT_ONCE = 12
_TIMEOUT = 5.0


@dataclass
class Answers:
    """When calls of one kind were answered, as far as they were."""

    name: str
    times: list[float] = field(default_factory=list)

    def gap(self, since: float, until: float) -> float:
        """Return the longest time without an answer that touches this interval."""
        before = [at for at in self.times if at <= since][-1:] or [since]
        within = [at for at in self.times if since < at < until]
        instants = [*before, *within, until]
        return max(later - earlier for earlier, later in pairwise(instants))

    def count(self, since: float) -> int:
        """Return how many there are since an instant."""
        return sum(at > since for at in reversed(self.times[-200:]))


class ClusterLoad(Load):
    """The load, with probes of each connection and each replica that measure when they are answered."""

    def __init__(self, on: Replicas, **options: Any) -> None:
        super().__init__(on, verifiers=1, change_timeout=8.0, verify_timeout=6.0, **options)
        self.warm = {line: Answers(f"warm on {line.name}") for line in on.lines}
        numbers = sorted({line.replica for line in on.lines})
        self.cold = [Answers(f"cold on replica {number}") for number in numbers]
        self.writes = [Answers(f"writes on replica {number}") for number in numbers]
        # The keys whose creation was answered.
        self.created: dict[str, Key] = {}
        self._on = on
        # Those that are revoked are some seconds old, so that a failover may have their creation only.
        self._to_revoke: deque[Key] = deque()
        self._unknown: list[deque[Key]] = [deque() for _ in numbers]

    @property
    def series(self) -> list[Answers]:
        return [*self.warm.values(), *self.cold, *self.writes]

    async def start(self, *, only_probes: bool = False) -> None:
        """Also begin to probe, or only that: the other clients end when a key is lost."""
        if not only_probes:
            await super().start()
        known = [await self.make(kind=KEY) for _ in range(_WARM_KEYS)]
        count = int(_OUTAGE / _COLD)
        for start in range(0, count, 10):
            size = min(10, count - start)
            made = await asyncio.gather(*(self.make(kind=KEY, warm=False) for _ in range(size)))
            for keys in self._unknown:
                keys.extend(made)
        for line in self._on.lines:
            self._spawn(self._probe_warm(line, known))
        for number in range(len(self.writes)):
            lines = [line for line in self._on.lines if line.replica == number]
            self._spawn(self._at_intervals(_COLD, lines, self._probe_cold))
            self._spawn(self._at_intervals(_WRITE, lines, self._probe_write))

    async def answered(self, since: float, seconds: float) -> list[str]:
        """Wait until everything was answered since an instant, twice; return what was not within the time."""
        deadline = time.monotonic() + seconds
        while missing := [answers.name for answers in self.series if answers.count(since) < 2]:
            self._raise_faults()
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        return missing

    async def verify_all(self) -> None:
        """Verify on each connection everything that was created."""
        ask = super().verify

        async def verify_on(line: Line) -> None:
            for key in list(self.created.values()):
                await ask(key, line)

        await asyncio.gather(*map(verify_on, self._on.lines))

    async def verify(
        self,
        key: Key,
        worker: Worker,
        *,
        scoped: bool = False,
        timeout: float | None = None,
        by_token: bool = False,
    ) -> Outcome:
        """Verify a key, and pause."""
        outcome = await super().verify(key, worker, scoped=scoped, timeout=timeout, by_token=by_token)
        await asyncio.sleep(_PAUSE)
        return outcome

    async def _verify_batch(self, keys: Sequence[Key], worker: Worker) -> Outcome:
        outcome = await super()._verify_batch(keys, worker)
        await asyncio.sleep(_PAUSE)
        return outcome

    async def _call(
        self, worker: Worker, method: str, request: object, timeout: float, *, by: Key | None = None
    ) -> Any:
        told = await super()._call(worker, method, request, timeout, by=by)
        if method in ("CreateKey", "RotateKey"):
            self.created[told.key.key_id] = Key(told.key.key_id, told.key_string, told.key.owner_id)
        elif method == "CreateSession":
            made = Key(told.session.session_id, told.session_token, told.session.owner_id, SESSION)
            self.created[made.key_id] = made
        return told

    async def _probe_warm(self, line: Line, known: Sequence[Key]) -> None:
        count = 0
        while not self._stopping:
            count += 1
            if await self.verify(known[count % len(known)], line, timeout=_TIMEOUT) is Outcome.VALID:
                self.warm[line].times.append(time.monotonic())
            await asyncio.sleep(_WARM)

    async def _at_intervals(self, seconds: float, lines: Sequence[Line], probe: Any) -> None:
        """Begin a probe at each interval, on one connection after another, without waiting for answers."""
        running: set[asyncio.Task[None]] = set()
        count = 0
        try:
            while not self._stopping:
                count += 1
                if len(running) < _AT_ONCE:
                    running.add(asyncio.create_task(probe(lines[count % len(lines)], count)))
                await asyncio.sleep(seconds)
                for task in [task for task in running if task.done()]:
                    running.remove(task)
                    task.result()
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _probe_cold(self, line: Line, _: int) -> None:
        keys = self._unknown[line.replica]
        if keys:
            key = keys.popleft()
            if await self.verify(key, line, timeout=_TIMEOUT) is not Outcome.UNAVAILABLE:
                self.cold[line.replica].times.append(time.monotonic())

    async def _probe_write(self, line: Line, count: int) -> None:
        request = pb.CreateKeyRequest(display_name="probe", owner_id="probe", scopes=["orders:write"])
        try:
            made = await self._call(line, "CreateKey", request, _TIMEOUT)
        except grpc.aio.AioRpcError as error:
            self._expect_passing(error)
            return
        self.writes[line.replica].times.append(time.monotonic())
        key = Key(made.key.key_id, made.key_string, "probe")
        if count % 2:
            for keys in self._unknown:
                keys.append(key)
            return
        self._to_revoke.append(key)
        if len(self._to_revoke) > _KEPT:
            old = self._to_revoke.popleft()
            if (await self.revoke(old, line, timeout=_TIMEOUT)).ending is Ending.OK:
                self.writes[line.replica].times.append(time.monotonic())
