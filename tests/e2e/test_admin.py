"""The admin listener of a running service, and a stop with a delay."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.conftest import Client
from tests.e2e.process import Server, eventually, free_port, on_linux, running, until
from tests.e2e.test_workers import HASTY, Pack, alive, children, pack

pytestmark = pytest.mark.slow

READY = (200, "worker 0: ready\nworker 1: ready\n")
# Longer than any test waits.
LONG = 300


def ready(server: Server) -> bool:
    return server.admin("/readyz") == READY


async def admin_child(on: Pack) -> int:
    """Return the process of the admin listener: the child that is no worker and no database."""
    workers = await on.pids()
    for pid in set(children(on.server.process.pid)) - set(workers):
        if listens(pid, str(on.server.settings["admin_listen"])):
            return pid
    raise AssertionError("no child listens there")


def listens(pid: int, address: str) -> bool:
    port = f"{int(address.rpartition(':')[2]):04X}"
    inodes = {
        f"socket:[{line.split()[9]}]"
        for line in Path("/proc/net/tcp").read_text("utf-8").splitlines()[1:]
        if line.split()[1].endswith(f":{port}") and line.split()[3] == "0A"
    }
    try:
        return any(str(file.readlink()) in inodes for file in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False


async def test_probes_and_metrics_of_a_service(directory: Path, database_url: str) -> None:
    """One port answers for all workers; promtool finds nothing wrong; no check of credentials is there."""
    async with pack(directory, database_url, admin_listen=f"127.0.0.1:{free_port()}") as on:
        await asyncio.to_thread(until, lambda: ready(on.server))
        assert on.server.admin("/healthz") == (200, "the supervisor runs\n")
        assert on.server.admin("/check")[0] == 404
        async with on.client() as admin:
            await admin.ListKeys(owner_id="acme")
        page = on.server.metrics(1)
        counts = [on.server.metric('authsvc_rpc_seconds_count{method="ListKeys"}', n) for n in range(2)]
        assert sorted(counts) == [0, 1]
        if (promtool := shutil.which("promtool")) is None:
            pytest.skip("no promtool: Debian package prometheus")
        done = await asyncio.to_thread(
            subprocess.run, [promtool, "check", "metrics"], input=page, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@on_linux
async def test_a_worker_that_hangs_or_dies_holds_up_no_page(directory: Path, database_url: str) -> None:
    """The others are shown; the one that hangs is back when it continues, and a new one after its death."""
    async with pack(
        directory, database_url, program=HASTY, admin_listen=f"127.0.0.1:{free_port()}", drain_grace=0
    ) as on:
        await asyncio.to_thread(until, lambda: ready(on.server))
        frozen, _ = await on.pids()
        os.kill(frozen, signal.SIGSTOP)
        status, told = on.server.admin("/readyz")
        assert (status, told.count("not ready: it does not answer within 0.5 s")) == (200, 1)
        up = [line for line in on.server.admin("/metrics")[1].splitlines() if line.startswith("authsvc_up{")]
        # Of both workers, the notifier and the follower.
        assert sorted(line.split()[1] for line in up) == ["0.0", "1.0", "1.0", "1.0"]
        os.kill(frozen, signal.SIGCONT)
        await asyncio.to_thread(until, lambda: ready(on.server))
        os.kill(frozen, signal.SIGKILL)
        await on.tells("serves again")
        await asyncio.to_thread(until, lambda: ready(on.server))


@on_linux
async def test_the_admin_listener_dies_and_the_service_serves(directory: Path, database_url: str) -> None:
    """Another one listens at the same port, and the same workers connect to it; all end at a stop."""
    async with pack(directory, database_url, admin_listen=f"127.0.0.1:{free_port()}") as on:
        await asyncio.to_thread(until, lambda: ready(on.server))
        before = await on.pids()
        for _ in range(2):
            os.kill(await admin_child(on), signal.SIGKILL)
            await on.serves()
            await asyncio.to_thread(until, lambda: ready(on.server))
        assert await on.pids() == before
        assert on.told("the admin listener has ended: SIGKILL; it is started again") == 2
        family = children(on.server.process.pid)
        on.server.process.kill()
        await eventually(lambda: not alive(family))


async def test_a_rolling_restart_is_always_ready(directory: Path, database_url: str) -> None:
    """At least one worker is ready at any time, each slot has one set of samples, and no delay applies."""
    address = f"127.0.0.1:{free_port()}"
    async with pack(directory, database_url, admin_listen=address, drain_delay=LONG) as on:
        await asyncio.to_thread(until, lambda: ready(on.server))
        on.signal(signal.SIGHUP)
        while not on.told("the rolling restart is done"):
            assert (await asyncio.to_thread(on.server.admin, "/readyz"))[0] == 200
            page = (await asyncio.to_thread(on.server.admin, "/metrics"))[1]
            assert page.count("authsvc_ready{") == 2
            assert page.count("authsvc_lease_seconds{") <= 2
        await asyncio.to_thread(until, lambda: ready(on.server))


async def test_a_taken_port_does_not_stop_the_service(directory: Path, database_url: str) -> None:
    """It is logged, the service serves, and it listens when the port is free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with running("serve", directory, database_url=database_url, admin_listen=address) as server:
            until(lambda: f"AUTHSVC_ADMIN_LISTEN: cannot listen at {address}: " in server.stderr)
            async with grpc.aio.insecure_channel(server.address) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                answer = await health.Check(health_pb2.HealthCheckRequest())
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            other.close()
            await asyncio.to_thread(until, lambda: server.admin("/readyz") == (200, "worker 0: ready\n"))
            assert server.end() == 0


