"""The rate of changes: creates and revocations, many at once, against another checkout of authsvc.

Both checkouts serve at the same time, each on a database of its own of one PostgreSQL, which waits for its
disk at each commit. They are loaded in turns, in short rounds, so that noise affects both; a ratio is the
median of the ratios within each round. All workers of both share one core, and PostgreSQL and the client
share another.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import asyncpg
import grpc

from authsvc.process.devpg import DevPostgres
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.resources_pb2 import KEY_STATE_REVOKED, TechnicalContact
from authsvc.v1.session_service_pb2 import CreateSessionRequest
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from tests.bench.bench import say
from tests.bench.rounds import in_turns, ratio
from tests.bench.table import AtLeast, AtMost, Row

_PART = "changes"
_HERE = Path(__file__).parents[2]
WORKERS = 2
_BATCH = 100
_SAMPLE_SECONDS = 0.005
# How many transactions wait for the end of the feed: who waits for a row has, or waits for, its tuple lock.
_WAITERS = """
    SELECT count(*) FROM pg_locks
     WHERE locktype = 'tuple' AND relation = 'authsvc.feed_head'::regclass
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class Side:
    """A checkout that serves, and what was observed of it."""

    name: str
    address: str
    admin: asyncpg.Connection
    keys: Any
    sessions: Any
    metadata: tuple[tuple[str, str], ...]
    channel: grpc.aio.Channel
    contacts: Sequence[TechnicalContact] = ()  # of new keys
    pid: int = 0  # of the supervisor
    waiters: dict[int, list[float]] = field(default_factory=dict)

    async def create(self, owner_id: str) -> str:
        request = pb.CreateKeyRequest(
            owner_id=owner_id, display_name="bench", technical_contacts=self.contacts
        )
        made: pb.CreateKeyResponse = await self.keys.CreateKey(request, metadata=self.metadata)
        return made.key.key_id

    async def revoke(self, key_id: str) -> None:
        await self.keys.RevokeKey(pb.RevokeKeyRequest(key_id=key_id), metadata=self.metadata)

    async def open_session(self, owner_id: str) -> None:
        await self.sessions.CreateSession(CreateSessionRequest(owner_id=owner_id), metadata=self.metadata)

    async def check(self) -> None:
        """Check one answer of each kind before anything is measured."""
        key_id = await self.create("checked")
        await self.revoke(key_id)
        key = await self.keys.GetKey(pb.GetKeyRequest(key_id=key_id), metadata=self.metadata)
        assert key.state == KEY_STATE_REVOKED, f"{self.name}: the key is not revoked"
        await self.open_session("checked")


