"""The database stops, crashes and comes back under load."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authsvc.process.devpg import DevPostgres
from authsvc.store.migrate import migrate
from tests.e2e.process import eventually, processes_in, reserve_port
from tests.faults.conftest import Scene
from tests.faults.history import Ending, Outcome
from tests.faults.workers import Worker

# Commits survive the processes of the server, which are all that is killed here.
_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


@pytest_asyncio.fixture
async def postgres_of_its_own(reachable_dir: Path, unique: str) -> AsyncIterator[DevPostgres]:
    """A server that the test may kill."""
    reserve_port(reachable_dir / unique)
    async with DevPostgres(reachable_dir / unique, settings=_SETTINGS) as server:
        await migrate(server.url)
        yield server


async def crash(server: DevPostgres, directory: Path) -> None:
    """SIGKILL the postmaster, and wait until none of its processes is left."""
    os.kill(server.pid, signal.SIGKILL)
    await eventually(lambda: not processes_in(directory / "cluster"))


async def health(worker: Worker) -> tuple[str, str]:
    """Return the health status that a worker reports, and the reason."""
    call = health_pb2_grpc.HealthStub(worker.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    answer = await call
    trailer = dict(await call.trailing_metadata())
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return status, str(trailer.get("authsvc-reason", ""))


@pytest.mark.parametrize("how", ["stopped", "crashed"])
async def test_an_outage_shorter_than_the_lease_fails_no_cached_key(
    scene: Scene, postgres_of_its_own: DevPostgres, reachable_dir: Path, unique: str, volume: int, how: str
) -> None:
    """Keys in memory stay VALID, without exception, while the database is away and when it is back."""
    server = postgres_of_its_own
    async with scene(url=server.url, workers=2, lease=20, load={"verify_timeout": 20.0}) as (on, load):
        untouched = [await load.make() for _ in range(8)]
        over = asyncio.Event()
        seen: list[Outcome] = []

        async def watch(worker: Worker) -> None:
            while not over.is_set():
                seen.extend([await load.verify(key, worker) for key in untouched])

        async def restart() -> None:
            over.clear()
            watching = [asyncio.create_task(watch(worker)) for worker in on.workers]
            began = time.monotonic()
            if how == "stopped":
                await server.stop()
            else:
                await crash(server, reachable_dir / unique)
            await server.start()
            # One renewal may have been due when the database went away.
            assert time.monotonic() - began < 0.8 * on.lease, "this machine is too slow to tell"
            await load.see_changes(5)
            over.set()
            await asyncio.gather(*watching)
            assert set(seen) == {Outcome.VALID}

        await restart()
        await load.reach(volume, restart)


@pytest.mark.parametrize("how", ["stopped", "crashed"])
async def test_an_outage_longer_than_the_lease_silences_all(
    scene: Scene,
    postgres_of_its_own: DevPostgres,
    reachable_dir: Path,
    unique: str,
    volume: int,
    how: str,
    record_property: Callable[[str, object], None],
) -> None:
    """UNAVAILABLE everywhere, also in health checks; two seconds after its return all is well."""
    server = postgres_of_its_own
    told = []
    async with scene(url=server.url, workers=2, lease=1) as (on, load):

        async def fail() -> None:
            untouched, doomed = [await load.make() for _ in range(2)]
            if how == "stopped":
                await server.stop()
            else:
                await crash(server, reachable_dir / unique)
            waiting = load.revoke_soon(doomed, on.workers[0], timeout=5)
            await load.until_told(lambda: load.verdicts(untouched), {Outcome.UNAVAILABLE})
            for worker in on.workers:
                await load.see(30, worker)
                assert await load.verify(untouched, worker) is Outcome.UNAVAILABLE
                status, reason = await health(worker)
                assert (status, reason) == (
                    "NOT_SERVING",
                    "this worker could not renew its lease in the database",
                )
            assert (await waiting).ending is Ending.UNKNOWN
            await server.start()
            back, waits = time.monotonic(), on.waits()
            await load.until_told(lambda: load.verdicts(untouched), {Outcome.VALID})
            told.append(time.monotonic() - back)
            assert told[-1] < 2 + on.held_up(waits)
            for worker in on.workers:
                await load.until_told(partial(health, worker), ("SERVING", ""))
            answer = await load.revoke(doomed, on.workers[1])
            assert answer.ending in (Ending.OK, Ending.ALREADY)
            assert set(await load.verify_everywhere(doomed)) == {Outcome.REVOKED}

        await fail()
        await load.reach(volume, fail)
    record_property("note", "back in " + ", ".join(f"{seconds:.2f} s" for seconds in told[:9]))
