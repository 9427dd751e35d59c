"""Workers and followers die, hang and are replaced while clients verify by themselves by their leave.

A worker that dies leaves clients that answer until their sub-leases are over. Nobody may take it to be
settled before that.
"""

import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from authsvc.verify.lease import certainly_over
from tests.e2e.process import eventually, on_linux
from tests.e2e.test_workers import children
from tests.faults.clients import Clients, HoldingClient
from tests.faults.conftest import SUB_LEASE, Holding
from tests.faults.history import Ending, Outcome
from tests.faults.holder_stages import STAGES
from tests.faults.load import Answer, Key, Load
from tests.faults.proxy import Proxy
from tests.faults.replicas import Connection, Replica, replicas, replicas_of
from tests.faults.test_replicas import whole
from tests.faults.workers import Fleet

pytestmark = on_linux

BOUND = certainly_over(SUB_LEASE)
_DEAD = (Outcome.REVOKED, Outcome.NOT_FOUND)
_LONG = 20.0  # a lease that no change may wait for here
Told = Callable[[str, object], None]


def two(first: int = 2, **settings: object) -> Callable[[Fleet], None]:
    """Return what arranges two replicas, of which clients follow the first."""

    def arrange(on: Fleet) -> None:
        replicas(1, workers=first, connections=2, **settings)(on)
        replicas(1, workers=2, connections=1)(on)

    return arrange


def other(on: Fleet) -> Connection:
    """Return a connection to the replica that no client follows."""
    connection = on.workers[-1]
    assert isinstance(connection, Connection)
    return connection


async def rounds(clients: Clients, volume: int, once: Callable[[], Awaitable[None]]) -> None:
    """Do it once, and then until clients have verified enough."""
    await once()
    await clients.reach(volume, once)


async def revoked(load: Load, on: Fleet, key: Key, client: HoldingClient, most: float) -> Answer:
    """Revoke a key by the other replica; check how long that takes, and what the client says after it."""
    answer = await load.revoke(key, other(on))
    assert answer.ending is Ending.OK
    assert answer.within(most), answer
    if client.last is not None and client.last.key == key.key_id:
        assert client.last.invoked < answer.answered
    return answer


@pytest.mark.parametrize("stage", STAGES)
async def test_workers_are_killed_at_each_step(
    holding: Holding, volume: int, stage: str, record_property: Told
) -> None:
    """Beside another worker and their follower: their clients are waited for, and their leases are not."""
    told: list[str] = []
    async with holding(workers=0, lease=_LONG, arrange=two()) as (on, load, clients):
        replica, load.revokers = replicas_of(on)[0], [other(on)]

        async def once() -> None:
            await whole(on, replica)
            client = await clients.add()
            key, before = await load.make(), await load.make()
            await client.holds(key, before)
            replica.order(f"stop-{stage}")
            revoking = load.revoke_soon(before, other(on))
            fresh = await load.make(warm=False)
            await eventually(lambda: replica.stopped)
            [victim] = replica.stopped
            os.kill(victim, signal.SIGKILL)
            answer = await revoked(load, on, key, client, BOUND)
            assert (await revoking).ending is Ending.OK
            told.append(f"{answer.seconds:.3f}")
            await client.asks(key, *_DEAD)
            await client.holds(fresh)
            await client.end()

        await rounds(clients, volume, once)
    record_property("note", f"revoked in {', '.join(told)} s")


async def test_workers_are_stopped_for_longer_than_their_lease(
    holding: Holding, volume: int, record_property: Told
) -> None:
    """The lease of such a worker is waited for. It grants nothing by it when it continues."""
    told: list[str] = []
    async with holding(workers=0, lease=2.0, arrange=two()) as (on, load, clients):
        replica, load.revokers = replicas_of(on)[0], [other(on)]

        async def once() -> None:
            await whole(on, replica)
            client = await clients.add()
            key = await load.make()
            await client.holds(key)
            replica.order("stop-grant-queued")
            await eventually(lambda: replica.stopped)
            [victim] = replica.stopped
            answer = await revoked(load, on, key, client, certainly_over(on.lease))
            os.kill(victim, signal.SIGCONT)
            told.append(f"{answer.seconds:.3f}")
            await client.asks(key, *_DEAD)
            await client.holds(await load.make())
            await client.end()

        await rounds(clients, volume, once)
    record_property("note", f"revoked in {', '.join(told)} s")


async def test_workers_are_replaced_one_by_one(holding: Holding, volume: int, record_property: Told) -> None:
    """A rolling restart: clients give up what they hold, and join the next worker."""
    told: list[str] = []
    async with holding(workers=0, lease=_LONG, arrange=two()) as (on, load, clients):
        replica, load.revokers = replicas_of(on)[0], [other(on)]
        client = await clients.add()

        async def once() -> None:
            await whole(on, replica)
            before = set(await replica.workers(on))
            key = await load.make()
            await client.holds(key)
            os.kill(replica.process.pid, signal.SIGHUP)
            replaced = time.monotonic() + 60
            while set(await replica.workers(on)) & before or len(await replica.workers(on)) < 2:
                assert time.monotonic() < replaced, replica.log
                # In the middle of it.
                probe = await load.make()
                told.append(f"{(await revoked(load, on, probe, client, BOUND)).seconds:.3f}")
            await revoked(load, on, key, client, BOUND)
            await client.asks(key, *_DEAD)
            await client.holds(await load.make())

        await rounds(clients, volume, once)
    record_property("note", f"revoked in {', '.join(told)} s")


