"""How evenly the connections of one client are spread over the workers, and their calls.

Pairs of services run side by side: one leads connections, the other leaves them to the hash of the kernel.
Each has one client that opens all of its connections at once, and calls on each of them five times a second.
All connections end by their age and are opened again between two looks, so each look is another sample. Three
ages pass before the first look.
"""

import asyncio
import tempfile
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import grpc

from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench.bench import say
from tests.bench.table import AtMost, Row
from tests.e2e.process import Server, free_port, running_as

_PART = "spread"
_WORKERS, _CONNECTIONS = (2, 4), (8, 16, 64)
_AGE_SECONDS, _CALL_SECONDS = 10.0, 0.2
_CALLS = 'authsvc_rpc_seconds_count{method="VerifyKey"}'
_LED = ("-m", "authsvc.cli")
_HASHED = (
    "-c",
    "from authsvc.process import supervisor; supervisor.worker_loads = lambda workers: None; "
    "from authsvc.cli import main; main()",
)


@dataclass
class _Side:
    """A service and its client; for each look, the connections and the new calls of each worker."""

    server: Server
    workers: int
    connections: int
    counts: list[list[int]] = field(default_factory=list)
    calls: list[list[float]] = field(default_factory=list)
    failures: int = 0
    _before: list[float] = field(default_factory=list)

    async def call(self, stack: AsyncExitStack) -> None:
        """Open the connections, and call on them until the stack ends."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        calling = []
        for _ in range(self.connections):
            channel = grpc.aio.insecure_channel(self.server.address, options)
            calling.append(asyncio.create_task(self._call(await stack.enter_async_context(channel))))
        stack.callback(lambda: [each.cancel() for each in calling])

    async def look(self) -> None:
        """Note the connections and calls of each worker."""
        counts, calls = [], []
        for worker in range(self.workers):
            counts.append(int(await asyncio.to_thread(self.server.metric, "authsvc_connections", worker)))
            page = await asyncio.to_thread(self.server.metrics, worker)
            calls.append(
                self.server.metric(_CALLS, worker) if f'method="VerifyKey",worker="{worker}"' in page else 0.0
            )
        if self._before:
            self.counts.append(counts)
            self.calls.append([now - then for now, then in zip(calls, self._before, strict=True)])
        self._before = calls

    @property
    def share(self) -> float:
        """How many connections each worker would have if they were spread evenly."""
        return self.connections / self.workers

    @property
    def most(self) -> float:
        """The most connections of a worker, as a multiple of its share, on average of all looks."""
        return sum(max(counts) for counts in self.counts) / len(self.counts) / self.share

    def __str__(self) -> str:
        connections, calls = [*chain(*self.counts)], [*chain(*self.calls)]
        average = sum(calls) / len(calls)
        return (
            f"{min(connections)} to {max(connections)} connections, "
            f"{min(calls) / average:.0%} to {max(calls) / average:.0%} of the calls"
        )

    async def _call(self, channel: grpc.aio.Channel) -> None:
        stub = KeyServiceStub(channel)
        metadata = (("authorization", f"Bearer {self.server.admin_key}"),)
        while True:
            try:
                await stub.VerifyKey(pb.VerifyKeyRequest(key_string="x"), metadata=metadata)
            except grpc.aio.AioRpcError:
                self.failures += 1
            await asyncio.sleep(_CALL_SECONDS)


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about connections and calls of workers."""
    looks = 4 if quick else 20
    rows = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        async with DevPostgres(Path(directory) / "postgres", settings={"max_connections": "400"}) as postgres:
            await migrate(postgres.url)
            for workers in _WORKERS:
                say(f"spread: {looks} looks at {workers} workers")
                rows += await _compared(Path(directory), postgres.url, workers, looks)
    return rows


async def _compared(directory: Path, url: str, workers: int, looks: int) -> list[Row]:
    with ExitStack() as services:
        sides = [
            _Side(
                await asyncio.to_thread(_started, services, directory, url, program, workers),
                workers,
                connections,
            )
            for connections in _CONNECTIONS
            for program in (_LED, _HASHED)
        ]
        async with AsyncExitStack() as clients:
            for side in sides:
                await side.call(clients)
            await asyncio.sleep(3 * _AGE_SECONDS)
            for _ in range(looks + 1):
                for side in sides:
                    await side.look()
                await asyncio.sleep(_AGE_SECONDS)
    return [
        Row(
            _PART,
            f"{led.connections} connections, {workers} workers: most of a worker, of its share",
            f"{led}; {led.failures} calls failed",
            f"hashed {hashed.most:.2f}: {hashed}",
            led.most,
            AtMost(1.3),
        )
        for led, hashed in zip(sides[::2], sides[1::2], strict=True)
    ]


def _started(
    services: ExitStack, directory: Path, url: str, program: tuple[str, str], workers: int
) -> Server:
    place = Path(tempfile.mkdtemp(dir=directory))
    (place / "data").mkdir()
    return services.enter_context(
        running_as(
            program,
            "dev",
            place,
            "--new-admin-key",
            database_url=url,
            workers=workers,
            admin_listen=f"127.0.0.1:{free_port()}",
            connection_age=f"{_AGE_SECONDS:g}s",
            database_pool_size=5,
        )
    )
