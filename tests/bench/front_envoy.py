"""Envoy's Check by the lane, over TCP and over a Unix socket, and by grpcio; Envoy and authsvc on one core.

There is an Envoy for each, with one thread, from deploy/envoy. The load, the upstream and PostgreSQL have the
other core.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

from tests.bench.bench import say
from tests.bench.gateway import send
from tests.bench.rounds import ratio
from tests.bench.server import Process
from tests.bench.table import AtLeast, Row
from tests.conftest import eventually
from tests.gateway import proxies
from tests.gateway.client import get_http1

_PART = "front"
# Connections, and requests in flight on each: for the rate, and for the latency.
_BUSY, _CALM = (8, 4), (2, 1)
# The last address in the file is that of authsvc.
_LAST_ADDRESS = re.compile(r"socket_address: \{[^}]+\}(?!.*socket_address:)", re.DOTALL)


async def measure(process: Process, own: str, key: str, core: int, *, quick: bool) -> list[Row]:
    """Return the rows about Envoy: `own` is its key, `key` that of the requests."""
    rounds, requests = (3, 2_000) if quick else (7, 5_000)
    sides: dict[str, tuple[str, Callable[[str], str]]] = {
        "lane": (process.address, str),
        "unix": (process.address, lambda text: _by_pipe(text, process.path)),
        "grpcio": (process.grpcio_address, str),
    }
    async with AsyncExitStack() as stack:
        upstream = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.upstream"), stdout=subprocess.PIPE
        )
        stack.callback(upstream.terminate)
        assert upstream.stdout is not None
        port = int(await upstream.stdout.readline())
        addresses = {
            side: await stack.enter_async_context(_envoy(address, port, own, core, change))
            for side, (address, change) in sides.items()
        }
        say(f"front: {rounds} rounds of {requests} requests through Envoy, by {', '.join(sides)}")
        rates: dict[str, list[float]] = {side: [] for side in (*sides, "without")}
        times: dict[str, list[list[float]]] = {side: [] for side in (*sides, "without")}
        for _ in range(rounds):
            for side in rates:
                path = "/healthz" if side == "without" else "/orders/1"
                url = f"http://{addresses.get(side, addresses['lane'])}{path}"
                rates[side].append((await send(url, key, requests, _BUSY))[0])
                times[side].append((await send(url, key, requests // 4, _CALM))[1])
    rows = [
        _rate("requests through a checking Envoy, by the lane against grpcio", rates, "lane", "grpcio", 2.5),
        _rate("the same by a Unix socket against TCP, both by the lane", rates, "unix", "lane", None),
        _rate(
            "requests through a checking Envoy, by the lane against none",
            rates,
            "lane",
            "without",
            None,
        ),
    ]
    for name, at in (("median", 49), ("p99", 98)):
        took = {side: median(quantiles(one, n=100)[at] for one in times[side]) / 1000 for side in times}
        for side in sides:
            one, other = f"{took[side]:.2f} ms {side}", f"{took['without']:.2f} ms without"
            what = f"what the check adds at the {name}, by {side}, in ms, with two in flight"
            rows.append(Row(_PART, what, one, other, took[side] - took["without"]))
    return rows


def _by_pipe(text: str, path: str) -> str:
    return _LAST_ADDRESS.sub(f"pipe: {{ path: {path} }}", text).replace("STRICT_DNS", "STATIC")


def _rate(what: str, rates: dict[str, list[float]], one: str, other: str, aim: float | None) -> Row:
    shown, against = (f"{median(rates[side]):,.0f}/s {side}" for side in (one, other))
    return Row(
        _PART, what, shown, against, ratio(rates[one], rates[other]), None if aim is None else AtLeast(aim)
    )


@asynccontextmanager
async def _envoy(
    address: str, upstream: int, own: str, core: int, change: Callable[[str], str]
) -> AsyncIterator[str]:
    """Run an Envoy on a core before a server and an upstream; yield its address."""
    checkout = Path(__file__).parent.parent.parent
    ports = {"8000": upstream, "50051": int(address.rpartition(":")[2])}
    with tempfile.TemporaryDirectory() as directory:
        mine = os.sched_getaffinity(0)
        async with AsyncExitStack() as stack:
            os.sched_setaffinity(0, {core})
            try:
                proxy = await stack.enter_async_context(
                    proxies.running(checkout, "envoy", Path(directory), ports, own, change=change)
                )
            finally:
                os.sched_setaffinity(0, mine)
            await eventually(lambda: get_http1(proxy.port, "/"), lambda answer: answer.status == 401)
            yield f"127.0.0.1:{proxy.port}"
