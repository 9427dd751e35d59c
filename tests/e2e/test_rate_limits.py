"""Rate limits under two replicas of three workers each, as processes, and by the clock of the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from authsvc.v1 import resources_pb2
from tests.conftest import Client
from tests.e2e.test_workers import Pack, pack

_WORKERS = 6


class Accepted(NamedTuple):
    """A valid verification: units were taken for it between these instants."""

    sent: float
    answered: float


def limit(units: int, seconds: int) -> resources_pb2.RateLimit:
    message = resources_pb2.RateLimit(name="requests", limit=units)
    message.period.seconds = seconds
    return message


@pytest.fixture
async def clients(directory: Path, database_url: str) -> AsyncIterator[list[Client]]:
    """Clients with a connection each, which together reach all workers of both replicas."""
    async with AsyncExitStack() as stack:
        packs: list[Pack] = []
        for name in ("one", "other"):
            below = directory / name
            below.mkdir()
            packs.append(await stack.enter_async_context(pack(below, database_url, workers=3)))
        # The first start on a database has created the key.
        (packs[1].server.data_dir / "admin.key").write_text(packs[0].server.admin_key, "utf-8")
        yield [await stack.enter_async_context(on.client()) for on in packs for _ in range(9)]


async def key(client: Client, one: resources_pb2.RateLimit) -> str:
    made = await client.CreateKey(owner_id="acme", display_name="x", rate_limits=[one])
    text: str = made.key_string
    return text


async def test_ten_are_ten(clients: list[Client]) -> None:
    """In bursts of concurrent calls to all workers, of VerifyKey and of BatchVerifyKeys."""
    text = await key(clients[0], limit(10, 86_400))
    verdicts = await asyncio.gather(*(client.VerifyKey(key_string=text) for client in clients * 10))
    assert sum(verdict.valid for verdict in verdicts) == 10
    other = await key(clients[0], limit(10, 86_400))
    batch = [{"key_string": other}] * 7
    batches = await asyncio.gather(*(client.BatchVerifyKeys(requests=batch) for client in clients))
    assert sum(verdict.valid for answer in batches for verdict in answer.responses) == 10


async def verify_for(client: Client, text: str, until: float) -> list[Accepted]:
    accepted = []
    while (sent := time.monotonic()) < until:
        if (await client.VerifyKey(key_string=text)).valid:
            accepted.append(Accepted(sent, time.monotonic()))
    return accepted


def excess(accepted: Sequence[Accepted], units: int, seconds: int) -> float:
    """Return by how much the limit was exceeded, in the worst span of time."""
    starts = sorted({each.sent for each in accepted})
    ends = sorted(accepted, key=lambda each: each.answered)
    worst = -float(units)
    for begin in starts[:: max(1, len(starts) // 300)]:
        count = 0
        for each in ends:
            if each.sent >= begin:
                count += 1
                worst = max(worst, count - units * (1 + (each.answered - begin) / seconds))
    return worst


@pytest.mark.parametrize(("units", "seconds"), [(150, 1), (400, 2)])
async def test_the_bound_holds_in_every_span_of_time(clients: list[Client], units: int, seconds: int) -> None:
    """Under a load that is too high for the limit, so that slices are lent and given back all the time."""
    text, until = await key(clients[0], limit(units, seconds)), time.monotonic() + 6
    found = await asyncio.gather(*(verify_for(client, text, until) for client in clients))
    accepted = [each for of_client in found for each in of_client]
    slice_ = units // 100 if units >= 200 else 0
    worst = excess(accepted, units, seconds)
    assert worst <= _WORKERS * slice_
    assert len(accepted) >= units, "it was no load"
