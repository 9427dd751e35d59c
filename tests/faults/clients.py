"""Clients that verify in processes of their own, under the load and the checker of the fault tests."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from authsvc.model.credential import CredentialKind
from tests.e2e.process import environment, eventually
from tests.faults.history import Outcome, Verification
from tests.faults.load import Key, Load
from tests.faults.table import VOLUME
from tests.faults.workers import Fleet, Worker, is_stopped

_CHECKOUT = Path(__file__).parent.parent.parent
_SCOPES = ("holders:follow", "keys:verify", "sessions:verify")
_LIMIT = 1 << 22
_AGAIN_SECONDS = 0.5
# Verifications from memory cost less than others: where many are asked for, several times as many are made.
_OFTEN = 3 if VOLUME in os.environ else 1


class HoldingClient:
    """One process (`tests.faults.client_process`). What it observes is in the history of the load."""

    def __init__(self, number: int, load: Load, directory: Path, command: tuple[str, ...] = ()) -> None:
        """`command` is what it is started with."""
        self.name = f"client {number}"
        # How many verifications it has answered from memory, and how often memory did not know.
        self.recalled = 0
        self.unknown = 0
        self.children: list[int] = []
        # What its children observed that memory did not know.
        self.unknown_to_children = 0
        self._load, self._command = load, command
        self._log = directory / f"client-{number}"
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: IO[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: dict[str, Verification] = {}
        self._answered: dict[str, Verification] = {}
        self.last: Verification | None = None  # the last VALID from memory
        self.outcomes: Counter[Outcome] = Counter()  # of those that were asked

    async def start(self, target: str, on: Fleet, worker: Worker) -> None:
        """Start it with a key of its own, made by a worker, and return when it holds credentials."""
        made = await on.client(worker).CreateKey(
            owner_id="authsvc", display_name=self.name, scopes=_SCOPES, timeout=60
        )
        self._stderr = self._log.open("wb")
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            sys.executable,
            "-m",
            "tests.faults.client_process",
            target,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._stderr,
            cwd=_CHECKOUT,
            # gRPC's own fork handlers sometimes end a process that forks.
            env=environment() | {"FAULTS_KEY": made.key_string, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            limit=_LIMIT,
        )
        self._reading = asyncio.create_task(self._read())
        self._load.on_made.append(self.tell)
        for key in self._load.keys:
            self.tell(key)
        await self.until(lambda: self.recalled)

    def tell(self, key: Key, *, order: str = "key") -> None:
        """Have it verify a key, too."""
        kind = "session" if key.kind is CredentialKind.SESSION else "key"
        self._order(**{order: [key.key_id, key.key_string, kind]})

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # Faults.

    async def kill(self) -> None:
        """SIGKILL."""
        self._forget()
        assert self._process is not None
        self._process.kill()
        await self._ended()

    def stop(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    async def suspend(self) -> None:
        """Stop it as a suspended machine stops; `go_on` continues it."""
        self._order(suspend=True)
        await eventually(lambda: is_stopped(self.pid))

    def jump(self, seconds: float) -> None:
        """Let its stopwatch jump."""
        self._order(ahead=seconds)

    async def fork(self) -> int:
        """Have it fork; return the child's process id."""
        before = len(self.children)
        self._order(fork=True)
        await self.until(lambda: len(self.children) > before)
        return self.children[-1]

    async def end(self) -> None:
        """End it cleanly; one that is stopped continues first."""
        self._forget()
        if self._process is not None and self._process.returncode is None:
            self.go_on()
            for child in self.children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 20)
            except TimeoutError:
                self._process.kill()
        await self._ended()
        assert "Traceback" not in self.log, self.log

    @property
    def log(self) -> str:
        """Its standard error."""
        return self._log.read_text("utf-8") if self._log.exists() else ""

    # What it observes.

    async def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait for a condition, while it runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process is not None
            assert self._process.returncode is None, f"{self.name} has ended:\n{self.log}"
            assert time.monotonic() < deadline, f"{self.name} waited in vain:\n{self.log}"
            await asyncio.sleep(0.01)

    async def holds(self, *keys: Key) -> None:
        """Wait until it has answered from memory that keys are alive, beginning from now."""
        begun = time.monotonic()
        for key in keys:
            await self._told(self._answered, key, begun, Outcome.VALID)

    async def asks(self, key: Key, *outcomes: Outcome) -> None:
        """Wait until it was told one of these outcomes by whatever it asked, beginning from now."""
        await self._told(self._asked, key, time.monotonic(), *outcomes)

    async def _told(self, told: dict[str, Verification], key: Key, begun: float, *outcomes: Outcome) -> None:
        again = 0.0

        def is_told() -> bool:
            nonlocal again
            if time.monotonic() >= again:
                # There are others, and those that are asked for may be many.
                self.tell(key, order="ask")
                again = time.monotonic() + _AGAIN_SECONDS
            seen = told.get(key.key_id)
            return seen is not None and seen.invoked >= begun and seen.outcome in outcomes

        await self.until(is_told)

    def _note(self, name: str, seen: list[Any]) -> None:
        key_id, invoked, answered, outcome, scoped, by = seen
        found = Verification(key_id, name, invoked, answered, Outcome(outcome), scoped)
        self._load.history.verifications.append(found)
        if by == "ask":
            self._asked[key_id] = found
            self.outcomes[found.outcome] += 1
            return
        self.recalled += 1
        self._answered[key_id] = found
        if found.outcome is Outcome.VALID and (self.last is None or self.last.answered < answered):
            self.last = found

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if not line.endswith(b"\n"):
                return  # It was killed.
            told = json.loads(line)
            if "child" in told:
                self.children.append(told["child"])
                continue
            child = told.get("from")
            if child is None:
                self.unknown += told["unknown"]
            else:
                self.unknown_to_children += told["unknown"]
            for seen in told["seen"]:
                self._note(self.name if child is None else f"a child of {self.name}", seen)

    def _order(self, **order: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def _forget(self) -> None:
        if self.tell in self._load.on_made:
            self._load.on_made.remove(self.tell)

    async def _ended(self) -> None:
        try:
            if self._process is not None:
                await self._process.wait()
            if self._reading is not None:
                await self._reading
        finally:
            if self._stderr is not None:
                self._stderr.close()


class Clients:
    """All clients of a test, and those that have ended."""

    def __init__(self, on: Fleet, load: Load, directory: Path) -> None:
        self._on, self._load, self._directory = on, load, directory
        self.all: list[HoldingClient] = []

    @property
    def recalled(self) -> int:
        """How many verifications were answered in their processes."""
        return sum(client.recalled for client in self.all)

    async def add(
        self, target: str = "", *, command: tuple[str, ...] = (), worker: Worker | None = None
    ) -> HoldingClient:
        """Start another client; return when it holds credentials. It follows the first worker by default."""
        worker = worker or self._on.workers[0]
        client = HoldingClient(len(self.all), self._load, self._directory, command)
        self.all.append(client)
        await client.start(target or worker.address, self._on, worker)
        return client

    async def reach(self, volume: int, round_: Callable[[], Any] | None = None) -> None:
        """Continue until they have answered several times the volume, repeating `round_` meanwhile."""
        while self.recalled < _OFTEN * volume:
            await (round_() if round_ else asyncio.sleep(0.05))

    async def end(self) -> None:
        """End all of them."""
        for ended in await asyncio.gather(*(client.end() for client in self.all), return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
