"""Clients that hold credentials: verification in their process, and what they cost a change and a worker.

`holding` and `held_memory` measure the parts without a network. Here everything is real: `authsvc serve` with
its workers, PostgreSQL with its own commit settings, and many clients in one process. That process shares two
cores with the service, so it delays what it measures: a machine of its own for each client would not.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.bench import held_memory, holding, holding_calls
from tests.bench.bench import say
from tests.bench.holding_clients import following
from tests.bench.revocation import percentile, serving
from tests.bench.rounds import in_turns
from tests.bench.table import AtMost, Row

if TYPE_CHECKING:
    from authsvc.v1.key_service_pb2_grpc import KeyServiceAsyncStub

_PART = "holders"
_WORKERS = 3
_HELD = "each holds the key"
# The number of clients, and whether they hold the keys that are revoked.
_SIDES = {
    "no client": (0, False),
    f"20 clients, {_HELD}": (20, True),
    f"200 clients, {_HELD}": (200, True),
    "200 clients, none holds the key": (200, False),
}
_TIMES, _MORE_MS = 2, 5.0
_IDLE_CLIENTS = 100
# All load is for one owner.
_SETTINGS = {"AUTHSVC_CALLER_LIMIT": "0", "AUTHSVC_SCOPES": "*"}
_TICKS = os.sysconf("SC_CLK_TCK")


async def measure(*, quick: bool) -> list[Row]:
    """Return the rows about clients that hold."""
    rows = await holding.measure(quick=quick)
    rows += await held_memory.measure(quick=quick)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        settings = {"max_connections": "300"}
        async with DevPostgres(Path(directory) / "postgres", settings=settings) as postgres:
            await migrate(postgres.url)
            given = load_settings(listen="127.0.0.1:0", database_url=SecretStr(postgres.url))
            async with app.administering(given) as keys:
                minted = await keys.ensure_administrator()
                assert minted is not None
            async with serving(postgres.url, _WORKERS, AUTHSVC_HOLDERS="1000", **_SETTINGS) as (address, pid):
                rows += await _revocations(address, pid, minted.text, quick=quick)
            async with serving(postgres.url, 1, **_SETTINGS) as (address, pid):
                rows += await _idle(address, pid, minted.text, quick=quick)
            rows += await holding_calls.measure(postgres.url, quick=quick)
    return rows


@dataclass
class _Side:
    """What was measured of revocations with so many clients."""

    milliseconds: list[float] = field(default_factory=list)
    #: The CPU of the service and of the clients during a revocation, beyond that of their renewals.
    service: list[float] = field(default_factory=list)
    clients: list[float] = field(default_factory=list)
    #: The fewest and the most connections of clients that one worker had.
    spread: tuple[int, int] = (0, 0)


async def _revocations(address: str, pid: int, admin_key: str, *, quick: bool) -> list[Row]:
    count, rounds = (10, 1) if quick else (50, 5)
    sides = {name: _Side() for name in _SIDES}
    say(f"holders: {rounds} rounds of {count} revocations for each of: {'; '.join(sides)}")
    async with grpc.aio.insecure_channel(address) as channel:
        service = _Service(KeyServiceStub(channel), address, pid, admin_key)
        await in_turns(
            {name: partial(service.round, *_SIDES[name], count, side) for name, side in sides.items()}, rounds
        )
    alone = sides["no client"]
    aim = _TIMES * median(alone.milliseconds) + _MORE_MS
    rows = [
        Row(
            _PART,
            f"RevokeKey, {name}, median, against {_TIMES} times without clients + {_MORE_MS:g} ms",
            f"{median(side.milliseconds):.1f} ms",
            f"{aim:.1f} ms; {median(alone.milliseconds):.1f} ms without",
            median(side.milliseconds) / aim,
            AtMost(1.0),
        )
        for name, side in sides.items()
        if side is not alone
    ]
    rows += [
        Row(
            _PART,
            f"the same, 99th percentile, {name}",
            f"{percentile(side.milliseconds):.1f} ms",
            f"{percentile(alone.milliseconds):.1f} ms without",
            percentile(side.milliseconds) / percentile(alone.milliseconds),
        )
        for name, side in sides.items()
        if side is not alone
    ]
    return rows + [_cpu(name, side, alone) for name, side in sides.items() if side is not alone]


def _cpu(name: str, side: _Side, alone: _Side) -> Row:
    number, _ = _SIDES[name]
    each = (median(side.service) - median(alone.service)) / number * 1e6
    clients = median(side.clients) / number * 1e6
    fewest, most = side.spread
    return Row(
        _PART,
        f"CPU of the service for one change and client, {name}",
        f"{each:.0f} µs, {median(side.service) * 1e3:.1f} ms a change",
        f"{clients:.0f} µs in the client; {fewest} to {most} connections a worker",
        each / clients,
    )


class _Service:
    """The service whose keys are revoked."""

    def __init__(self, stub: "KeyServiceAsyncStub", address: str, pid: int, admin_key: str) -> None:
        self._stub, self._address, self._pid, self._admin_key = stub, address, pid, admin_key
        self._metadata = (("authorization", f"Bearer {admin_key}"),)

    async def round(self, number: int, holds: bool, count: int, side: _Side) -> float:
        """Revoke `count` keys with so many clients, which hold these keys or others."""
        keys = [await self._created(f"{at}") for at in range(count + 1)]
        others = [await self._created("other")] if number and not holds else []
        texts = [key.key_string for key in (others or keys)]
        async with following(self._address, number, await self._client_key()) as clients:
            assert await clients.hold(texts) == number * len(texts)
            if number:
                counts = [_connections(worker) for worker in _workers(self._pid)]
                side.spread = min(counts), max(counts)
            await self._revoke(keys.pop())
            taken = 0.0
            idle = (
                await _cpu_rate(self._pid, 3.0) if number else 0.0,
                await _cpu_rate(clients.pid, 3.0) if number else 0.0,
            )
            before, begun = (_cpu_seconds(self._pid), _cpu_seconds(clients.pid)), time.perf_counter()
            for key in keys:
                taken = await self._revoke(key)
                side.milliseconds.append(taken)
            lasted = time.perf_counter() - begun
            after = _cpu_seconds(self._pid), _cpu_seconds(clients.pid)
            used = [now - then - rate * lasted for now, then, rate in zip(after, before, idle, strict=True)]
            side.service.append(used[0] / count)
            side.clients.append(used[1] / count)
            for key in keys:
                assert await clients.accepting(key.key_string) == 0
            assert all([await clients.accepting(key.key_string) == number for key in others])
        return taken

    async def _created(self, name: str, owner_id: str = "acme", *scopes: str) -> pb.CreateKeyResponse:
        request = pb.CreateKeyRequest(owner_id=owner_id, display_name=name, scopes=scopes or ["orders:read"])
        return await self._stub.CreateKey(request, metadata=self._metadata)

    async def _client_key(self) -> str:
        created = await self._created("clients", "authsvc", "holders:follow", "keys:verify", "orders:read")
        return created.key_string

    async def _revoke(self, key: pb.CreateKeyResponse) -> float:
        request = pb.RevokeKeyRequest(key_id=key.key.key_id)
        begun = time.perf_counter()
        await self._stub.RevokeKey(request, metadata=self._metadata)
        return (time.perf_counter() - begun) * 1000

    async def idle(self, number: int, seconds: float) -> float:
        """Return the CPU of the service, as a share of a core, with so many clients that ask nothing."""
        key = await self._created("idle")
        async with following(self._address, number, await self._client_key()) as clients:
            assert await clients.hold([key.key_string]) == number
            await asyncio.sleep(2.0)
            rate = await _cpu_rate(self._pid, seconds)
            assert await clients.accepting(key.key_string) == number
            return rate


async def _idle(address: str, pid: int, admin_key: str, *, quick: bool) -> list[Row]:
    rounds, seconds = (1, 5.0) if quick else (3, 15.0)
    say(f"holders: {rounds} rounds of {seconds:g} s with {_IDLE_CLIENTS} idle clients of a worker, and none")
    async with grpc.aio.insecure_channel(address) as channel:
        service = _Service(KeyServiceStub(channel), address, pid, admin_key)
        found = await in_turns(
            {
                "clients": partial(service.idle, _IDLE_CLIENTS, seconds),
                "none": partial(service.idle, 0, seconds),
            },
            rounds,
        )
    clients, none = median(found["clients"]), median(found["none"])
    return [
        Row(
            _PART,
            f"CPU of a service with one worker and {_IDLE_CLIENTS} idle clients, of a core",
            f"{clients:.2%}",
            f"{none:.2%} without; {(clients - none) / _IDLE_CLIENTS * 1e6:.0f} µs a second and client",
            clients - none,
        )
    ]


def _processes(pid: int) -> Iterator[int]:
    """Yield a process and its children."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _processes(int(child))


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children; those that have ended are left out."""
    ticks = 0
    for each in _processes(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


async def _cpu_rate(pid: int, seconds: float) -> float:
    before, begun = _cpu_seconds(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return (_cpu_seconds(pid) - before) / (time.perf_counter() - begun)


def _workers(pid: int) -> list[int]:
    """Return the children of a service with the most open sockets: the others do not serve."""
    children = [each for each in _processes(pid) if each != pid]
    return sorted(children, key=_connections)[-_WORKERS:]


def _connections(pid: int) -> int:
    links = [each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)
