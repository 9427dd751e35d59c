"""Clients that verify by themselves die, are stopped, are cut off, fork: revoked is revoked in them, too.

The bound is one sub-lease and its margin. A client that cannot know says so, and refuses no good key.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from authsvc.verify.lease import certainly_over
from tests.e2e.process import on_linux
from tests.faults.clients import Clients, HoldingClient
from tests.faults.conftest import SUB_LEASE, Holding
from tests.faults.history import Ending, Outcome
from tests.faults.load import Answer, Key, Load
from tests.faults.network import Network, network
from tests.faults.workers import Fleet

pytestmark = on_linux

BOUND = certainly_over(SUB_LEASE)
_DEAD = (Outcome.REVOKED, Outcome.NOT_FOUND)


def in_time(answer: Answer, seconds: float = BOUND) -> None:
    """Check that a change was answered OK within so many seconds."""
    assert answer.ending is Ending.OK
    assert answer.within(seconds), answer


async def under(
    on: Fleet,
    load: Load,
    clients: Clients,
    volume: int,
    fault: Callable[[HoldingClient, Key], Awaitable[Answer]],
) -> str:
    """Cause a fault in one client after another, each of which holds a key that `fault` has revoked.

    Each has a key of its own: changes that have to wait for one do not count for the others. Returns the
    figures.
    """
    bystander = await clients.add()
    told = []

    async def once() -> None:
        victim = await clients.add()
        key = await load.make()
        await asyncio.gather(victim.holds(key), bystander.holds(key))
        answer = await fault(victim, key)
        told.append(f"{answer.seconds:.3f}")
        await bystander.asks(key, *_DEAD)
        await victim.end()

    await once()
    await clients.reach(volume, once)
    return f"revoked in {', '.join(told)} s"


async def test_without_a_fault_changes_wait_for_no_sub_lease(
    holding: Holding, record_property: Callable[[str, object], None]
) -> None:
    """Clients confirm in milliseconds, and no worker is without a lease because of them."""
    async with holding(workers=2) as (on, load, clients):
        one, other = await clients.add(), await clients.add(worker=on.workers[1])
        told = []
        for _ in range(5):
            key = await load.make()
            await asyncio.gather(one.holds(key), other.holds(key))
            answer = await load.revoke(key, on.workers[0])
            in_time(answer, 0)
            told.append(f"{answer.seconds:.3f}")
            await asyncio.gather(*(client.asks(key, *_DEAD) for client in (one, other)))
    assert not load.refusals["LEASE_OVER"]
    record_property("note", f"revoked in {', '.join(told)} s")


async def test_clients_are_killed(
    holding: Holding, volume: int, record_property: Callable[[str, object], None]
) -> None:
    """A change waits for the sub-lease of a client that was killed: nobody knows that it answers nothing."""
    async with holding(workers=2) as (on, load, clients):

        async def fault(victim: HoldingClient, key: Key) -> Answer:
            await victim.kill()
            answer = await load.revoke(key, on.workers[1])
            in_time(answer)
            return answer

        record_property("note", await under(on, load, clients, volume, fault))


@pytest.mark.parametrize("part", [0.4, 2.0])
async def test_clients_are_stopped_and_continue(
    holding: Holding, volume: int, part: float, record_property: Callable[[str, object], None]
) -> None:
    """For less than a sub-lease, they confirm when they continue; for more, they hold nothing any more."""
    async with holding(workers=2) as (on, load, clients):

        async def fault(victim: HoldingClient, key: Key) -> Answer:
            victim.stop()
            revoking = load.revoke_soon(key, on.workers[1])
            if part < 1:
                # The fault itself.
                await asyncio.sleep(part * SUB_LEASE)
                assert not revoking.done()
            else:
                await revoking
            victim.go_on()
            answer = await revoking
            in_time(answer)
            await victim.asks(key, *_DEAD)
            await victim.holds(await load.make())
            return answer

        record_property("note", await under(on, load, clients, volume, fault))


async def test_clients_on_a_machine_that_is_suspended(
    holding: Holding, volume: int, record_property: Callable[[str, object], None]
) -> None:
    """Their timers do not notice it, and their stopwatch does. One is jumped over, in addition."""
    async with holding(workers=2) as (on, load, clients):

        async def fault(victim: HoldingClient, key: Key) -> Answer:
            await victim.suspend()
            answer = await load.revoke(key, on.workers[1])
            in_time(answer)
            victim.go_on()
            await victim.asks(key, *_DEAD)
            unknown, fresh = victim.unknown, await load.make()
            victim.jump(2 * SUB_LEASE)
            await victim.until(lambda: victim.unknown > unknown)
            await victim.holds(fresh)
            return answer

        record_property("note", await under(on, load, clients, volume, fault))


async def test_clients_fork(
    holding: Holding, volume: int, record_property: Callable[[str, object], None]
) -> None:
    """A child answers nothing from the memory that it inherits, before and after a revocation."""
    async with holding(workers=2) as (on, load, clients):

        async def fault(victim: HoldingClient, key: Key) -> Answer:
            child = await victim.fork()
            before = victim.unknown_to_children
            await victim.until(lambda: victim.unknown_to_children > before)
            answer = await load.revoke(key, on.workers[1])
            in_time(answer, 0)
            before = victim.unknown_to_children
            await victim.until(lambda: victim.unknown_to_children > before)
            await victim.asks(key, *_DEAD)
            os.kill(child, 0)
            children = {seen.outcome for seen in load.history.verifications if "child" in seen.worker}
            assert children == set()
            return answer

        record_property("note", await under(on, load, clients, volume, fault))


@pytest.mark.parametrize("order", ["hang-writes", "hang-reads"])
async def test_streams_hang_while_clients_are_answered(
    holding: Holding, volume: int, order: str, record_property: Callable[[str, object], None]
) -> None:
    """Nothing arrives on their streams, or nothing that they say; everything else of the worker goes on."""
    async with holding(workers=2) as (on, load, clients):
        worker = on.workers[0]

        async def once() -> None:
            victim = await clients.add()
            key, fresh = await load.make(), await load.make()
            await victim.holds(key, fresh)
            worker.order(order)
            begun = time.monotonic()
            answer = await load.revoke(key, on.workers[1])
            in_time(answer)
            told.append(f"revoked in {answer.seconds:.3f} s")
            # It asks, and is told.
            await victim.asks(key, *_DEAD)
            await victim.until(lambda: victim.unknown and time.monotonic() > begun + SUB_LEASE)
            await victim.asks(fresh, Outcome.VALID)
            worker.order(order, on=False)
            await victim.holds(fresh)
            await victim.end()

        told: list[str] = []
        await once()
        await clients.reach(volume, once)
        record_property("note", "; ".join(told))


_CUTS: dict[str, Callable[[Network], None]] = {
    "both directions": Network.cut,
    "to the service": Network.lose_what_it_sends,
    "to the client": Network.lose_what_it_is_sent,
}


@pytest.mark.parametrize("cut", _CUTS)
async def test_a_client_whose_packets_are_lost_stops_within_its_sub_lease(
    holding: Holding, volume: int, cut: str, record_property: Callable[[str, object], None]
) -> None:
    """Then it asks, and says that it cannot know. It refuses no good key."""
    told: list[str] = []
    with network() as net:

        def arrange(on: Fleet) -> None:
            for worker in on.workers:
                worker.host = net.database_address

        async with holding(workers=2, arrange=arrange) as (on, load, clients):

            async def once() -> None:
                lonely = await clients.add(command=net.command)
                key, bystander = await load.make(), await load.make()
                await lonely.holds(key, bystander)
                _CUTS[cut](net)
                at = time.monotonic()
                answer = await load.revoke(key, on.workers[1])
                in_time(answer)
                await lonely.asks(bystander, Outcome.UNAVAILABLE)
                last = lonely.last
                assert last is not None
                assert last.invoked < at + SUB_LEASE
                assert last.invoked < answer.answered
                net.heal()
                healed = time.monotonic()
                await lonely.holds(bystander)
                told.append(
                    f"revoked in {answer.seconds:.3f} s, last VALID {last.answered - at:.3f} s after "
                    f"the cut, back in {time.monotonic() - healed:.3f} s"
                )
                await lonely.end()

            await once()
            await clients.reach(volume, once)
    record_property("note", "; ".join(told))