async def measure(*, quick: bool, base: Path | None) -> list[Row]:
    """Return the rows about changes; with `base`, a checkout, against those of the service there."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        # PostgreSQL is a child of this process.
        os.sched_setaffinity(0, {cores[-1]})
        return await _measure(quick=quick, base=base, server_core=cores[0])
    finally:
        os.sched_setaffinity(0, cores)


async def _measure(*, quick: bool, base: Path | None, server_core: int) -> list[Row]:
    rounds = 3 if quick else 15
    checkouts = {"this": _HERE} if base is None else {"base": base, "this": _HERE}
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        say("changes: starting PostgreSQL and " + " and ".join(map(str, checkouts.values())))
        postgres = await stack.enter_async_context(
            DevPostgres(Path(directory) / "postgres", settings={"max_connections": "200"})
        )
        sides = [
            await stack.enter_async_context(serving(name, path, postgres, server_core))
            for name, path in checkouts.items()
        ]
        for side in sides:
            await side.check()
        rows = []
        for at_once in (16, 64):
            rows += await _revocations(sides, rounds, at_once)
        rows += await _rates(
            sides, rounds, "CreateKey, 16 at once, each of an owner of its own", creates, 1.6
        )
        rows += await _rates(sides, rounds, "CreateKey, 16 at once, of one owner", _creates_of_one)
        rows += await _rates(sides, rounds, "CreateSession, 16 at once", _openings)
        rows += await _batches(sides, rounds)
    return rows


@asynccontextmanager
async def serving(
    name: str, checkout: Path, postgres: DevPostgres, server_core: int, **settings: str
) -> AsyncIterator[Side]:
    """Run the service of a checkout on a new database, with settings such as `AUTHSVC_SMTP_URL`."""
    database = f"bench_{name}"
    creating = await asyncpg.connect(postgres.url)
    await creating.execute(f"CREATE DATABASE {database}")
    await creating.close()
    admin = await asyncpg.connect(postgres.url_for(database))
    environment = {n: value for n, value in os.environ.items() if not n.startswith("AUTHSVC_")} | {
        "PYTHONPATH": str(checkout / "src"),
        "AUTHSVC_DATABASE_URL": postgres.url_for(database),
        "AUTHSVC_LISTEN": "127.0.0.1:0",
        "AUTHSVC_CALLER_LIMIT": "0",
        "AUTHSVC_LOG_FORMAT": "json",
        **settings,
    }
    admin_key = ""
    for command in ("migrate", "bootstrap"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "authsvc.cli", command), env=environment, stdout=subprocess.PIPE
        )
        told, _ = await process.communicate()
        assert process.returncode == 0, f"authsvc {command} of {checkout} has failed"
        admin_key = told.decode().strip()
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(server_core)),
        *(sys.executable, "-m", "authsvc.cli", "serve", "--workers", str(WORKERS)),
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        address = await _address(process)
        async with AsyncExitStack() as stack:
            # Connections of the same client to both workers.
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            yield Side(
                name,
                address,
                admin,
                KeyServiceStub(channel),
                SessionServiceStub(channel),
                (("authorization", f"Bearer {admin_key}"),),
                channel,
                pid=process.pid,
            )
    finally:
        process.terminate()
        await process.communicate()
        await admin.close()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if told := re.search(r"serving at (\S+:\d+)", line):
            return told[1]
    raise RuntimeError("authsvc has ended instead of serving")


async def _revocations(sides: Sequence[Side], rounds: int, at_once: int) -> list[Row]:
    say(f"changes: revocations, {at_once} at once")
    aim = AtLeast({16: 1.4, 64: 1.6}[at_once])
    rates = await in_turns({side.name: partial(revoke, side, at_once) for side in sides}, rounds)
    rows = [_row(sides, rates, f"RevokeKey, {at_once} at once", aim)]
    waiters = {side.name: mean(side.waiters[at_once]) for side in sides}
    before = f"{waiters['base']:.2f}" if "base" in waiters else ""
    what = f"transactions that wait for the end of the feed meanwhile ({at_once} at once), mean"
    rows.append(Row(_PART, what, f"{waiters['this']:.2f}", before, waiters["this"], AtMost(1.0)))
    return rows


async def revoke(side: Side, at_once: int) -> float:
    number = at_once * 8
    made = iter(await _keys(side, [f"owner{n % 16}" for n in range(number)]))
    watching = asyncio.create_task(_watch(side, side.waiters.setdefault(at_once, [])))
    try:
        return await rate(number, at_once, lambda: side.revoke(next(made)))
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _keys(side: Side, owner_ids: Sequence[str]) -> list[str]:
    made: list[str] = []
    owners = iter(owner_ids)

    async def make() -> None:
        made.append(await side.create(next(owners)))

    await rate(len(owner_ids), 16, make)
    return made


async def _watch(side: Side, seen: list[float]) -> None:
    while True:
        seen.append(await side.admin.fetchval(_WAITERS))
        await asyncio.sleep(_SAMPLE_SECONDS)


async def rate(number: int, at_once: int, call: Callable[[], Awaitable[object]]) -> float:
    """Make this many calls, always `at_once` of them under way; return how many a second."""
    left = number

    async def caller() -> None:
        nonlocal left
        while left:
            left -= 1
            await call()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    return number / (time.perf_counter() - started)


async def creates(side: Side) -> float:
    owners = iter(range(1_000_000))
    return await rate(160, 16, lambda: side.create(f"owner{next(owners) % 16}"))


async def _creates_of_one(side: Side) -> float:
    return await rate(160, 16, lambda: side.create("acme"))


async def _openings(side: Side) -> float:
    return await rate(160, 16, lambda: side.open_session("acme"))


async def _rates(
    sides: Sequence[Side],
    rounds: int,
    what: str,
    load: Callable[[Side], Awaitable[float]],
    aim: float | None = None,
) -> list[Row]:
    say(f"changes: {what}")
    rates = await in_turns({side.name: partial(load, side) for side in sides}, rounds)
    return [_row(sides, rates, what, None if aim is None else AtLeast(aim))]


def _row(
    sides: Sequence[Side], rates: dict[str, list[float]], what: str, aim: AtLeast | AtMost | None
) -> Row:
    this = f"{median(rates['this']):.0f}/s"
    if len(sides) == 1:
        return Row(_PART, what, this, "", 1.0)
    return Row(_PART, what, this, f"{median(rates['base']):.0f}/s", ratio(rates["this"], rates["base"]), aim)


async def _batches(sides: Sequence[Side], rounds: int) -> list[Row]:
    say(f"changes: batches of {_BATCH}")
    turns = {}
    for side in sides:
        turns[f"{side.name}, batch"] = partial(_batch, side)
        turns[f"{side.name}, single"] = partial(_single, side)
    took = await in_turns(turns, rounds)
    return [
        Row(
            _PART,
            f"BatchRevokeKeys of {_BATCH} against one RevokeKey ({side.name})",
            f"{median(took[f'{side.name}, batch']):.1f} ms",
            f"{median(took[f'{side.name}, single']):.1f} ms",
            ratio(took[f"{side.name}, batch"], took[f"{side.name}, single"]),
            AtMost(3.0) if side.name == "this" else None,
        )
        for side in sides
    ]


async def _batch(side: Side) -> float:
    made = await _keys(side, ["acme"] * _BATCH)
    started = time.perf_counter()
    request = pb.BatchRevokeKeysRequest(key_ids=made)
    answer = await side.keys.BatchRevokeKeys(request, metadata=side.metadata)
    took = time.perf_counter() - started
    assert answer.revoked_count == _BATCH
    return took * 1000


async def _single(side: Side) -> float:
    made = [await side.create("acme") for _ in range(5)]
    took = []
    for key_id in made:
        started = time.perf_counter()
        await side.revoke(key_id)
        took.append(time.perf_counter() - started)
    return median(took) * 1000