@pytest.mark.parametrize("also", ["alone", "a worker before", "a worker after"])
async def test_followers_are_killed(holding: Holding, volume: int, also: str, record_property: Told) -> None:
    """Alone, or within a sub-lease of a worker whose clients may answer."""
    told: list[str] = []
    async with holding(workers=0, lease=_LONG, arrange=two()) as (on, load, clients):
        replica, load.revokers = replicas_of(on)[0], [other(on)]

        async def once() -> None:
            await whole(on, replica)
            client = await clients.add()
            key = await load.make()
            await client.holds(key)
            follower = await replica.follower(on)
            replica.order("stop-grant-sent")
            await eventually(lambda: replica.stopped)
            [victim] = replica.stopped
            if also == "alone":
                os.kill(victim, signal.SIGCONT)
                os.kill(follower, signal.SIGKILL)
            else:
                first, second = (victim, follower) if also == "a worker before" else (follower, victim)
                os.kill(first, signal.SIGKILL)
                os.kill(second, signal.SIGKILL)
            # The successor has to start, and its workers have to attach.
            answer = await revoked(load, on, key, client, BOUND + 2)
            told.append(f"{answer.seconds:.3f}")
            await client.asks(key, *_DEAD)
            await whole(on, replica)
            await client.holds(await load.make())
            await client.end()

        await rounds(clients, volume, once)
    record_property("note", f"revoked in {', '.join(told)} s")


@pytest.mark.parametrize("stage", ["grant-queued", "grant-sent", "forget-sent"])
async def test_a_worker_that_is_alone_is_killed(
    holding: Holding, volume: int, stage: str, record_property: Told
) -> None:
    """Its successor leaves the registration alone until its clients cannot answer any more."""
    told: list[str] = []
    async with holding(workers=0, lease=_LONG, arrange=two(1)) as (on, load, clients):
        replica, load.revokers = replicas_of(on)[0], [other(on)]

        async def once() -> None:
            client = await clients.add()
            key, before = await load.make(), await load.make()
            await client.holds(key, before)
            registration = await registered(on, replica)
            replica.order(f"stop-{stage}")
            revoking = load.revoke_soon(before, other(on))
            await eventually(lambda: replica.stopped)
            [victim] = replica.stopped
            os.kill(victim, signal.SIGKILL)
            answer = await revoked(load, on, key, client, BOUND + 2)
            assert (await revoking).ending is Ending.OK
            await on.gone(registration)
            told.append(f"{answer.seconds:.3f}")
            await client.asks(key, *_DEAD)
            await client.holds(await load.make())
            await client.end()

        await rounds(clients, volume, once)
    record_property("note", f"revoked in {', '.join(told)} s")


@pytest.mark.parametrize("whom", ["the supervisor", "everybody"])
async def test_replicas_are_killed(holding: Holding, volume: int, whom: str, record_property: Told) -> None:
    """Without their supervisor, workers drain, and end what their clients hold.

    If everybody is killed at once, as with a machine that is lost, the lease is waited for; no sub-lease
    outlives it.
    """
    told: list[str] = []
    async with holding(workers=0, lease=2.0, arrange=two()) as (on, load, clients):
        replica, load.revokers = replicas_of(on)[0], [other(on)]

        async def once() -> None:
            await whole(on, replica)
            client = await clients.add()
            key = await load.make()
            await client.holds(key)
            family = children(replica.process.pid)
            if whom == "everybody":
                for pid in (replica.process.pid, *family):
                    os.kill(pid, signal.SIGKILL)
            else:
                replica.process.kill()
            answer = await revoked(load, on, key, client, certainly_over(on.lease))
            told.append(f"{answer.seconds:.3f}")
            await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), 60)
            replica.process.wait()
            replica.launch()
            await replica.ready()
            await client.asks(key, *_DEAD)
            await client.holds(await load.make())
            await client.end()

        await rounds(clients, volume, once)
    record_property("note", f"revoked in {', '.join(told)} s")


async def registered(on: Fleet, replica: Replica) -> str:
    """Return the registration of a replica whose only worker follows the feed by itself."""
    pids = await replica.workers(on)
    [row] = await on.sql(
        "SELECT worker_id FROM authsvc.workers WHERE pid = ANY ($1) ORDER BY register_time DESC LIMIT 1", pids
    )
    return str(row["worker_id"])


async def test_a_database_out_of_reach_for_longer_than_a_lease(
    holding: Holding, database_url: str, volume: int, record_property: Told
) -> None:
    """No sub-lease outlives the lease of the worker. Then the client says that it cannot know."""
    told: list[str] = []
    async with Proxy(database_url) as proxy:

        def arrange(on: Fleet) -> None:
            on.workers[0].use_database(proxy.url)

        async with holding(workers=2, lease=2.0, arrange=arrange) as (on, load, clients):
            load.revokers = on.workers[1:]

            async def once() -> None:
                client = await clients.add()
                key, bystander = await load.make(), await load.make()
                await client.holds(key, bystander)
                proxy.cut()
                at = time.monotonic()
                answer = await load.revoke(key, on.workers[1])
                assert answer.ending is Ending.OK
                assert answer.within(certainly_over(on.lease)), answer
                await client.asks(bystander, Outcome.UNAVAILABLE)
                last = client.last
                assert last is not None
                assert last.invoked < at + on.lease
                assert last.invoked < answer.answered
                proxy.heal()
                healed = time.monotonic()
                await client.holds(bystander)
                told.append(
                    f"revoked in {answer.seconds:.3f} s, last VALID {last.answered - at:.3f} s after the "
                    f"cut, back in {time.monotonic() - healed:.3f} s"
                )
                await client.end()

            await rounds(clients, volume, once)
    record_property("note", "; ".join(told))
