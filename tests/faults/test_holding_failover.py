"""The database fails over to its standby while clients verify by themselves."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest_asyncio

from tests.e2e.process import on_linux
from tests.faults import replicated
from tests.faults.conftest import Holding
from tests.faults.history import Ending, Outcome
from tests.faults.replicated import Pair
from tests.faults.test_hosts import fallen_silent, url_of

pytestmark = on_linux


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def template(reachable_dir: Path) -> AsyncIterator[Path]:
    """A cluster to copy."""
    async with replicated.template(reachable_dir / "template-of-holders") as cluster:
        yield cluster


@pytest_asyncio.fixture
async def pair(template: Path, reachable_dir: Path, unique: str) -> AsyncIterator[Pair]:
    """A primary and its synchronous standby."""
    async with replicated.pair(template, reachable_dir / unique) as both:
        yield both


async def test_a_failover(
    holding: Holding, pair: Pair, volume: int, record_property: Callable[[str, object], None]
) -> None:
    """The primary falls silent, and the standby takes over: what was revoked, before or after, is revoked."""
    url = url_of(pair.primary.port, pair.standby.port)
    # Silent until the end: nobody fences the old primary here.
    with ExitStack() as silence:
        async with holding(url=url, workers=2, lease=3.0) as (on, load, clients):
            client, other = await clients.add(), await clients.add(worker=on.workers[1])
            before, key = await load.make(), await load.make()
            await client.holds(before, key)
            assert (await load.revoke(before, on.workers[1])).ending is Ending.OK
            silence.enter_context(fallen_silent(pair.primary.directory))
            await pair.standby.fetch("SELECT pg_promote()")
            at = time.monotonic()
            for worker in on.workers:
                await load.recovered(worker, 60)
            ending = Ending.UNKNOWN
            while ending is Ending.UNKNOWN:
                ending = (await load.revoke(key, on.workers[1])).ending
            record_property("note", f"revoked {time.monotonic() - at:.3f} s after the promotion")
            for one in (client, other):
                await one.asks(before, Outcome.REVOKED, Outcome.NOT_FOUND)
                await one.asks(key, Outcome.REVOKED, Outcome.NOT_FOUND)
                await one.holds(await load.make())
            await clients.reach(volume)
