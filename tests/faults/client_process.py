"""A client that verifies in its own process: `python -m tests.faults.client_process <target>`.

It verifies the keys and sessions that it is told of again and again: from memory in a thread and in the
event loop, and by whatever `verify_key` does. What it observes, with its times on the clock that the checker
uses, goes to standard output as lines of JSON; standard input has its orders:

- `{"key": [id, string, "key" or "session"]}`: verify this one, too.
- `{"ask": [id, string, "key" or "session"]}`: ask for this one next.
- `{"fork": true}`: fork. The child asks the memory that it inherits until it is killed.
- `{"suspend": true}`: stop as a machine that is suspended: the timers of the event loop do not notice it.
- `{"ahead": seconds}`: let the stopwatch jump.

It ends when standard input does. FAULTS_KEY is its own key.
"""

import asyncio
import json
import os
import random
import signal
import sys
import threading
import time
from collections import deque
from typing import Any

from authsvc.client import AuthClient, Refused, Unavailable, auth_client
from authsvc.client.verdict import Verdict
from authsvc.verify.clock import boottime

_SCOPE = "orders:write"
# The latest keys are verified, those that were revoked among them.
_MAX_KEYS = 120
_FLUSH_SECONDS = 0.02
_LOOK_SECONDS, _LOOKS = 0.005, 8
_ASKERS, _ASK_SECONDS = 3, 0.004
_UNAVAILABLE, _UNAUTHENTICATED = "UNAVAILABLE", "UNAUTHENTICATED"

_ahead = 0.0


def _stopwatch() -> float:
    return boottime() + _ahead


class _Reports:
    """What is written to a file descriptor, by a thread of its own."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._lock = threading.Lock()
        self._seen: list[tuple[object, ...]] = []
        self.unknown = 0

    def seen(self, *what: object) -> None:
        self._seen.append(what)

    def flush(self) -> None:
        seen, self._seen = self._seen, []
        unknown, self.unknown = self.unknown, 0
        self.tell(seen=seen, unknown=unknown)

    def tell(self, **what: object) -> None:
        self.write(json.dumps(what).encode() + b"\n")

    def write(self, line: bytes) -> None:
        with self._lock:
            while line:
                line = line[os.write(self._to, line) :]

    def run(self) -> None:
        while True:
            time.sleep(_FLUSH_SECONDS)
            self.flush()


class _Client:
    def __init__(self, client: AuthClient, reports: _Reports) -> None:
        self._client, self._reports = client, reports
        self.keys: deque[tuple[str, str, str]] = deque(maxlen=_MAX_KEYS)
        self.new: deque[tuple[str, str, str]] = deque()
        self._random = random.Random(os.getpid())  # noqa: S311

    def _pick(self) -> tuple[tuple[str, str, str], bool] | None:
        try:
            key = self.keys[self._random.randrange(len(self.keys))] if self.keys else None
        except IndexError:  # another thread has replaced one
            return None
        return None if key is None else (key, key[2] == "key" and self._random.random() < 0.3)

    def look(self, by: str) -> None:
        """Verify a key from memory, if it is there."""
        if (picked := self._pick()) is None:
            return
        (key_id, text, kind), scoped = picked
        scopes = (_SCOPE,) if scoped else ()
        verify = self._client.verify_key_now if kind == "key" else self._client.verify_session_now
        invoked = time.monotonic()
        verdict = verify(text, scopes)
        answered = time.monotonic()
        if verdict is None:
            self._reports.unknown += 1
        else:
            self._reports.seen(key_id, invoked, answered, verdict.code.name, scoped, by)

    async def ask(self) -> None:
        """Verify a key however that is possible; a new one first."""
        if self.new:
            key, scoped = self.new.popleft(), False
        elif (picked := self._pick()) is not None:
            key, scoped = picked
        else:
            return
        key_id, text, kind = key
        scopes = (_SCOPE,) if scoped else ()
        verify = self._client.verify_key if kind == "key" else self._client.verify_session
        invoked = time.monotonic()
        try:
            verdict: Verdict = await verify(text, scopes)
            outcome = verdict.code.name
        except Unavailable:
            outcome = _UNAVAILABLE
        except Refused as refused:
            if refused.code.name != _UNAUTHENTICATED:
                raise
            outcome = _UNAUTHENTICATED
        self._reports.seen(key_id, invoked, time.monotonic(), outcome, scoped, "ask")

    def go_on_looking(self, by: str = "thread") -> None:
        while True:
            for _ in range(_LOOKS):
                self.look(by)
            time.sleep(_LOOK_SECONDS)

    async def go_on_looking_in_the_loop(self) -> None:
        while True:
            for _ in range(_LOOKS):
                self.look("loop")
            await asyncio.sleep(_LOOK_SECONDS)

    async def go_on_asking(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(_ASK_SECONDS)

    def fork(self) -> None:
        """Go on in a child, too, which may not answer from the memory that it inherits."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self._reports = _Reports(writing)
                threading.Thread(target=self.go_on_looking, args=("child",), daemon=True).start()
                self._reports.run()
            finally:
                os._exit(1)
        os.close(writing)
        threading.Thread(target=_relay, args=(reading, self._reports, child), daemon=True).start()
        self._reports.tell(child=child)


def _relay(reading: int, reports: _Reports, child: int) -> None:
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            reports.write(json.dumps({**json.loads(line), "from": child}).encode() + b"\n")


def _suspend(loop: asyncio.AbstractEventLoop) -> None:
    """Be stopped, and continue with timers for which no time has passed."""
    begun = loop.time()
    os.kill(os.getpid(), signal.SIGSTOP)
    # It goes on here only when it is continued.
    behind = time.monotonic() - begun
    loop.time = lambda: time.monotonic() - behind  # type: ignore[method-assign]


def _obey(order: dict[str, Any], one: _Client, loop: asyncio.AbstractEventLoop) -> None:
    global _ahead
    match order:
        case {"key": [key_id, text, kind]}:
            one.keys.append((key_id, text, kind))
            one.new.append((key_id, text, kind))
        case {"ask": [key_id, text, kind]}:
            one.keys.append((key_id, text, kind))
            one.new.appendleft((key_id, text, kind))
        case {"fork": _}:
            one.fork()
        case {"suspend": _}:
            _suspend(loop)
        case {"ahead": seconds}:
            _ahead += seconds


async def _run(target: str) -> None:
    setattr(auth_client, "boottime", _stopwatch)  # noqa: B010 - it is not exported
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    reports = _Reports(sys.stdout.fileno())
    client = AuthClient(
        target,
        key=os.environ["FAULTS_KEY"],
        tls=None,
        insecure="plaintext-beyond-loopback",
        hold=True,
        attempts=3,
    )
    async with client, asyncio.TaskGroup() as group:
        one = _Client(client, reports)
        for work in (reports.run, one.go_on_looking):
            threading.Thread(target=work, daemon=True).start()
        tasks = [group.create_task(one.go_on_looking_in_the_loop())]
        tasks += [group.create_task(one.go_on_asking()) for _ in range(_ASKERS)]
        while line := await orders.readline():
            _obey(json.loads(line), one, loop)
        for task in tasks:
            task.cancel()
    reports.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))
