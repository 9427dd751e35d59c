"""Keys are imported while workers are stopped, killed and started; an imported key is never unknown."""

import asyncio
import hashlib
import itertools
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest

from authsvc.v1 import key_service_pb2 as pb
from tests.conftest import eventually
from tests.e2e.process import on_linux
from tests.faults.proxy import Proxy
from tests.faults.replicas import replicas, replicas_of
from tests.faults.test_replicas import whole
from tests.faults.test_tag_keys import Minter
from tests.faults.workers import Fleet, Worker, fleet

pytestmark = on_linux

_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Importer(Minter):
    """Imports a string at every worker, and verifies it at every worker once that was answered OK.

    Each string was asked about before it was imported, so that its absence may have been remembered.
    """

    async def _create(self, worker: Worker) -> str:
        if not worker.serves:
            return ""
        client = self._on.client(worker)
        text = secrets.token_urlsafe(32)
        try:
            before = await client.VerifyKey(key_string=text, timeout=1)
            if before.valid:
                self.wrong.append(f"{worker.name} accepted what nobody has imported")
            imported = await self.imported(worker, text, timeout=1)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                self.wrong.append(f"{worker.name}: {error.details()}")
            return ""
        return text if imported else ""

    async def imported(self, worker: Worker, text: str, timeout: float = 30) -> str:
        """Import a string; return the id of its key."""
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        key = pb.ImportedKey(hash=digest, display_name="Old")
        answer = await self._on.client(worker).ImportKeys(owner_id="acme", keys=[key], timeout=timeout)
        key_id: str = answer.results[0].key_id
        return key_id

    async def import_surely(self, worker: Worker, text: str) -> None:
        """Import a string, by as many calls as that takes."""
        key_id = ""
        while not key_id:
            try:
                key_id = await self.imported(worker, text)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _PASSING:
                    self.wrong.append(f"{worker.name}: {error.details()}")
                    return


@asynccontextmanager
async def importing(
    directory: Path, database_url: str, **options: object
) -> AsyncIterator[tuple[Fleet, Importer]]:
    """Run workers and an importer; check at the end that nothing was wrong."""
    async with fleet(directory, database_url, **options) as on:  # type: ignore[arg-type]
        importer = Importer(on)
        task = asyncio.create_task(importer.run())
        try:
            yield on, importer
        finally:
            importer.finish()
            await task
        assert importer.wrong == []
        assert importer.verified >= importer.minted > 0
        assert on.faults() == []


@pytest.mark.parametrize(
    "stage", ["renewal-sent", "renewal-answered", "read-answered", "applied", "acknowledged"]
)
async def test_a_worker_that_was_stopped_knows_or_says_nothing(
    tmp_path: Path, database_url: str, stage: str
) -> None:
    """Wherever it was stopped while it learned of an import, it never reports the key as unknown."""
    async with importing(tmp_path, database_url, workers=2) as (on, importer):
        victim, other = on.workers
        victim.stop_at(stage)
        text = secrets.token_urlsafe(32)
        bringing = asyncio.create_task(importer.imported(other, text))
        await victim.stopped()
        assert await bringing
        asked = [asyncio.create_task(importer.verify(victim, text, 10)) for _ in range(5)]
        await asyncio.sleep(0)
        victim.go_on()
        await asyncio.gather(*asked)
        await eventually(partial(importer.verify, victim, text), bool)


async def test_a_worker_whose_database_is_out_of_reach(tmp_path: Path, database_url: str) -> None:
    """It serves for its lease, then nothing; when the database is back, it knows what was imported."""
    async with Proxy(database_url) as proxy:

        def arrange(on: Fleet) -> None:
            on.workers[0].use_database(proxy.url)

        async with importing(tmp_path, database_url, workers=2, arrange=arrange) as (on, importer):
            victim, other = on.workers
            proxy.cut()
            text = secrets.token_urlsafe(32)
            assert await importer.imported(other, text)
            assert not await importer.verify(victim, text)
            proxy.heal()
            await eventually(partial(importer.verify, victim, text), bool)


async def test_workers_that_start_and_die_during_imports(tmp_path: Path, database_url: str) -> None:
    """However workers come and go, each key that was imported is known to all."""
    async with importing(tmp_path, database_url, workers=3) as (on, _):
        for worker in (on.workers[1], on.workers[2], on.workers[1]):
            await worker.kill()
            await worker.start(predecessors=tuple(worker.registrations[-1:]))


async def test_three_workers_of_two_replicas(tmp_path: Path, database_url: str) -> None:
    """Whichever of their processes is killed: each key that was imported is known to all."""
    arrange = replicas(2, workers=3)
    async with importing(tmp_path, database_url, workers=0, lease=5, arrange=arrange) as (on, importer):
        for turn, replica in itertools.product(range(2), replicas_of(on)):
            await whole(on, replica, 3)
            victim = await replica.follower(on) if turn else (await replica.workers(on))[0]
            os.kill(victim, signal.SIGKILL)
            for worker in on.serving:
                text = secrets.token_urlsafe(32)
                await importer.import_surely(worker, text)
                await asyncio.gather(*(importer.verify(each, text, 5) for each in on.serving))