class Leaving:
    """A service that is to stop after a delay, with a client."""

    def __init__(self, server: Server, admin: Client, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.admin = admin
        self.health = health_pb2_grpc.HealthStub(channel)

    async def is_leaving(self) -> None:
        """Check that no probe finds it ready, and that calls are answered."""
        states = health_pb2.HealthCheckResponse
        watch = self.health.Watch(health_pb2.HealthCheckRequest())
        while (await watch.read()).status != states.NOT_SERVING:
            pass
        await asyncio.to_thread(until, lambda: self.server.admin("/readyz")[0] == 503)
        assert self.server.admin("/readyz")[1].count("not ready: this worker is stopping") == 2
        assert self.server.admin("/healthz")[0] == 200
        http = f"http://{self.server.settings['http_listen']}/readyz"
        done = await asyncio.to_thread(
            subprocess.run, ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", http], capture_output=True
        )
        assert done.stdout == b"503"
        await self.admin.ListKeys(owner_id="acme")
        async with self.server.client() as another:  # on a new connection
            await another.ListKeys(owner_id="acme")


def with_delay(delay: object) -> dict[str, Any]:
    return {
        "admin_listen": f"127.0.0.1:{free_port()}",
        "http_listen": f"127.0.0.1:{free_port()}",
        "drain_delay": delay,
        "drain_grace": LONG,
    }


async def test_a_stop_with_a_delay_serves_on(directory: Path, database_url: str) -> None:
    """Probes fail at once and calls are answered, until a second signal; then it drains, and exits with 0."""
    async with (
        pack(directory, database_url, **with_delay(LONG)) as on,
        on.client() as admin,
        grpc.aio.insecure_channel(on.server.address) as channel,
    ):
        await admin.ListKeys(owner_id="acme")
        on.signal(signal.SIGTERM)
        await Leaving(on.server, admin, channel).is_leaving()
        assert on.told("calls are accepted for another 5m") == 1
        assert on.told("draining") == 0
        on.signal(signal.SIGTERM)
        assert await asyncio.to_thread(on.server.process.wait, 30) == 0
        assert on.told("draining") == 2


@on_linux
async def test_a_stop_that_all_processes_get(directory: Path, database_url: str) -> None:
    """As systemd sends it by default: workers and the admin listener go on for as long as the delay says."""
    async with (
        pack(directory, database_url, **with_delay(LONG)) as on,
        on.client() as admin,
        grpc.aio.insecure_channel(on.server.address) as channel,
    ):
        await admin.ListKeys(owner_id="acme")
        before = children(on.server.process.pid)
        assert set(await on.pids()) < set(before)
        for pid in (*before, on.server.process.pid):
            os.kill(pid, signal.SIGTERM)
        await Leaving(on.server, admin, channel).is_leaving()
        assert on.told("calls are accepted for another 5m") == 1
        assert children(on.server.process.pid) == before
        on.signal(signal.SIGTERM)
        assert await asyncio.to_thread(on.server.process.wait, 30) == 0
        assert on.told("draining") == 2


async def test_a_delay_ends_by_itself(directory: Path, database_url: str) -> None:
    """Without a second signal."""
    async with pack(directory, database_url, **with_delay("300ms")) as on:
        on.signal(signal.SIGTERM)
        assert await asyncio.to_thread(on.server.process.wait, 30) == 0
        assert on.told("calls are accepted for another 300ms") == 1
        assert on.told("draining") == 2


async def test_workers_that_die_during_the_delay_end_it(directory: Path, database_url: str) -> None:
    """None is started again, and without workers there is nothing to wait for."""
    async with pack(directory, database_url, **with_delay(LONG)) as on:
        pids = await on.pids()
        on.signal(signal.SIGTERM)
        await on.tells("calls are accepted for another")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert await asyncio.to_thread(on.server.process.wait, 30) == 0
        assert on.told("no other one starts, since the service stops") == 2
