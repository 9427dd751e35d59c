"""What anonymous clients and tenants can make a worker keep, and the latency of others meanwhile.

    python -m tests.bench.gateway_abuse

The service, the attacker and the clients that call VerifyKey meanwhile, over their own connections, are three
processes. The results are the resident memory before, at its peak, and some seconds after the end; the most
threads; the p99 of the other clients, at rest and during the attack; and the logged lines.
"""

import asyncio
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import quantiles

import grpc

from authsvc.gateway.v1.ext_authz_pb2 import CheckRequest
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub

Ask = grpc.aio.UnaryUnaryMultiCallable[CheckRequest, bytes]

_CHECK = "/envoy.service.auth.v3.Authorization/Check"
_SECONDS, _AFTER = 10.0, 4.0


class Target:
    """The service under attack, as seen by the attackers and the other clients."""

    def __init__(self, worker: str, ports: list[int], log: Path, key: str) -> None:
        self.worker, self.log, self.key = worker, log, key
        self.grpc, self.http, self.metrics = ports
        self.peak, self.threads = 0.0, 0

    def memory(self) -> float:
        """Return the resident memory in MiB, and record the maximum."""
        told = Path(f"/proc/{self.worker}/status").read_text()

        def value(name: str) -> int:
            found = re.search(rf"{name}:\s+(\d+)", told)
            return int(found[1]) if found else 0

        self.threads = max(self.threads, value("Threads"))
        now = value("VmRSS") / 1024
        self.peak = max(self.peak, now)
        return now


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _child(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1]


@asynccontextmanager
async def _running(database_url: str, directory: Path) -> AsyncIterator[Target]:
    ports = [_free_port() for _ in range(3)]
    environment = os.environ | {
        "AUTHSVC_DATABASE_URL": database_url,
        "AUTHSVC_LISTEN": f"127.0.0.1:{ports[0]}",
        "AUTHSVC_HTTP_LISTEN": f"127.0.0.1:{ports[1]}",
        "AUTHSVC_ADMIN_LISTEN": f"127.0.0.1:{ports[2]}",
        "AUTHSVC_WORKERS": "1",
        "AUTHSVC_SCOPES": "*",
        "AUTHSVC_CALLER_LIMIT": "0",
        "AUTHSVC_LOG_FORMAT": "json",
    }
    command = (sys.executable, "-m", "authsvc.cli")
    minting = await asyncio.create_subprocess_exec(
        *command,
        "bootstrap",
        "--force",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    key = (await minting.communicate())[0].decode().strip()
    log = directory / "log"
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(*command, "serve", env=environment, stderr=written)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
                await asyncio.wait_for(channel.channel_ready(), 60)
            yield Target(_child(process.pid), ports, log, key)
        finally:
            process.terminate()
            await process.wait()


async def _others(target: Target, until: asyncio.Event) -> list[float]:
    """Call VerifyKey 50 times a second, and return the duration of each call in ms."""
    took = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.grpc}") as channel:
        stub, metadata = KeyServiceStub(channel), (("authorization", f"Bearer {target.key}"),)
        request = pb.VerifyKeyRequest(key_string=target.key)
        await stub.VerifyKey(request, metadata=metadata)
        while not until.is_set():
            begun = time.perf_counter()
            await stub.VerifyKey(request, metadata=metadata)
            took.append((time.perf_counter() - begun) * 1000)
            target.memory()
            await asyncio.sleep(0.02)
    return took


# The attacks; each continues until it is cancelled.


async def _large_checks(target: Target) -> None:
    """60 Checks, each with a different text of nearly a megabyte, by a caller with permission."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.grpc}") as channel:
        call: Ask = channel.unary_unary(_CHECK, request_serializer=CheckRequest.SerializeToString)
        for number in range(60):
            asked = CheckRequest()
            asked.attributes.context_extensions["authsvc.required_scopes"] = f"a{number} " + "bb " * 340_000
            with suppress(grpc.RpcError):
                await call(asked, metadata=(("authorization", f"Bearer {target.key}"),))
    await asyncio.Event().wait()


async def _pipelined(target: Target) -> None:
    """500 connections that send requests continuously and read no response."""
    questions = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 10_000

    async def send() -> None:
        loop = asyncio.get_running_loop()
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", target.http)) as one:
                one.setblocking(False)
                while True:
                    await loop.sock_sendall(one, questions)
            await asyncio.sleep(0.05)

    await asyncio.gather(*(send() for _ in range(500)))


async def _scrapes(target: Target) -> None:
    """800 connections to the metrics that stay open and send nothing."""
    loop = asyncio.get_running_loop()
    kept: list[socket.socket] = []
    while True:
        for _ in range(800 - len(kept)):
            one = socket.socket()
            one.setblocking(False)
            with suppress(OSError):
                await loop.sock_connect(one, ("127.0.0.1", target.metrics))
            kept.append(one)
        await asyncio.sleep(0.5)


async def _logged(target: Target) -> None:
    """Checks with invalid settings: a hundred kilobytes of text, which the log is meant to report."""
    asked = CheckRequest()
    asked.attributes.context_extensions["authsvc.required_scopes"] = "A" * 100_000
    metadata = (("authorization", f"Bearer {target.key}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.grpc}") as channel:
        call: Ask = channel.unary_unary(_CHECK, request_serializer=CheckRequest.SerializeToString)

        async def ask() -> None:
            while True:
                with suppress(grpc.RpcError):
                    await call(asked, metadata=metadata)

        await asyncio.gather(*(ask() for _ in range(8)))


_ATTACKS: dict[str, Callable[[Target], Coroutine[None, None, None]]] = {
    "60 Checks with large texts": _large_checks,
    "pipelined, answers not read": _pipelined,
    "800 connections to the metrics": _scrapes,
    "log lines of 100 KB": _logged,
}


async def _measure(name: str, database_url: str, directory: Path) -> str:
    async with _running(database_url, directory) as target:
        quiet_over = asyncio.Event()
        asyncio.get_running_loop().call_later(_SECONDS / 2, quiet_over.set)
        quiet = await _others(target, quiet_over)
        before, target.peak, target.threads = target.memory(), 0.0, 0
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(_SECONDS, over.set)
        told = map(str, (target.grpc, target.http, target.metrics))
        attack = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.gateway_abuse", "attack", name, *told, target.key)
        )
        during = await _others(target, over)
        attack.terminate()
        await attack.wait()
        await asyncio.sleep(_AFTER)
        peak, threads, held = target.peak, target.threads, target.memory()
        p99 = [quantiles(took, n=100)[98] for took in (quiet, during)]
        logged = target.log.stat().st_size / 1e6
    return (
        f"| {name} | {before:.0f} | {peak:.0f} | {held:.0f} | {threads} "
        f"| {p99[0]:.1f} | {p99[1]:.1f} | {logged:.1f} |"
    )


async def _main() -> None:
    chosen = [name for name in _ATTACKS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    print("| attack | MiB before | peak | held | threads | p99 quiet, ms | p99, ms | log, MB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with DevPostgres(Path(directory) / "postgres") as postgres:
            await migrate(postgres.url)
            for name in chosen:
                print(await _measure(name, postgres.url, Path(directory)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["attack"]:
        _, _, attack, *ports, key = sys.argv
        asyncio.run(_ATTACKS[attack](Target("", list(map(int, ports)), Path(), key)))
    else:
        asyncio.run(_main())
