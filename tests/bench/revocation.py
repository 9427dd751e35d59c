"""The latency of a revocation with many workers, and the cost of the leases.

Everything is real: `authsvc serve` with its workers, and a PostgreSQL that waits for its disk at each
commit, like that of a deployment. A revocation is timed at the client, from the call to the response, in
turns with a bare commit: one row changed and committed by a separate statement.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import asyncpg
import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench.bench import say
from tests.bench.rounds import in_turns, ratio
from tests.bench.table import AtMost, Row

_PART = "revocation"
_WORKERS = (2, 4, 8, 16)
# Replicas of so many workers: one is real, the others only follow the feed.
_REPLICAS, _REPLICA_WORKERS = 50, 4
_MAX_TIMES_ONE = 2.5
# A target in milliseconds in addition to the multiple of the bare commit.
_SPARE_MS = 5.0
_TIMES = 3


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about revocation latency and idle workers."""
    count = 60 if quick else 300
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        # Connections for 16 workers. The commit settings are PostgreSQL's defaults.
        settings = {"max_connections": "300"}
        async with DevPostgres(Path(directory) / "postgres", settings=settings) as postgres:
            await migrate(postgres.url)
            given = load_settings(listen="127.0.0.1:0", database_url=SecretStr(postgres.url))
            async with app.administering(given) as keys:
                minted = await keys.ensure_administrator()
                assert minted is not None
            for workers in _WORKERS:
                say(f"revocation: {count} with {workers} workers")
                async with serving(postgres.url, workers) as (address, _):
                    rows += await _latency(postgres.url, address, minted.text, workers, count)
                    if workers == _REPLICA_WORKERS:
                        rows.append(await _with_replicas(postgres.url, address, minted.text, quick=quick))
                    if workers == _WORKERS[0]:
                        rows.append(await _idle(postgres.url, workers, 15 if quick else 60))
    return rows


@asynccontextmanager
async def serving(url: str, workers: int, **settings: str) -> AsyncIterator[tuple[str, int]]:
    """Run the service as a program, with settings beside its defaults; yield its address, and its process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTHSVC_")} | {
        "AUTHSVC_DATABASE_URL": url,
        "AUTHSVC_LISTEN": "127.0.0.1:0",
        "AUTHSVC_LOG_FORMAT": "json",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authsvc.cli", "serve", "--workers", str(workers)),
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stderr is not None
    try:
        while True:
            line = (await process.stderr.readline()).decode()
            if not line:
                raise RuntimeError("authsvc has ended instead of serving")
            if told := re.search(r"serving at (\S+:\d+)", line):
                break
        # The rest is not read; it is short.
        yield told[1], process.pid
    finally:
        process.terminate()
        await process.communicate()


async def _latency(url: str, address: str, admin_key: str, workers: int, count: int) -> list[Row]:
    metadata = (("authorization", f"Bearer {admin_key}"),)
    revoked: list[float] = []
    committed: list[float] = []
    connection = await asyncpg.connect(url)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = KeyServiceStub(channel)
            made = [
                await stub.CreateKey(
                    pb.CreateKeyRequest(owner_id="acme", display_name=str(number)), metadata=metadata
                )
                for number in range(count)
            ]
            bare = await connection.prepare("UPDATE authsvc.keys SET description = $2 WHERE key_id = $1")
            for number, key in enumerate(made):
                started = time.perf_counter()
                await bare.fetch(key.key.key_id, str(number))
                committed.append((time.perf_counter() - started) * 1000)
                started = time.perf_counter()
                await stub.RevokeKey(pb.RevokeKeyRequest(key_id=key.key.key_id), metadata=metadata)
                revoked.append((time.perf_counter() - started) * 1000)
    finally:
        await connection.close()
    aim = _TIMES * median(committed) + _SPARE_MS
    return [
        Row(
            _PART,
            f"RevokeKey with {workers} workers against {_TIMES} bare commits + {_SPARE_MS:g} ms, median",
            f"{median(revoked):.1f} ms",
            f"{aim:.1f} ms; a bare commit {median(committed):.2f} ms",
            median(revoked) / aim,
            AtMost(1.0),
        ),
        Row(
            _PART,
            f"the same, 99th percentile, against a bare commit's ({workers} workers)",
            f"{percentile(revoked):.1f} ms",
            f"{percentile(committed):.1f} ms",
            percentile(revoked) / percentile(committed),
        ),
    ]


async def _with_replicas(url: str, address: str, admin_key: str, *, quick: bool) -> Row:
    """Compare one replica with many: the same service, and followers that come and go in turns."""
    count, rounds = (15, 3) if quick else (40, 7)
    say(f"revocation: {rounds} rounds of {count} with 1 and {_REPLICAS} replicas")

    async def alone() -> float:
        return await _median_ms(address, admin_key, count)

    async def among_many() -> float:
        async with _followers(url, _REPLICAS - 1):
            return await _median_ms(address, admin_key, count)

    found = await in_turns({"one": alone, "many": among_many}, rounds)
    return Row(
        _PART,
        f"RevokeKey with {_REPLICAS} replicas of {_REPLICA_WORKERS} workers against one, median",
        f"{median(found['many']):.1f} ms",
        f"{median(found['one']):.1f} ms",
        ratio(found["many"], found["one"]),
        AtMost(_MAX_TIMES_ONE),
    )


@asynccontextmanager
async def _followers(url: str, number: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.followers", url, str(number)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        if await process.stdout.readline() != b"following\n":
            raise RuntimeError("the followers have ended instead of following")
        yield
    finally:
        await process.communicate(b"")


async def _median_ms(address: str, admin_key: str, count: int) -> float:
    """Return the median of the milliseconds that a revocation takes; the first is not counted."""
    metadata = (("authorization", f"Bearer {admin_key}"),)
    taken = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = KeyServiceStub(channel)
        for number in range(count + 1):
            request = pb.CreateKeyRequest(owner_id="acme", display_name=str(number))
            made = await stub.CreateKey(request, metadata=metadata)
            started = time.perf_counter()
            await stub.RevokeKey(pb.RevokeKeyRequest(key_id=made.key.key_id), metadata=metadata)
            taken.append((time.perf_counter() - started) * 1000)
    return median(taken[1:])


def percentile(values: list[float]) -> float:
    """Return the 99th percentile."""
    return quantiles(values, n=100)[98]


async def _idle(url: str, workers: int, seconds: float) -> Row:
    """Count the transactions of workers without calls; each is one statement here."""
    say(f"revocation: {seconds:g} s of {workers} idle workers")
    connection = await asyncpg.connect(url)
    count = partial(
        connection.fetchval,
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
    )
    try:
        # A server process that becomes idle reports its statistics ten seconds later.
        await asyncio.sleep(12)
        before, started = await count(), time.perf_counter()
        await asyncio.sleep(seconds)
        counted, elapsed = await count() - before, time.perf_counter() - started
    finally:
        await connection.close()
    rate = counted / elapsed / workers
    return Row(_PART, "statements a second of an idle worker", f"{rate:.2f}/s", "", rate)
