"""Envoy's check: against VerifyKey on the same server, and its cost for a request that goes through Envoy.

Envoy runs from deploy/envoy with one thread; the side without a check is its route that has none. All of it
runs on one machine: the load, Envoy, the service and the upstream.
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import grpc

from authsvc.gateway.v1.ext_authz_pb2 import CheckRequest, CheckResponse
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.new_key import NewKey
from authsvc.v1 import key_service_pb2 as pb
from tests.bench.bench import Bench, say
from tests.bench.h2load import H2LoadError, Load, hold_counts
from tests.bench.rounds import in_turns, ratio
from tests.bench.server import VERIFY
from tests.bench.table import AtLeast, Row
from tests.conftest import eventually
from tests.gateway import proxies
from tests.gateway.client import get_http1

_PART = "gateway"
_CHECK = "/envoy.service.auth.v3.Authorization/Check"
# Connections, and requests in flight on each: for the rate, and for the latency.
_BUSY, _CALM = (8, 4), (2, 1)
# Roughly what a browser sends.
_HEADERS = {
    ":authority": "api.example.com",
    ":method": "GET",
    ":path": "/orders/4711?expand=lines",
    ":scheme": "https",
    "accept": "application/json, text/plain, */*",
    "accept-encoding": "gzip, deflate, br, zstd",
    "accept-language": "en-GB,en;q=0.9,de;q=0.8",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "x-forwarded-for": "192.0.2.7",
    "x-forwarded-proto": "https",
    "x-request-id": "2db48aa7-78db-4332-9e32-04912a121097",
}


async def measure(bench: Bench) -> list[Row]:
    """Return the rows about gateways."""
    own = await _mint(bench, "authsvc", ("keys:verify", "sessions:verify"))
    key = await _mint(bench, "acme", ("orders:read", "orders:write", "reports:read"))
    rows = [await _measure_check(bench, own, key)]
    try:
        rows += await _measure_envoy(bench, own, key)
    except proxies.NoProxyError as error:
        say(f"gateway: Envoy left out: {error}")
    return rows


async def _measure_check(bench: Bench, own: str, key: str) -> Row:
    rounds, requests = (3, 3_000) if bench.quick else (7, 8_000)
    asked = asked_by_envoy(key)
    verify = pb.VerifyKeyRequest(key_string=key, required_scopes=("orders:read",), client_ip="192.0.2.7")
    await _look(bench, own, asked)
    loads = {
        "Check": Load(bench.server.address, _CHECK, asked.SerializeToString(), own),
        "VerifyKey": Load(bench.server.address, VERIFY, verify.SerializeToString(), own),
    }
    say(f"gateway: {rounds} rounds of {requests} RPCs for each of {', '.join(loads)}")
    before = await bench.server.counts()
    rates = await in_turns({name: partial(it.rate, requests) for name, it in loads.items()}, rounds)
    after = await bench.server.counts()
    hold_counts(before, after, "authsvc_gateway_answers_total ALLOWED", rounds * requests)
    hold_counts(before, after, "authsvc_verdicts_total VALID", rounds * requests * 4)
    one, other = (f"{median(rates[name]):,.0f}/s {name}" for name in loads)
    what = "Check against VerifyKey, warm"
    return Row(_PART, what, one, other, ratio(rates["Check"], rates["VerifyKey"]), AtLeast(0.8))


async def _measure_envoy(bench: Bench, own: str, key: str) -> list[Row]:
    rounds, requests = (3, 2_000) if bench.quick else (7, 5_000)
    async with _envoy(bench, own) as address:
        say(f"gateway: {rounds} rounds of {requests} requests through Envoy with and without the check")
        rates: dict[str, list[float]] = {"with": [], "without": []}
        times: dict[str, list[list[float]]] = {"with": [], "without": []}
        for _ in range(rounds):
            for side, path in (("with", "/orders/1"), ("without", "/healthz")):
                rates[side].append((await send(f"http://{address}{path}", key, requests, _BUSY))[0])
                times[side].append((await send(f"http://{address}{path}", key, requests // 2, _CALM))[1])
    one, other = (f"{median(rates[side]):,.0f}/s {side}" for side in ("with", "without"))
    what = "requests through Envoy with the check against without"
    rows = [Row(_PART, what, one, other, ratio(rates["with"], rates["without"]))]
    for name, at in (("median", 49), ("p99", 98)):
        took = {side: median(quantiles(one, n=100)[at] for one in times[side]) / 1000 for side in times}
        one, other = (f"{took[side]:.2f} ms {side}" for side in ("with", "without"))
        what = f"what the check adds at the {name}, in ms, with two in flight"
        rows.append(Row(_PART, what, one, other, took["with"] - took["without"]))
    return rows


@asynccontextmanager
async def _envoy(bench: Bench, own: str) -> AsyncIterator[str]:
    """Run Envoy before the service and an upstream; yield its address."""
    checkout = Path(__file__).parent.parent.parent
    async with AsyncExitStack() as stack:
        upstream = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.upstream"), stdout=subprocess.PIPE
        )
        stack.callback(upstream.terminate)
        assert upstream.stdout is not None
        ports = {
            "8000": int(await upstream.stdout.readline()),
            "50051": int(bench.server.address.rpartition(":")[2]),
        }
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxy = await stack.enter_async_context(proxies.running(checkout, "envoy", directory, ports, own))
        await eventually(lambda: get_http1(proxy.port, "/"), lambda answer: answer.status == 401)
        yield f"127.0.0.1:{proxy.port}"


async def send(url: str, key: str, requests: int, load: tuple[int, int]) -> tuple[float, list[float]]:
    """Send requests; return the rate of 200 responses per second, and the microseconds that each took."""
    connections, streams = map(str, load)
    with tempfile.NamedTemporaryFile("r") as log:
        command = ("h2load", "-n", str(requests), "-c", connections, "-m", streams, "-t", "1")
        headers = ("-H", f"authorization: Bearer {key}")
        process = await asyncio.create_subprocess_exec(
            *command, *headers, f"--log-file={log.name}", url, stdout=subprocess.PIPE
        )
        output = (await process.communicate())[0].decode()
        lines = [line.split() for line in log]
    finished = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    if finished is None or [line[1] for line in lines] != ["200"] * requests:
        raise H2LoadError(f"not every request came through Envoy:\n{output}")
    return float(finished[1]), [float(line[2]) for line in lines]


def asked_by_envoy(key: str) -> CheckRequest:
    asked = CheckRequest()
    asked.attributes.source.address.socket_address.address = "192.0.2.7"
    http = asked.attributes.request.http
    http.method, http.path = "GET", _HEADERS[":path"]
    http.headers.update({**_HEADERS, "authorization": f"Bearer {key}"})
    asked.attributes.context_extensions["authsvc.required_scopes"] = "orders:read"
    return asked


async def _mint(bench: Bench, owner_id: str, scopes: tuple[str, ...]) -> str:
    new = NewKey(owner_id=owner_id, display_name="x", scopes=scopes, expiration=timedelta(days=365))
    _, minted = await bench.app.keys.create(BOOTSTRAP, new)
    return minted.text


async def _look(bench: Bench, own: str, asked: CheckRequest) -> None:
    """Check that the request is allowed."""
    async with grpc.aio.insecure_channel(bench.server.address) as channel:
        call = channel.unary_unary(
            _CHECK,
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )
        assert (await call(asked, metadata=bench.as_caller(own))).HasField("ok_response")
