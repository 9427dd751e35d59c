"""What each transport takes: the time to serve after a start, the memory of a worker and of a connection.

Also the rate of two workers on all cores, with the load beside them.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from tests import http2
from tests.bench.bench import say
from tests.bench.h2load import Load
from tests.bench.server import VERIFY
from tests.bench.table import Row

_PART = "front"
_TRANSPORTS = ("lane", "grpcio")
_CONNECTIONS = 500
_MIB = 1024 * 1024


async def measure(database_url: str, caller: str, message: bytes, *, quick: bool) -> list[Row]:
    """Return the rows about both transports."""
    starts: dict[str, list[float]] = {name: [] for name in _TRANSPORTS}
    sizes: dict[str, list[float]] = {name: [] for name in _TRANSPORTS}
    each: dict[str, list[float]] = {name: [] for name in _TRANSPORTS}
    pairs: dict[str, list[float]] = {name: [] for name in _TRANSPORTS}
    rounds, requests = (1, 4_000) if quick else (3, 20_000)
    say(f"front: {rounds} starts of a service by {' and '.join(_TRANSPORTS)}")
    for _ in range(rounds):
        for name in _TRANSPORTS:
            begun = time.monotonic()
            async with _serving(database_url, name, workers=1) as (address, pid):
                starts[name].append(time.monotonic() - begun)
                before = _memory(pid)
                sizes[name].append(before / _MIB)
                connections = [await http2.Connection.open(address) for _ in range(_CONNECTIONS)]
                each[name].append((_memory(pid) - before) / 1024 / _CONNECTIONS)
                for connection in connections:
                    await connection.close()
            async with _serving(database_url, name, workers=2) as (address, _):
                load = Load(address, VERIFY, message, caller, (16, 16))
                await load.rate(requests // 10)
                pairs[name].append(await load.rate(requests))

    def row(what: str, of: dict[str, list[float]], shape: Callable[[float], str]) -> Row:
        one, other = (f"{shape(median(of[name]))} {name}" for name in _TRANSPORTS)
        return Row(_PART, what, one, other, median(of["lane"]) / median(of["grpcio"]))

    return [
        row("from the start of a program until it serves", starts, "{:.2f} s".format),
        row("memory of a service with one worker", sizes, "{:.0f} MiB".format),
        row("memory of an idle connection", each, "{:.1f} KiB".format),
        row("VerifyKey by two workers, with the load on the same two cores", pairs, "{:,.0f}/s".format),
    ]


@asynccontextmanager
async def _serving(database_url: str, transport: str, workers: int) -> AsyncIterator[tuple[str, int]]:
    """Run the service as a program; yield its address, and its process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTHSVC_")} | {
        "AUTHSVC_DATABASE_URL": database_url,
        "AUTHSVC_LISTEN": "127.0.0.1:0",
        "AUTHSVC_TRANSPORT": transport,
        "AUTHSVC_WORKERS": str(workers),
        "AUTHSVC_SCOPES": "*",
        "AUTHSVC_LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authsvc.cli", "serve"), stderr=subprocess.PIPE, env=environment
    )
    assert process.stderr is not None
    try:
        while not (found := re.search(rb"serving at ([^ ]+)", await process.stderr.readline())):
            pass
        yield found[1].decode(), process.pid
    finally:
        process.terminate()
        await process.communicate()


def _memory(pid: int) -> int:
    """Return the bytes of a process and its children, each shared page divided by those who share it."""
    found = re.search(r"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found[1]) * 1024 + sum(_memory(int(child)) for child in children)
