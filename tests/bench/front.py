"""The transports: one process serves the same RPCs by the lane, by the lane over TLS, and by grpcio.

The process is pinned to one core with all its threads; the load and PostgreSQL have the other. Rounds of all
sides alternate. A side's CPU is what the process under load used, divided by its requests.
"""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median

import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.key_string import TAIL_LENGTH
from authsvc.model.new_key import NewKey
from authsvc.process.devpg import DevPostgres
from authsvc.rpc.served import Served
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2, session_service_pb2
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.v1.session_service_pb2_grpc import SessionServiceStub
from tests.bench import endpoint, footprint, front_envoy, server, session_rows
from tests.bench.bench import POSTGRES, say
from tests.bench.gateway import asked_by_envoy
from tests.bench.h2load import H2LoadError, Load, hold_counts
from tests.bench.rounds import in_turns, ratio
from tests.bench.server import BARE, VERIFY, VERIFY_SESSION
from tests.bench.table import AtLeast, Row
from tests.gateway import proxies

_PART = "front"
_SCOPES = ("orders:read", "orders:write", "reports:read")
# Connections, and calls in flight on each.
_SHAPES = {"8 x 16": (8, 16), "64 x 1": (64, 1), "1 x 1": (1, 1)}
_AIMS = {"8 x 16": 8.0, "64 x 1": 4.0, "1 x 1": 1.4}
# Of the calls that are measured with cold keys among them.
_COLD_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class _World:
    quick: bool
    process: server.Process
    app: app.App
    caller: str
    key: str
    messages: Mapping[str, bytes]

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 7

    def load(self, address: str, what: str, shape: tuple[int, int] = (8, 16), *, tls: bool = False) -> Load:
        path = {"bare": BARE, "session": VERIFY_SESSION}.get(what, VERIFY)
        return Load(address, path, self.messages.get(what, self.messages["hit"]), self.caller, shape, tls=tls)


