"""Replicas with a follower each: whatever happens to a process of theirs, revoked stays revoked."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable

from authsvc.verify.lease import certainly_over
from tests.faults.conftest import Scene
from tests.faults.history import Ending
from tests.faults.load import Load
from tests.faults.replicas import Replica, replicas, replicas_of
from tests.faults.workers import Fleet

Fault = Callable[[Fleet, Replica], Awaitable[None]]


async def whole(on: Fleet, replica: Replica, workers: int = 2) -> None:
    """Wait until a replica has a follower and all its workers."""
    deadline = time.monotonic() + 60
    while len(await replica.workers(on)) != workers:
        assert time.monotonic() < deadline, replica.log
        await asyncio.sleep(0.05)


async def under(on: Fleet, load: Load, volume: int, fault: Fault, *, waits: bool) -> None:
    """Cause a fault in one replica after another, and revoke a key by each of them during each fault."""
    dice = random.Random(11)  # noqa: S311

    async def once() -> None:
        victim = dice.choice(replicas_of(on))
        await whole(on, victim)
        key = await load.make()
        await fault(on, victim)
        other = next(each for each in on.workers if each.replica is not victim)  # type: ignore[attr-defined]
        answer = await load.revoke(key, other)
        assert answer.ending is Ending.OK
        assert answer.within(certainly_over(on.lease) if waits else 0), answer
        await whole(on, victim)
        for connection in on.workers:
            await load.see(20, connection)

    await once()
    await load.reach(volume, once)


async def test_followers_are_killed(scene: Scene, volume: int) -> None:
    """Their workers attach to the next ones; a revocation that waits for the old registration is short."""

    async def fault(on: Fleet, victim: Replica) -> None:
        os.kill(await victim.follower(on), signal.SIGKILL)

    async with scene(workers=0, lease=20, arrange=replicas(2)) as (on, load):
        await under(on, load, volume, fault, waits=False)


async def test_workers_of_replicas_are_killed(scene: Scene, volume: int) -> None:
    """Nobody waits for them: their follower knows."""

    async def fault(on: Fleet, victim: Replica) -> None:
        os.kill((await victim.workers(on))[0], signal.SIGKILL)

    async with scene(workers=0, lease=20, arrange=replicas(2)) as (on, load):
        await under(on, load, volume, fault, waits=False)


async def test_workers_of_replicas_are_stopped_and_continue(scene: Scene, volume: int) -> None:
    """For longer than a lease: they apply what they missed before they answer again."""

    async def fault(on: Fleet, victim: Replica) -> None:
        pid = (await victim.workers(on))[0]
        os.kill(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(1.5 * on.lease, os.kill, pid, signal.SIGCONT)

    async with scene(workers=0, lease=2, arrange=replicas(2)) as (on, load):
        await under(on, load, volume, fault, waits=True)
        await asyncio.sleep(2 * on.lease)  # Those that are stopped continue.


async def test_supervisors_are_killed(scene: Scene, volume: int) -> None:
    """Their workers drain and their followers leave; the replica starts again."""

    async def fault(on: Fleet, victim: Replica) -> None:
        await victim.kill()
        victim.launch()
        await victim.ready()

    async with scene(workers=0, lease=20, arrange=replicas(2)) as (on, load):
        await under(on, load, volume, fault, waits=False)
