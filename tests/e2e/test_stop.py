"""Stopping: nothing in progress is lost, and nothing is left behind."""

import asyncio
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import Client
from tests.e2e.process import creates_held, eventually, free_port, on_linux, processes_in, running, until

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
# Longer than any test waits: a stop that is done sooner did not wait for it.
GRACE = 300


async def stopped_accepting(channel: grpc.aio.Channel, signal_it: Callable[[], None]) -> None:
    """Send the signal, and wait until the service says that it stops; from then on it accepts no calls."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    # It has the watch before the signal: afterwards it accepts no connections.
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    signal_it()
    while (await watch.read()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
        pass


async def rows(url: str, query: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


@BOTH
async def test_calls_in_flight_are_answered(directory: Path, database_url: str, number: int) -> None:
    """Calls that the server works on at the signal all end well, and the exit code is 0.

    A call is in flight when the server has begun to work on it. Its own counter of
    argon2 runs shows this: each CreateKey hashes a secret, and then waits for a lock
    that the test holds until the server accepts no more calls. Each call has its own
    connection, since none hashes a secret before its owner's policy was read.
    """
    (directory / "data").mkdir()
    metrics = f"127.0.0.1:{free_port()}"
    settings = {"admin_listen": metrics, "drain_grace": GRACE, "database_pool_size": 120}
    locker = await asyncpg.connect(database_url)
    with running("dev", directory, database_url=database_url, **settings) as server:
        async with server.client() as admin, grpc.aio.insecure_channel(server.address) as channel:
            await admin.ListKeys(owner_id="acme")
            before = server.metric("authsvc_argon2_runs_total")
            async with creates_held(locker):
                calls = [
                    asyncio.ensure_future(admin.CreateKey(owner_id="acme", display_name=f"Orders {n}"))
                    for n in range(100)
                ]
                await eventually(lambda: server.metric("authsvc_argon2_runs_total") == before + len(calls))
                await stopped_accepting(channel, lambda: server.process.send_signal(number))
                assert not any(call.done() for call in calls)
            answers = await asyncio.gather(*calls)
        assert server.process.wait(30) == 0
    await locker.close()
    kept = await rows(database_url, "SELECT key_id FROM authsvc.keys WHERE owner_id = 'acme'")
    assert sorted(kept) == sorted(answer.key.key_id for answer in answers)


async def test_whatever_was_carried_out_was_answered(directory: Path, database_url: str) -> None:
    """In a flood of calls that never pauses, no key is created whose creator gets no answer.

    It is not visible from outside which calls of a flood the server had at the signal,
    but the database shows which it carried out. Those need an answer; the others may
    be refused as UNAVAILABLE, and in no other way.
    """
    (directory / "data").mkdir()
    outcomes: Counter[object] = Counter()
    answered: set[str] = set()

    async def flood(client: Client) -> None:
        while True:
            name = str(uuid.uuid4())
            try:
                await client.CreateKey(owner_id="acme", display_name=name)
            except grpc.aio.AioRpcError as error:
                outcomes[error.code()] += 1
                return
            answered.add(name)

    with running("dev", directory, database_url=database_url, drain_grace=GRACE) as server:
        async with server.client() as one, server.client() as two:
            flooding = [asyncio.ensure_future(flood(client)) for client in (one, two) for _ in range(20)]
            await eventually(lambda: len(answered) > 200)
            server.process.terminate()
            await asyncio.gather(*flooding)
        assert server.process.wait(30) == 0
    kept = await rows(database_url, "SELECT display_name FROM authsvc.keys WHERE owner_id = 'acme'")
    assert set(kept) == answered
    assert set(outcomes) == {grpc.StatusCode.UNAVAILABLE}


async def test_cold_verifications_in_flight_are_answered(directory: Path, database_url: str) -> None:
    """Verifications that wait for the database at the signal end with a verdict.

    The server has them when its count of verdicts shows that it has authenticated their caller.
    """
    (directory / "data").mkdir()
    with running("dev", directory, database_url=database_url) as server:
        async with server.client() as admin:
            made = [await admin.CreateKey(owner_id="acme", display_name=f"Orders {n}") for n in range(20)]
    settings = {"admin_listen": f"127.0.0.1:{free_port()}", "drain_grace": GRACE}
    locker = await asyncpg.connect(database_url)
    with running("dev", directory, database_url=database_url, **settings) as server:
        async with server.client() as admin, grpc.aio.insecure_channel(server.address) as channel:
            await admin.ListKeys(owner_id="acme")
            judged = 'authsvc_verdicts_total{code="VALID"}'
            before = server.metric(judged)
            async with locker.transaction():
                await locker.execute("LOCK TABLE authsvc.keys IN ACCESS EXCLUSIVE MODE")
                calls = [asyncio.ensure_future(admin.VerifyKey(key_string=key.key_string)) for key in made]
                await eventually(lambda: server.metric(judged) == before + len(calls))
                await stopped_accepting(channel, server.process.terminate)
            verdicts = await asyncio.gather(*calls)
        assert server.process.wait(30) == 0
    await locker.close()
    assert all(verdict.valid for verdict in verdicts)


@BOTH
async def test_last_uses_outlive_a_stop(directory: Path, database_url: str, number: int) -> None:  # rule 23
    """A use just before the stop is stored at the next start, however rarely uses are written."""
    (directory / "data").mkdir()
    with running("dev", directory, database_url=database_url, usage_interval=3600) as first:
        async with first.client() as admin:
            made = await admin.CreateKey(owner_id="acme", display_name="Orders")
            verdict = await admin.VerifyKey(key_string=made.key_string, client_ip="192.0.2.7")
            assert verdict.valid
            assert not (await admin.GetKey(key_id=made.key.key_id)).HasField("last_use_time")
        assert first.end(number) == 0
    with running("dev", directory, database_url=database_url) as second:
        async with second.client() as admin:
            key = await admin.GetKey(key_id=made.key.key_id)
    assert key.HasField("last_use_time")
    assert key.last_use_ip == "192.0.2.7"


async def test_a_health_watcher_does_not_delay_the_end(directory: Path, database_url: str) -> None:
    """Health watchers get NOT_SERVING, and the stop does not wait for them to disconnect."""
    (directory / "data").mkdir()
    seen = []
    with running("dev", directory, database_url=database_url, drain_grace=GRACE) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            seen.append((await watch.read()).status)
            begun = time.monotonic()
            server.process.terminate()
            seen.append((await watch.read()).status)
            assert await asyncio.to_thread(server.process.wait, 30) == 0
            assert time.monotonic() - begun < GRACE / 10
    states = health_pb2.HealthCheckResponse
    assert seen == [states.SERVING, states.NOT_SERVING]


async def test_an_idle_client_does_not_delay_the_end(directory: Path, database_url: str) -> None:
    """An open connection without calls, as every client has, does not delay the stop."""
    (directory / "data").mkdir()
    with running("dev", directory, database_url=database_url, drain_grace=GRACE) as server:
        async with server.client() as admin:
            await admin.ListKeys(owner_id="acme")
            server.process.terminate()
            assert await asyncio.to_thread(server.process.wait, GRACE / 10) == 0


@on_linux
@BOTH
def test_dev_stops_its_postgresql(directory: Path, number: int) -> None:
    """`authsvc dev` exits with 0, logs it, prints no traceback, and its PostgreSQL has ended."""
    with running("dev", directory) as server:
        assert processes_in(server.cluster)
        assert server.end(number) == 0
        assert processes_in(server.cluster) == []
        assert "Traceback" not in server.stderr


@on_linux
def test_a_kill_leaves_no_postgresql(directory: Path) -> None:
    """After SIGKILL, no process of PostgreSQL remains, and the next start has every key."""
    with running("dev", directory) as server:
        made = server.run("keys", "create", "acme", "Orders")
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not processes_in(server.cluster))
    with running("dev", directory) as server:
        listed = server.run("keys", "list", "acme").stdout
        assert made.stdout[: len("authsvc_live_") + 12] in listed