class _Cpu:
    """Notes the CPU of the process under load, by side."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.seconds: dict[str, list[float]] = {}

    async def rate(self, name: str, load: Load, requests: int) -> float:
        before = self._used()
        rate = await load.rate(requests)
        self.seconds.setdefault(name, []).append((self._used() - before) / requests)
        return rate

    def of(self, name: str) -> str:
        """Return the CPU of one request."""
        return f"{median(self.seconds[name]) * 1e6:.1f} µs"

    def _used(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about transports."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.sched_setaffinity(0, cores[1:] or cores)
        try:
            async with DevPostgres(Path(directory) / "postgres", settings=POSTGRES) as postgres:
                await migrate(postgres.url)
                rows, world = await _measure_pinned(postgres.url, cores[0], quick=quick)
                os.sched_setaffinity(0, cores)
                message = world.messages["hit"]
                return rows + await footprint.measure(postgres.url, world.caller, message, quick=quick)
        finally:
            os.sched_setaffinity(0, cores)


async def _measure_pinned(url: str, core: int, *, quick: bool) -> tuple[list[Row], _World]:
    settings = load_settings(listen="127.0.0.1:0", database_url=SecretStr(url), scopes="*")
    async with AsyncExitStack() as stack:
        served = endpoint.catching(stack)
        service = await stack.enter_async_context(app.running(settings))
        process = await stack.enter_async_context(server.running(url, core=core))
        world = await _begin(service, process, quick=quick)
        rows = [row for name in _SHAPES for row in await _measure_shape(world, name)]
        rows += await _measure_kinds(world)
        rows.append(await _measure_cold(world))
        messages = {
            VERIFY: world.messages["hit"],
            VERIFY_SESSION: world.messages["session"],
            endpoint.CHECK: asked_by_envoy(world.key).SerializeToString(),
        }
        await _warm(served[0], world, messages)
        rows += await endpoint.measure(served[0], world.caller, messages, rounds=world.rounds)
        try:
            rows += await front_envoy.measure(process, world.caller, world.key, core, quick=quick)
        except (proxies.NoProxyError, H2LoadError) as error:
            say(f"front: Envoy left out: {error}")
        return rows, world


async def _warm(served: Served, world: _World, messages: Mapping[str, bytes]) -> None:
    """Have this process know the credentials, too."""
    for path, message in messages.items():
        call = endpoint.call(world.caller, message)
        assert await served.rpcs[path].handle(None, call)
        call.over()


async def _begin(service: app.App, process: server.Process, *, quick: bool) -> _World:
    """Make credentials, have all of them in memory, and check a reply of each kind from each address."""
    caller = await _mint(service, "gateway", ("keys:verify", "sessions:verify", "sessions:write", *_SCOPES))
    good = await _mint(service, "client", _SCOPES)
    wrong = good[:-TAIL_LENGTH] + _other(good[-TAIL_LENGTH]) + good[1 - TAIL_LENGTH :]
    forged = good[: -TAIL_LENGTH - 1] + _other(good[-TAIL_LENGTH - 1]) + good[-TAIL_LENGTH:]
    keys = {name: _request(text) for name, text in (("hit", good), ("wrong", wrong), ("forged", forged))}
    metadata = (("authorization", f"Bearer {caller}"),)
    session = None
    for address in (process.address, process.grpcio_address):
        async with grpc.aio.insecure_channel(address) as channel:
            for name, request in keys.items():
                answer = await KeyServiceStub(channel).VerifyKey(request, metadata=metadata)
                code = "VALID" if name == "hit" else "NOT_FOUND"
                assert answer.code == resources_pb2.VerdictCode.Value(f"VERDICT_CODE_{code}"), name
            stub = SessionServiceStub(channel)
            if session is None:
                created = await stub.CreateSession(_new_session(), metadata=metadata)
                session = session_service_pb2.VerifySessionRequest(
                    session_token=created.session_token,
                    required_scopes=("orders:read",),
                    client_ip="192.0.2.7",
                    user_agent=session_rows.USER_AGENT,
                )
            assert (await stub.VerifySession(session, metadata=metadata)).valid
    assert session is not None
    messages = {name: request.SerializeToString() for name, request in keys.items()}
    messages["session"] = session.SerializeToString()
    return _World(quick=quick, process=process, app=service, caller=caller, key=good, messages=messages)


async def _measure_shape(world: _World, name: str) -> list[Row]:
    """Measure one number of connections and calls: the lane, grpcio, and grpcio without any work."""
    shape, process = _SHAPES[name], world.process
    requests = {"1 x 1": 4_000}.get(name, 16_000) // (4 if world.quick else 1)
    sides = {
        "lane": (world.load(process.address, "hit", shape), requests * 3),
        "grpcio": (world.load(process.grpcio_address, "hit", shape), requests),
        "bare": (world.load(process.grpcio_address, "bare", shape), requests),
    }
    say(f"front: {world.rounds} rounds of {requests} RPCs, {name}, for each of {', '.join(sides)}")
    cpu = _Cpu(process.pid)
    before = await process.counts()
    rates = await in_turns(
        {side: partial(cpu.rate, side, load, count) for side, (load, count) in sides.items()}, world.rounds
    )
    after = await process.counts()
    hold_counts(before, after, "authsvc_verdicts_total VALID", world.rounds * requests * 8)
    shown = {side: f"{median(rates[side]):,.0f}/s {side}, {cpu.of(side)}" for side in sides}
    aim = AtLeast(_AIMS[name])
    return [
        Row(
            _PART,
            f"VerifyKey, {name}, by the lane against grpcio",
            shown["lane"],
            shown["grpcio"],
            ratio(rates["lane"], rates["grpcio"]),
            aim,
        ),
        Row(
            _PART,
            f"VerifyKey, {name}, by the lane against a bare grpc.aio handler",
            shown["lane"],
            shown["bare"],
            ratio(rates["lane"], rates["bare"]),
        ),
    ]


async def _measure_kinds(world: _World) -> list[Row]:
    """Measure other kinds of calls on the lane against a warm hit."""
    process, requests = world.process, 8_000 if world.quick else 40_000
    loads = {name: world.load(process.address, name) for name in ("hit", "wrong", "forged", "session")}
    loads["TLS"] = world.load(process.tls_address, "hit", tls=True)
    say(f"front: {world.rounds} rounds of {requests} RPCs for each of {', '.join(loads)}")
    before = await process.counts()
    rates = await in_turns({name: partial(it.rate, requests) for name, it in loads.items()}, world.rounds)
    after = await process.counts()
    total = world.rounds * requests
    hold_counts(before, after, "authsvc_verdicts_total VALID", total * 8)
    hold_counts(before, after, "authsvc_verdicts_total NOT_FOUND", total * 2)

    def row(what: str, name: str, aim: float) -> Row:
        one, other = f"{median(rates[name]):,.0f}/s", f"{median(rates['hit']):,.0f}/s hit"
        return Row(
            _PART,
            f"{what} against a warm hit, by the lane",
            one,
            other,
            ratio(rates[name], rates["hit"]),
            AtLeast(aim),
        )

    return [
        row("a wrong secret", "wrong", 0.95),
        row("a forged tag", "forged", 0.95),
        row("VerifySession", "session", 0.95),
        row("VerifyKey by TLS 1.3", "TLS", 0.85),
    ]


async def _measure_cold(world: _World) -> Row:
    """Measure hits with cold keys among them, which are sent evenly beside them."""
    rounds, requests = world.rounds, 4_000 if world.quick else 20_000
    count = round(requests * _COLD_SHARE)
    keys = [await _mint(world.app, f"cold {number}", _SCOPES) for number in range(rounds * count)]
    load = world.load(world.process.address, "hit")
    metadata = (("authorization", f"Bearer {world.caller}"),)
    async with grpc.aio.insecure_channel(world.process.address) as channel:
        stub = KeyServiceStub(channel)

        async def verify(text: str) -> None:
            assert (await stub.VerifyKey(_request(text), metadata=metadata)).valid

        async def mixed() -> float:
            """Send cold keys over the time that the hits take; return the rate of all."""
            asking: list[asyncio.Task[None]] = []
            loaded = asyncio.create_task(load.rate(requests))
            pause = requests / hits / count
            while len(asking) < count:
                asking.append(asyncio.create_task(verify(keys.pop())))
                await asyncio.sleep(pause)
            rate = await loaded
            await asyncio.gather(*asking)
            return rate * (1 + _COLD_SHARE)

        hits = await load.rate(requests)
        say(f"front: {rounds} rounds of {requests} hits, alone and with {count} cold keys among them")
        rates = await in_turns({"mixed": mixed, "hits": partial(load.rate, requests)}, rounds)
    one, other = (f"{median(rates[name]):,.0f}/s {name}" for name in ("mixed", "hits"))
    what = "hits with 1 % of cold keys against hits alone, by the lane"
    return Row(_PART, what, one, other, ratio(rates["mixed"], rates["hits"]), AtLeast(0.7))


async def _mint(service: app.App, name: str, scopes: tuple[str, ...]) -> str:
    new = NewKey(owner_id="acme", display_name=name, scopes=scopes, expiration=timedelta(days=365))
    _, minted = await service.keys.create(BOOTSTRAP, new)
    return minted.text


def _new_session() -> session_service_pb2.CreateSessionRequest:
    return session_service_pb2.CreateSessionRequest(
        owner_id="acme", user_agent=session_rows.USER_AGENT, ip_address="192.0.2.7", scopes=_SCOPES
    )


def _request(text: str) -> pb.VerifyKeyRequest:
    return pb.VerifyKeyRequest(key_string=text, required_scopes=("orders:read",), client_ip="192.0.2.7")


def _other(character: str) -> str:
    return "a" if character != "a" else "b"
