"""A worker process whose faults a test controls: `python -m tests.faults.worker <directory>`.

It is the whole service (`authsvc.app.running`), with hooks around it; the product does
not know about them. The test and the worker communicate through the directory:

- `port`, `registered`, `feed-pid`: written by the worker.
- `stop-<stage>`: it stops itself (SIGSTOP) the next time it reaches that stage; see `STAGES`.
- the orders of `tests.faults.holder_stages`.
- `deaf`: while it exists, hints (NOTIFY) are not received.
- `hold-read`, `hold-proof`: while one exists, fills pause there: with the database's answer received, or
  before the secret is proved. Each that waits is a line in `held`.
- `wall-clock`: the worker's time of day.

FAULTS_PREDECESSORS are ids of workers known to be dead. FAULTS_WALL_CLOCK are the seconds
by which the wall clock is wrong, in every way that Python can read it.
"""

import asyncio
import datetime
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

STAGES = (
    "before-renewal",  # before the renewal is sent; the lease counts from before this
    "renewal-sent",  # it is in flight, and not answered
    "renewal-answered",  # answered, and nothing applied
    "applied",  # entries applied, before they are acknowledged
    "acknowledged",  # and after
    "read-answered",  # the feed was read after a hint, and nothing applied
)


_true_clock = False


def _shift_wall_clock(seconds: float) -> None:
    """Make every settable clock of this process wrong. Before anything else is imported."""
    true_time, true_gettime, true_datetime = time.time, time.clock_gettime, datetime.datetime

    class AnyDatetime(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, true_datetime)

    class Shifted(datetime.datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return true_datetime.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return true_datetime.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return true_datetime.fromtimestamp(time.time())

    def clock_gettime(clock: int) -> float:
        return true_gettime(clock) + (seconds if clock == time.CLOCK_REALTIME else 0)

    def clock_gettime_ns(clock: int) -> int:
        return int(clock_gettime(clock) * 1e9)

    time.time = lambda: true_time() + (0 if _true_clock else seconds)
    time.time_ns = lambda: int(time.time() * 1e9)
    time.clock_gettime = clock_gettime
    time.clock_gettime_ns = clock_gettime_ns
    datetime.datetime = Shifted  # type: ignore[misc]


class _Hooks:
    """Wraps the product's methods, in this process only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def install(self) -> None:
        from authsvc.rpc import context
        from authsvc.store.feed import FeedConnection
        from authsvc.store.verification import VerificationStore
        from authsvc.verify.hasher import Hasher
        from tests.faults import holder_stages

        wrap, at = self._wrap, self._stop_at

        async def renew(inner: Callable[..., Awaitable[Any]], *given: Any) -> Any:
            at("before-renewal")
            answer = asyncio.ensure_future(inner(*given))
            await asyncio.sleep(0)
            at("renewal-sent")
            found = await answer
            at("renewal-answered")
            return found

        async def read(inner: Callable[..., Awaitable[Any]], *given: Any) -> Any:
            found = await inner(*given)
            if found:
                at("read-answered")
            return found

        async def acknowledge(inner: Callable[..., Awaitable[Any]], *given: Any) -> Any:
            at("applied")
            found = await inner(*given)
            at("acknowledged")
            return found

        async def connected(inner: Callable[..., Awaitable[Any]], *given: Any) -> Any:
            connection = await inner(*given)
            self._tell("feed-pid", str(connection.get_server_pid()))
            return connection

        async def find(inner: Callable[..., Awaitable[Any]], *given: Any) -> Any:
            found = await inner(*given)
            await self._hold("hold-read")
            return found

        async def prove(inner: Callable[..., Awaitable[Any]], *given: Any) -> Any:
            await self._hold("hold-proof")
            return await inner(*given)

        deadline = context._deadline

        def true_deadline(call: Any, stopwatch: Callable[[], float]) -> float:
            # gRPC sets deadlines by the C library's wall clock, which is right here, and subtracts ours.
            global _true_clock
            _true_clock = True
            try:
                return deadline(call, stopwatch)
            finally:
                _true_clock = False

        context._deadline = true_deadline  # type: ignore[assignment]
        # Half of a client's longest wait; on a busy machine an answer takes its time.
        context._ANSWER_SECONDS = 2.0
        holder_stages.install(self._directory)
        wrap(FeedConnection, "renew", renew)
        wrap(FeedConnection, "read", read)
        wrap(FeedConnection, "acknowledge", acknowledge)
        wrap(FeedConnection, "_connected", connected)
        wrap(VerificationStore, "find_credential", find)
        wrap(Hasher, "verify", prove)

        hear: Callable[..., None] = FeedConnection._hear

        def hear_perhaps(connection: FeedConnection, *given: object) -> None:
            # The first hint is the one that it sends to itself to check whether hints arrive.
            if not (connection.hears and (self._directory / "deaf").exists()):
                hear(connection, *given)

        setattr(FeedConnection, "_hear", hear_perhaps)  # noqa: B010 - it has other types

    def registered(self, worker_id: UUID) -> None:
        with (self._directory / "registered").open("a") as file:
            file.write(f"{worker_id}\n")

    def ready(self, port: int) -> None:
        self._tell("wall-clock", datetime.datetime.now(datetime.UTC).isoformat())
        self._tell("port", str(port))

    def _wrap(self, owner: type, name: str, around: Callable[..., Awaitable[Any]]) -> None:
        inner = getattr(owner, name)

        async def wrapped(*given: Any) -> Any:
            return await around(inner, *given)

        setattr(owner, name, wrapped)

    def _stop_at(self, stage: str) -> None:
        order = self._directory / f"stop-{stage}"
        if order.exists():
            order.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)

    async def _hold(self, order: str) -> None:
        if (self._directory / order).exists():
            with (self._directory / "held").open("a") as file:
                file.write(f"{order}\n")
        while (self._directory / order).exists():  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(0.002)

    def _tell(self, name: str, text: str) -> None:
        scratch = self._directory / f"{name}.new"
        scratch.write_text(text)
        scratch.rename(self._directory / name)


async def _run(directory: Path) -> None:
    from authsvc import app
    from authsvc.config.settings import load_settings
    from authsvc.model.key_string import redact
    from authsvc.revocation.predecessors import Predecessors
    from authsvc.telemetry import configure_logging

    hooks = _Hooks(directory)
    hooks.install()
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, redact)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    predecessors = [UUID(text) for text in os.environ.get("FAULTS_PREDECESSORS", "").split()]
    registration = app.Registration(predecessors=Predecessors(predecessors), on_register=hooks.registered)
    notifying = app.notifying(settings) if settings.smtp_url else nullcontext()
    async with app.running(settings, registration=registration) as service, notifying:
        hooks.ready(service.port)
        await stop.wait()


if __name__ == "__main__":
    if shift := float(os.environ.get("FAULTS_WALL_CLOCK", "0")):
        _shift_wall_clock(shift)
    import uvloop

    uvloop.run(_run(Path(sys.argv[1])))
