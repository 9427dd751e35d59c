"""An outage of the database: keys in memory verify, everything else is UNAVAILABLE, never "invalid"."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from authsvc.process.devpg import DevPostgres
from tests.conftest import Client
from tests.e2e.process import Server, eventually, on_linux, processes_in, reserve_port, running

# Waits for a connection and for a statement are 5 s each; no call may take much longer than a few of these.
BOUND = 25


@dataclass
class Scene:
    """A service whose database the test controls, a key in its memory, and one that is not."""

    server: Server
    postgres: DevPostgres
    directory: Path
    admin: Client
    warm: str
    cold: list[str]
    key_id: str

    async def verifies(self, key_string: str) -> bool:
        return bool((await self.admin.VerifyKey(key_string=key_string)).valid)


@asynccontextmanager
async def scene(directory: Path, **settings: object) -> AsyncIterator[Scene]:
    (directory / "data").mkdir()
    reserve_port(directory / "postgres")
    async with DevPostgres(directory / "postgres") as postgres:
        with running("dev", directory, database_url=postgres.url, **settings) as server:
            async with server.client() as admin:
                made = [await admin.CreateKey(owner_id="acme", display_name=f"Orders {n}") for n in range(40)]
                warm, *cold = (key.key_string for key in made)
                assert (await admin.VerifyKey(key_string=warm)).valid
                yield Scene(server, postgres, directory, admin, warm, cold, made[0].key.key_id)


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def details(error: grpc.aio.AioRpcError) -> tuple[str, float]:
    """Return the reason, and the seconds after which to retry."""
    status = rpc_status.from_call(error)
    assert status is not None
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return info.reason, retry.retry_delay.ToTimedelta().total_seconds()


async def outage(scene: Scene, number: int = signal.SIGKILL) -> None:
    """End the postmaster, and wait until none of its processes answers any more."""
    os.kill(scene.postgres.pid, number)
    await eventually(lambda: not processes_in(scene.directory / "postgres" / "cluster"))


async def recovery(scene: Scene) -> None:
    """Wait until a cold key verifies; until then it is UNAVAILABLE, and nothing else."""
    deadline = time.monotonic() + 30
    while True:
        try:
            assert await scene.verifies(scene.cold[-1])
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "stopped"])
async def test_the_database_goes_and_comes_back(directory: Path, number: int) -> None:  # rule 20
    """Keys in memory verify, everything else is UNAVAILABLE with RetryInfo; then it recovers by itself."""
    async with scene(directory) as on:
        url = on.postgres.url
        await outage(on, number)
        for _ in range(3):
            assert await on.verifies(on.warm)
            unknown = on.warm[:-1] + ("A" if on.warm[-1] != "A" else "B")
            assert not await on.verifies(unknown)
            for call in (
                on.admin.VerifyKey(key_string=on.cold[0]),
                on.admin.BatchVerifyKeys(requests=[{"key_string": on.cold[0]}, {"key_string": on.warm}]),
                on.admin.LookupKey(key_string=on.cold[0]),
                on.admin.GetKey(key_id=on.key_id),
                on.admin.ListKeys(owner_id="acme"),
                on.admin.CreateKey(owner_id="acme", display_name="Orders"),
                on.admin.RotateKey(key_id=on.key_id),
                on.admin.RevokeKey(key_id=on.key_id),
                on.admin.DeleteKey(key_id=on.key_id),
            ):
                error = await refusal(call)
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                assert details(error) == ("DATABASE_UNAVAILABLE", 1)
        place = url.partition("@")[2].partition("/")[0]
        await eventually(lambda: f"can be used: {place}: Connection refused" in on.server.stderr)
        await on.postgres.start()
        assert on.postgres.url == url
        await recovery(on)
        assert await on.verifies(on.warm)
        assert (await on.admin.RevokeKey(key_id=on.key_id)).HasField("revoke_time")
        assert not await on.verifies(on.warm)
        assert on.server.process.poll() is None
        assert on.server.end() == 0
        assert "Traceback" not in on.server.stderr


async def test_a_caller_that_is_not_in_memory_is_not_turned_away(directory: Path) -> None:  # rule 20
    """A caller whose own key cannot be looked up gets UNAVAILABLE, not UNAUTHENTICATED."""
    async with scene(directory) as on:
        await outage(on)
        async with on.server.client(on.cold[0]) as stranger:
            error = await refusal(stranger.ListKeys(owner_id="acme"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_last_uses_outlive_an_outage(directory: Path) -> None:  # rule 23
    """What waits while the database is away is logged, and written when it is back."""
    async with scene(directory, usage_interval="100ms", activity_interval="100ms") as on:
        session = await on.admin.CreateSession(owner_id="alice")
        token = session.session_token
        assert (await on.admin.VerifySession(session_token=token)).valid
        await outage(on)
        verdict = await on.admin.VerifyKey(key_string=on.warm, client_ip="192.0.2.7")
        assert verdict.valid
        assert (await on.admin.VerifySession(session_token=token, client_ip="192.0.2.7")).valid
        failed = "failed and will be retried: the database is out of reach"
        told = [f"writing {what} {failed}" for what in ("uses of keys", "last activities")]
        await eventually(lambda: all(line in on.server.stderr for line in told))
        await on.postgres.start()
        await recovery(on)
        deadline = time.monotonic() + 30
        while (await on.admin.GetKey(key_id=on.key_id)).last_use_ip != "192.0.2.7":
            assert time.monotonic() < deadline, "the use is lost"
            await asyncio.sleep(0.05)


async def test_a_stop_during_an_outage_ends(directory: Path) -> None:
    """Without its database, the service still stops cleanly, and logs what is lost."""
    async with scene(directory, usage_interval=3600) as on:
        await outage(on)
        assert await on.verifies(on.warm)
        assert on.server.end() == 0
        assert "the most recent uses of keys are lost" in on.server.stderr
        assert "Traceback" not in on.server.stderr


@on_linux
async def test_the_database_freezes_and_thaws(directory: Path) -> None:  # rule 20
    """A database that never answers delays no call for long, and does not delay keys in memory."""
    async with scene(directory, database_pool_size=2) as on:
        frozen = processes_in(directory / "postgres" / "cluster")
        for process in frozen:
            os.kill(process, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            calls = [
                asyncio.ensure_future(refusal(call))
                for key_string in on.cold
                for call in (
                    on.admin.VerifyKey(key_string=key_string),
                    on.admin.GetKey(key_id=on.key_id),
                    on.admin.CreateKey(owner_id="acme", display_name="Orders"),
                )
            ]
            slowest = 0.0
            while not all(call.done() for call in calls):
                asked = time.monotonic()
                assert await on.verifies(on.warm)
                slowest = max(slowest, time.monotonic() - asked)
                await asyncio.sleep(0.05)
            assert time.monotonic() - begun < BOUND
            # Far less than any wait for the database, and enough for a busy machine.
            assert slowest < 2
        finally:
            for process in frozen:
                os.kill(process, signal.SIGCONT)
        errors = [await call for call in calls]
        codes = Counter(error.code() for error in errors)
        assert grpc.StatusCode.UNAVAILABLE in codes
        assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
        for error in errors:
            reason, retry = details(error)
            assert reason in {"DATABASE_UNAVAILABLE", "DATABASE_QUEUE_FULL", "DATABASE_BUSY"}
            assert retry > 0
        await recovery(on)
        assert on.server.end() == 0
        assert "Traceback" not in on.server.stderr


def postmaster(server: Server) -> int:
    return int((server.cluster / "postmaster.pid").read_text("utf-8").split()[0])


@on_linux
async def test_dev_starts_its_database_again(directory: Path) -> None:
    """An embedded PostgreSQL that dies is restarted without a restart of the service, and this is logged."""
    with running("dev", directory) as server:
        async with server.client() as admin:
            made = await admin.CreateKey(owner_id="acme", display_name="Orders")
            killed = postmaster(server)
            os.kill(killed, signal.SIGKILL)
            await eventually(lambda: "PostgreSQL runs again" in server.stderr)
            assert postmaster(server) != killed
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert (await admin.VerifyKey(key_string=made.key_string)).valid
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.05)
                else:
                    break
        assert "PostgreSQL has ended (SIGKILL) and is started again" in server.stderr
        assert server.end() == 0
        assert not processes_in(server.cluster)


@on_linux
async def test_dev_ends_when_its_database_cannot_start_again(directory: Path) -> None:
    """It logs PostgreSQL's error, stops its workers, and leaves no process."""
    with running("dev", directory) as server:
        (server.cluster / "global/pg_control").unlink()
        os.kill(postmaster(server), signal.SIGKILL)
        await eventually(lambda: server.process.poll() is not None, 60)
        assert server.process.returncode == 1
        assert "authsvc: PostgreSQL exited with" in server.stderr
        assert "pg_control" in server.stderr
        assert "Traceback" not in server.stderr
        assert not processes_in(server.cluster)
