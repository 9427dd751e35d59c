"""A worker is cut off from the database, and clients still reach it."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from authsvc.verify.lease import certainly_over
from tests.faults.conftest import Scene
from tests.faults.history import Ending, Outcome
from tests.faults.load import Load
from tests.faults.network import Network, network
from tests.faults.proxy import Proxy
from tests.faults.workers import Fleet

Told: TypeAlias = Callable[[str, object], None]


async def test_a_worker_that_is_cut_off_stops_before_a_revocation_is_answered(
    scene: Scene, database_url: str, volume: int, record_property: Told
) -> None:
    """RevokeKey takes a lease and the margin; the isolated worker's last VALID comes before its answer."""
    async with Proxy(database_url) as proxy:

        def arrange(on: Fleet) -> None:
            on.workers[0].use_database(proxy.url)

        async with scene(workers=3, arrange=arrange) as (on, load):
            told = [await cut_off(on, load, proxy)]
            await load.reach(volume, lambda: cut_off(on, load, proxy, told))
    record_property("note", "; ".join(told))


async def test_a_worker_whose_packets_are_lost_stops_likewise(
    scene: Scene, database_url: str, volume: int, record_property: Told
) -> None:
    """The same in a network namespace whose link to the database goes down."""
    with network() as net:
        async with Proxy(database_url, net.database_address) as proxy:

            def arrange(on: Fleet) -> None:
                lonely = on.workers[0]
                lonely.command, lonely.host = net.command, net.worker_address
                lonely.use_database(proxy.url)

            async with scene(workers=3, arrange=arrange) as (on, load):
                told = [await cut_off(on, load, net)]
                await load.reach(volume, lambda: cut_off(on, load, net, told))
    record_property("note", "; ".join(told))


async def cut_off(on: Fleet, load: Load, way: Proxy | Network, told: list[str] | None = None) -> str:
    """Cut the first worker off, revoke, and restore it; return the duration, and record it in `told`."""
    lonely, *others = on.workers
    load.revokers = others
    keys = await asyncio.gather(*(load.make() for _ in range(4)))
    bystander = await load.make()
    over = asyncio.Event()
    watching = [asyncio.create_task(load.watch(key, lonely, over)) for key in (bystander, *keys[:2])]
    await load.see(50, lonely)
    way.cut()
    at = time.monotonic()
    answers = await asyncio.gather(*(load.revoke(key, others[0]) for key in keys))
    assert await load.verify(bystander, lonely) is Outcome.UNAVAILABLE
    over.set()
    await asyncio.gather(*watching)
    last = load.last_valid(lonely)
    for answer in answers:
        assert answer.ending is Ending.OK
        assert answer.within(certainly_over(on.lease))
        assert last.invoked < answer.answered
    assert last.invoked < at + on.lease
    way.heal()
    healed = time.monotonic()
    await load.until_told(lambda: load.verify(bystander, lonely), Outcome.VALID)
    slowest, back = max(answer.seconds for answer in answers), time.monotonic() - healed
    lasted = last.answered - at
    text = f"revoked in {slowest:.3f} s, last VALID {lasted:.3f} s after the cut, back in {back:.3f} s"
    if told is not None:
        told.append(text)
    return text


async def test_a_revoker_that_is_cut_off_leaves_the_outcome_open(scene: Scene, database_url: str) -> None:
    """Its client gets no OK; the retry on another worker settles it."""
    async with (
        Proxy(database_url) as proxy,
        scene(workers=3, arrange=lambda on: on.workers[0].use_database(proxy.url)) as (on, load),
    ):
        lonely, *others = on.workers
        load.revokers = others
        keys = [await load.make() for _ in range(6)]
        waiting = []
        for key in keys[:3]:  # Some may get as far as the commit.
            waiting.append(load.revoke_soon(key, lonely, timeout=2))
            await asyncio.sleep(0.001)
        proxy.cut()
        waiting += [load.revoke_soon(key, lonely, timeout=2) for key in keys[3:]]
        for answer in await asyncio.gather(*waiting[3:]):
            assert answer.ending is Ending.UNKNOWN
        retries = await asyncio.gather(*(load.revoke(key, others[0]) for key in keys))
        assert {retry.ending for retry in retries} <= {Ending.OK, Ending.ALREADY}
        for key in keys:
            assert Outcome.VALID not in await load.verify_everywhere(key)
        proxy.heal()
        await load.recovered(lonely)
        for key in keys:
            assert set(await load.verify_everywhere(key)) == {Outcome.REVOKED}
