"""The processor time of each kind of call: in the service with its workers and follower, and in PostgreSQL.

Mechanism: /proc has the processor time of each process and of its children that have ended. What the calls of
a round took is divided by their number. Processor time hardly depends on what else runs on the machine, so
it says what one core can do where a rate does not. Of several rounds the least is taken.

Bound: the resolution is a hundredth of a second, so a round has hundreds of calls.

And the size of a database for each key, with the keys of `scale`.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.session_service_pb2 import CreateSessionRequest, VerifySessionRequest
from tests.bench import changes, key_rows
from tests.bench.bench import say
from tests.bench.changes import Side, rate
from tests.bench.table import Row

_PART = "capacity"
_HERE = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_AT_ONCE = 64
_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class _Spent:
    """Processor time in seconds."""

    service: float
    postgres: float

    def __sub__(self, other: "_Spent") -> "_Spent":
        return _Spent(self.service - other.service, self.postgres - other.postgres)


@dataclass(slots=True)
class _Meter:
    """What the processes of the service and of PostgreSQL have used so far."""

    service_pid: int
    postgres_pid: int

    def read(self) -> _Spent:
        return _Spent(_seconds(self.service_pid), _seconds(self.postgres_pid))


async def measure(*, quick: bool) -> list[Row]:
    """Return a row for each kind of call."""
    rounds, calls, keys = (2, 256, 20_000) if quick else (4, 1_024, 100_000)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        settings = {"max_connections": "200"}
        async with DevPostgres(Path(directory) / "postgres", settings=settings) as postgres:
            size = await _size(postgres, keys)
            started = time.monotonic()
            core = min(os.sched_getaffinity(0))
            given = {"AUTHSVC_ACTIVITY_INTERVAL": f"{_INTERVAL:g}", "AUTHSVC_USAGE_INTERVAL": "600"}
            async with changes.serving("this", _HERE, postgres, core, **given) as side:
                meter = _Meter(side.pid, postgres.pid)
                rows = [size, _start(meter, time.monotonic() - started)]
                say(f"capacity: {rounds} rounds of {calls} calls of each kind, {_AT_ONCE} at once")
                found: dict[str, list[_Spent]] = {}
                for _ in range(rounds):
                    async for name, spent in _round(side, meter, calls):
                        found.setdefault(name, []).append(spent)
        return rows + [_row(name, spent, calls) for name, spent in found.items()]


async def _size(postgres: DevPostgres, keys: int) -> Row:
    """Fill a database of its own, and drop it."""
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute("CREATE DATABASE bench_size")
        url = postgres.url_for("bench_size")
        await migrate(url)
        before = await connection.fetchval("SELECT pg_database_size('bench_size')")
        await key_rows.fill(url, keys)
        after = await connection.fetchval("SELECT pg_database_size('bench_size')")
        await connection.execute("DROP DATABASE bench_size")
    finally:
        await connection.close()
    each = (after - before) / keys
    return Row(_PART, "database, a key and its last use", f"{each:,.0f} bytes", f"{keys:,} keys", 1.0)


def _start(meter: _Meter, seconds: float) -> Row:
    spent = meter.read()
    what = f"start of {changes.WORKERS} workers, after migrate and bootstrap"
    return Row(_PART, what, f"{spent.service:.1f} s of CPU", f"{seconds:.0f} s in all, with these", 1.0)


def _row(name: str, found: list[_Spent], calls: int) -> Row:
    service = min(spent.service for spent in found) / calls
    postgres = min(spent.postgres for spent in found) / calls
    rate = f"{1 / service:,.0f}/s" if service else "more than can be told"
    one = f"{service * 1e6:,.0f} µs of the service: {rate} a core"
    return Row(_PART, name, one, f"{postgres * 1e6:,.0f} µs of PostgreSQL", service / (postgres or 1e-6))


async def _round(side: Side, meter: _Meter, calls: int) -> Any:
    """Yield what each kind of call has taken, by its name."""
    made: list[Any] = []
    opened: list[Any] = []
    owners = iter(range(calls))

    async def create() -> None:
        request = pb.CreateKeyRequest(owner_id=f"owner{next(owners) % 16}", display_name="bench")
        made.append(await side.keys.CreateKey(request, metadata=side.metadata))

    async def verify(each: Iterator[Any]) -> None:
        request = pb.VerifyKeyRequest(key_string=next(each).key_string)
        assert (await side.keys.VerifyKey(request, metadata=side.metadata)).valid

    async def open_session() -> None:
        request = CreateSessionRequest(owner_id=f"user{len(opened)}")
        opened.append(await side.sessions.CreateSession(request, metadata=side.metadata))

    async def verify_session(each: Iterator[Any]) -> None:
        request = VerifySessionRequest(session_token=next(each).session_token)
        assert (await side.sessions.VerifySession(request, metadata=side.metadata)).valid

    async def spent(call: Callable[[], Awaitable[None]], pause: float = 0) -> _Spent:
        before = meter.read()
        await rate(calls, _AT_ONCE, call)
        await asyncio.sleep(pause)
        return meter.read() - before

    yield "CreateKey", await spent(create)
    keys = iter(made)
    yield "VerifyKey of a key that is not in memory (a fill)", await spent(lambda: verify(keys))
    ids = iter([each.key.key_id for each in made])
    yield "RevokeKey", await spent(lambda: side.revoke(next(ids)))
    yield "CreateSession", await spent(open_session)
    first, again = iter(opened), iter(opened)
    await spent(lambda: verify_session(first), 2 * _INTERVAL)
    yield (
        "VerifySession from memory by grpc.aio's client, and the write of its activity",
        await spent(lambda: verify_session(again), 2 * _INTERVAL),
    )


def _seconds(root: int) -> float:
    """Return the processor time of a process, its descendants, and those of them that have ended."""
    total, left = 0, [root]
    while left:
        pid = left.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        # utime, stime, and those of children that were waited for.
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS
