"""The cost of a hostile client for others: memory, and the latency of VerifyKey on another connection.

The service is `authsvc serve` with one worker on its own core and the default settings; the attack and
VerifyKey share another core. Each attack runs against a newly started service. The attacks are in `attacks`.
AUTHSVC_TRANSPORT may name another transport than the default.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import grpc

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.new_key import NewKey
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench.attacks import ATTACKS, BY_TLS, SETTINGS
from tests.bench.bench import say
from tests.bench.table import AtMost, Row
from tests.certificates import Authority

_PART = "abuse"
_AIM = AtMost(3)
_AUTHORITY = Authority()
_CORES = sorted(os.sched_getaffinity(0))
_MIB = 1024 * 1024
# A page of such keys has about 20 MB.
_LARGE_KEYS = """
WITH made AS (
INSERT INTO authsvc.keys (key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name,
    description, scopes, technical_contacts, annotations, create_time, creator_id, update_time, revoker_id,
    revoke_reason, rotated_from_key_id, rotated_to_key_id, version)
SELECT 'key_' || md5(n::text), 'acme', 'bench_live_' || substr(md5(n::text), 1, 18), 'none', 'imported',
    'large', 'large', repeat('d', 2000), '{}', '[]',
    (SELECT jsonb_object_agg('name-' || i, repeat('v', 255)) FROM generate_series(1, 32) AS i)
    || jsonb_build_object('more', repeat('w', 9000)),
    now(), 'key_bench', now(), '', '', '', '', 1
FROM generate_series(1, 1000) AS n
RETURNING key_id, owner_id
)
INSERT INTO authsvc.key_uses (key_id, owner_id) SELECT key_id, owner_id FROM made
"""


@dataclass(frozen=True)
class _Target:
    database_url: str
    tenant: str
    caller: str
    directory: Path

    @property
    def cert(self) -> Path:
        return self.directory / "tls.pem"

    @property
    def key(self) -> Path:
        return self.directory / "tls.key"

    def channel(self, address: str, *, tls: bool) -> grpc.aio.Channel:
        """Return a channel that shares no connections with others."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        if not tls:
            return grpc.aio.insecure_channel(address, options=options)
        credentials = grpc.ssl_channel_credentials(_AUTHORITY.cert)
        return grpc.aio.secure_channel(address, credentials, options=options)


@dataclass
class _Latencies:
    """The latencies of VerifyKey in ms, and the number of failures."""

    milliseconds: list[float]
    failed: int

    def at(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"p50 {self.at(0.5):.1f}, p99 {self.at(0.99):.1f} ms of {len(self.milliseconds)}{failed}"


async def measure(*, quick: bool, only: str = "") -> list[Row]:
    """Return a row for each attack."""
    seconds = 2.0 if quick else 5.0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with DevPostgres(Path(directory) / "postgres") as postgres:
            await migrate(postgres.url)
            target = await _prepare(postgres.url, Path(directory))
            return [await _measure(target, name, seconds) for name in ATTACKS if only in name]


async def _prepare(database_url: str, directory: Path) -> _Target:
    settings = load_settings(listen="127.0.0.1:0", database_url=database_url, scopes="*")
    async with app.running(settings) as service:
        keys = [
            NewKey(owner_id=owner, display_name="bench", scopes=scopes, expiration=timedelta(days=9))
            for owner, scopes in (("acme", ("keys:read", "keys:verify")), ("globex", ("keys:verify",)))
        ]
        tenant, caller = [(await service.keys.create(BOOTSTRAP, key))[1].text for key in keys]
    connection = await asyncpg.connect(database_url)
    await connection.execute(_LARGE_KEYS)
    await connection.close()
    target = _Target(database_url, tenant, caller, directory)
    _AUTHORITY.issue().write(target.cert, target.key)
    return target


async def _measure(target: _Target, name: str, seconds: float) -> Row:
    tls = name in BY_TLS
    async with _service(target, SETTINGS.get(name, {}), tls=tls) as (address, worker):
        await _verify_for(address, target, 1, tls=tls)
        quiet = await _verify_for(address, target, seconds, tls=tls)
        before = _resident(worker)
        peak = [before]
        async with _sampled(worker, peak):
            async with _attack(name, address, target.tenant) as told:
                during = await _verify_for(address, target, seconds, tls=tls)
            await asyncio.sleep(3)
        held = _resident(worker)
    say(f"abuse: {name}: {told}; {during}; quiet {quiet}; {before:.0f}, {max(peak):.0f}, {held:.0f} MiB")
    what = f"{name}{f' ({told})' if told else ''}"
    memory = f"{before:.0f} MiB, peak {max(peak):.0f}, after {held:.0f}"
    times = f"quiet p99 {quiet.at(0.99):.1f}; {during}"
    return Row(_PART, what, memory, times, during.at(0.99) / quiet.at(0.99), _AIM)


async def _verify_for(address: str, target: _Target, seconds: float, *, tls: bool) -> _Latencies:
    """Verify one key repeatedly, on a connection that is opened for it."""
    latencies = _Latencies([], 0)
    metadata = (("authorization", f"Bearer {target.caller}"),)
    request = pb.VerifyKeyRequest(key_string=target.caller)
    end = time.perf_counter() + seconds
    async with target.channel(address, tls=tls) as channel:
        stub = KeyServiceStub(channel)
        while (begun := time.perf_counter()) < end:
            try:
                await stub.VerifyKey(request, metadata=metadata, timeout=5)
                latencies.milliseconds.append((time.perf_counter() - begun) * 1000)
            except grpc.aio.AioRpcError:
                latencies.failed += 1
            await asyncio.sleep(0.001)
    return latencies


@asynccontextmanager
async def _attack(name: str, address: str, key: str) -> AsyncIterator[str]:
    """Attack while the block runs; yield what the attacker reports."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.attacks", name, address, key),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().split(maxsplit=1)
        yield told[1].strip() if told[1:] else ""
    finally:
        process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 5)
        if process.returncode is None:
            process.kill()


@asynccontextmanager
async def _sampled(worker: int, peak: list[float]) -> AsyncIterator[None]:
    async def sample() -> None:
        while True:
            peak.append(_resident(worker))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(sample())
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def _service(
    target: _Target, settings: Mapping[str, str], *, tls: bool
) -> AsyncIterator[tuple[str, int]]:
    """Run `authsvc serve` on the first core; yield its address and its worker."""
    os.sched_setaffinity(0, _CORES[1:] or _CORES)
    listen = f"127.0.0.1:{_free_port()}"
    if tls:
        settings = {**settings, "AUTHSVC_TLS_CERT": str(target.cert), "AUTHSVC_TLS_KEY": str(target.key)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTHSVC_")} | {
        "AUTHSVC_TRANSPORT": os.environ.get("AUTHSVC_TRANSPORT", "lane"),
        "AUTHSVC_DATABASE_URL": target.database_url,
        "AUTHSVC_LISTEN": listen,
        "AUTHSVC_SCOPES": "*",
        "AUTHSVC_WORKERS": "1",
        "AUTHSVC_LOG_LEVEL": "error",
        **settings,
    }
    log = target.directory / "log"
    with log.open("ab") as written:
        process = await asyncio.create_subprocess_exec(
            *("taskset", "-c", str(_CORES[0]), sys.executable, "-m", "authsvc.cli", "serve"),
            env=environment,
            stdout=written,
            stderr=written,
        )
    try:
        async with asyncio.timeout(60), target.channel(listen, tls=tls) as channel:
            await channel.channel_ready()
        yield listen, _child_of(process.pid)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 30)
        if process.returncode is None:
            process.kill()


def _child_of(process: int) -> int:
    (child,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(child)


def _resident(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
