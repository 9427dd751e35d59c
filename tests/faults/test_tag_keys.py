"""The tag key is rotated while workers are stopped, killed and started; a good key is never unknown."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest

from authsvc.keys.tag_keys import MAX_ACCEPTED, TagKeys
from authsvc.store.pool import Database
from tests.conftest import eventually
from tests.e2e.process import on_linux
from tests.faults.proxy import Proxy
from tests.faults.workers import Fleet, Worker, fleet
from tests.revocation.test_barrier import barrier_of

pytestmark = on_linux

# The errors after which a client retries.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Minter:
    """Creates keys at every worker, and verifies each at every worker, until it is stopped."""

    def __init__(self, on: Fleet) -> None:
        self._on = on
        self._over = False
        self.minted = 0
        self.verified = 0
        self.wrong: list[str] = []

    def finish(self) -> None:
        self._over = True

    async def run(self) -> None:
        for number in itertools.count():
            serving = self._on.serving
            made = await self._create(serving[number % len(serving)])
            if made:
                self.minted += 1
                await asyncio.gather(*(self.verify(worker, made) for worker in serving))
            if self._over:
                return

    async def _create(self, worker: Worker) -> str:
        if not worker.serves:  # Killed, and not yet back.
            return ""
        try:
            client = self._on.client(worker)
            made = await client.CreateKey(owner_id="acme", display_name="Orders", timeout=1)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                self.wrong.append(f"{worker.name}: {error.details()}")
            return ""
        return str(made.key_string)

    async def verify(self, worker: Worker, key_string: str, timeout: float = 1) -> bool:
        """Verify a string on a worker; return whether it is valid. Without an answer, this is not certain."""
        if not worker.serves:
            return False
        try:
            verdict = await self._on.client(worker).VerifyKey(key_string=key_string, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                self.wrong.append(f"{worker.name}: {error.details()}")
            return False
        self.verified += 1
        if not verdict.valid:
            self.wrong.append(f"{worker.name} said {verdict.code} of a good key")
        return bool(verdict.valid)


@asynccontextmanager
async def minting(
    directory: Path, database_url: str, **options: object
) -> AsyncIterator[tuple[Fleet, Minter, TagKeys]]:
    """Run workers and a minter; check at the end that nothing was wrong."""
    async with (
        fleet(directory, database_url, **options) as on,  # type: ignore[arg-type]
        Database.open(database_url) as database,
    ):
        minter = Minter(on)
        task = asyncio.create_task(minter.run())
        try:
            yield on, minter, TagKeys(database, barrier_of(database))
        finally:
            minter.finish()
            await task
        assert minter.wrong == []
        assert minter.verified >= minter.minted > 0
        assert on.faults() == []


@pytest.mark.parametrize(
    "stage", ["renewal-sent", "renewal-answered", "read-answered", "applied", "acknowledged"]
)
async def test_a_worker_that_was_stopped_knows_or_says_nothing(
    tmp_path: Path, database_url: str, stage: str
) -> None:
    """Wherever it was stopped while it learned of the new tag key, it never reports a good key as unknown."""
    async with minting(tmp_path, database_url, workers=2) as (on, minter, tag_keys):
        victim, other = on.workers
        victim.stop_at(stage)
        for number in range(2, 1 + MAX_ACCEPTED):
            # The lease of a worker that stops is waited for, and then the rest continues without it.
            assert await tag_keys.rotate() == number
            if victim.is_stopped:
                break
            # A renewal was faster than the hint, so that stage was not reached.
        await victim.stopped()
        made = await on.client(other).CreateKey(owner_id="acme", display_name="new")
        asked = [asyncio.create_task(minter.verify(victim, made.key_string, 10)) for _ in range(5)]
        await asyncio.sleep(0)
        victim.go_on()
        await asyncio.gather(*asked)
        await eventually(partial(minter.verify, victim, made.key_string), bool)


async def test_a_worker_whose_database_is_out_of_reach(tmp_path: Path, database_url: str) -> None:
    """It serves for its lease, then nothing; when the database is back, it knows the new tag key."""
    async with Proxy(database_url) as proxy:

        def arrange(on: Fleet) -> None:
            on.workers[0].use_database(proxy.url)

        async with minting(tmp_path, database_url, workers=2, arrange=arrange) as (on, minter, tag_keys):
            victim, other = on.workers
            proxy.cut()
            assert await tag_keys.rotate() == 2
            made = await on.client(other).CreateKey(owner_id="acme", display_name="new")
            assert not await minter.verify(victim, made.key_string)
            proxy.heal()
            await eventually(partial(minter.verify, victim, made.key_string), bool)


async def test_workers_that_start_and_die_during_rotations(tmp_path: Path, database_url: str) -> None:
    """However workers come and go, rotation after rotation, each key that was minted is known to all."""
    async with minting(tmp_path, database_url, workers=3) as (on, _, tag_keys):

        async def rotate() -> None:
            for _ in range(MAX_ACCEPTED - 1):
                await tag_keys.rotate()

        rotating = asyncio.create_task(rotate())
        for worker in (on.workers[1], on.workers[2], on.workers[1]):
            await worker.kill()
            await worker.start(predecessors=tuple(worker.registrations[-1:]))
        await rotating
