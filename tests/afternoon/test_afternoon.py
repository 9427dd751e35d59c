"""One machine from nothing to two replicas, an alert, and an upgrade under load."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from authsvc.process.devpg import Binaries
from authsvc.process.devpg.account import unprivileged
from tests.afternoon import release
from tests.afternoon.load import channel, load
from tests.afternoon.machine import Machine
from tests.conftest import Client
from tests.e2e.process import free_port, on_linux
from tests.faults.replicated import Installation, Server, until

pytestmark = [on_linux, pytest.mark.slow, pytest.mark.timeout(600)]

_PROGRAMS = {"openssl": "openssl", "prometheus": "prometheus", "systemd-analyze": "systemd"}
_PORTS = ("50051", "50052", "9464", "9465")
_REPLICAS = ("authsvc@a", "authsvc@b")


def _postgres() -> Installation:
    """Return Debian's PostgreSQL, or else the embedded one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found or Path("/proc/self").stat().st_uid != 0:
        return Installation.find()
    return Installation(Binaries(found[-1].parent, int(found[-1].parts[-3])), unprivileged())


@pytest_asyncio.fixture
async def server(reachable_dir: Path) -> AsyncIterator[Server]:
    installation = _postgres()
    home = reachable_dir / "afternoon-postgres"
    installation.make(home)
    (home / "password").write_text("standby")
    installation.owns(home / "password")
    given = ("-U", "authsvc", f"--pwfile={home}/password", "--auth=scram-sha-256", "--encoding=UTF8")
    data = home / "data"
    await asyncio.to_thread(installation.run, "initdb", "-D", str(data), *given, "--locale=C", "--no-sync")
    made = Server(installation, data)
    await made.start()
    try:
        yield made
    finally:
        await made.stop(signal.SIGQUIT)


@pytest.fixture
def machine(checkout: Path, tmp_path: Path, server: Server) -> Any:
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: Debian packages {', '.join(missing)}")
    made = Machine(checkout, tmp_path / "root", {port: free_port() for port in _PORTS})
    made.root.mkdir()
    for place in ("opt", "etc/prometheus"):
        (made.root / place).mkdir(parents=True)
    yield made
    made.end()
    release.clean(made.root)


async def test_the_afternoon(machine: Machine, server: Server, checkout: Path, tmp_path: Path) -> None:
    dist, packages = tmp_path / "dist", release.dependencies(tmp_path / "packages")
    version = await asyncio.to_thread(release.build, checkout, dist)
    machine.given |= {
        "PIP_NO_INDEX": "1",
        "PIP_NO_COMPILE": "1",
        "PIP_FIND_LINKS": str(dist),
        "PYTHONPATH": str(packages),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": "authsvc",
        "PGPASSWORD": "standby",
    }
    machine.also |= {"PYTHONPATH": str(packages), "AUTHSVC_LEASE": "8s", "AUTHSVC_CALLER_LIMIT": "0"}
    machine.also |= {"AUTHSVC_WORKERS": "1", "AUTHSVC_DATABASE_POOL_SIZE": "8"}
    await machine.run("install", RELEASE=version)
    for step in ("roles", "tls", "settings"):
        await machine.run(step)
    # From here on only the passwords that the page has made.
    del machine.given["PGPASSWORD"]
    for step in ("migrate", "bootstrap", "units"):
        await machine.run(step)
    await _verified(machine)
    await machine.systemctl("start")
    told = await machine.run("status")
    assert [line.split()[-1] for line in told.splitlines()[1:] if line] == ["serving", "serving"], told

    key = (machine.root / "etc/authsvc/admin.key").read_text().strip()
    addresses = [f"127.0.0.1:{machine.ports[port]}" for port in ("50051", "50052")]
    authority = (machine.root / "etc/authsvc/ca.pem").read_bytes()
    async with channel(checkout, addresses, authority) as calls:
        admin = Client(calls, key)
        await _an_alert_is_fired(machine, server, tmp_path)
        async with load(admin, 3) as found:
            await until(_at_least(found, 5), seconds=60)
            await machine.run("install", RELEASE=release.NEXT)
            await machine.run("migrate")
            await machine.systemctl("upgrade")
            await until(_at_least(found, found.rounds + 5), seconds=60)
        assert (found.lost, found.wrong) == ([], [])
    rows = await server.fetch("SELECT 1 WHERE to_regclass('authsvc.afternoon') IS NULL")
    assert rows == []
    for unit in _REPLICAS:
        command = (Path("/proc") / str(machine.services[unit].pid) / "cmdline").read_bytes()
        assert b"opt/authsvc/bin" in command
        assert "Traceback" not in machine.log(unit).read_text()


def _at_least(found: Any, rounds: int) -> Callable[[], Any]:
    async def enough() -> bool:
        return bool(found.rounds >= rounds)

    return enough


async def _verified(machine: Machine) -> None:
    """Systemd knows all settings of the units. The program is below another root, so it is another one."""
    units = machine.root / "verified"
    shutil.copytree(machine.root / "etc/systemd/system", units)
    template = units / "authsvc@.service"
    template.write_text(template.read_text("utf-8").replace("/opt/authsvc/bin/authsvc", "/bin/true"))
    for instance in ("a", "b"):
        told = await machine.execute(
            "systemd-analyze",
            "verify",
            "--recursive-errors=no",
            f"authsvc@{instance}.service",
            SYSTEMD_UNIT_PATH=f"{units}:",
        )
        assert told == ""
    assert "replica %i" in (units / "authsvc@.service.d/replica.conf").read_text("utf-8")


async def _an_alert_is_fired(machine: Machine, server: Server, directory: Path) -> None:
    """Prometheus sees both replicas; AuthsvcLeaseOver fires while there is no database."""
    place, port = machine.root / "etc/prometheus", free_port()
    text = (machine.checkout / "deploy/prometheus/rules.yaml").read_text("utf-8")
    # An alert waits for no minutes here.
    text = re.sub(r"\b(for|interval|keep_firing_for): \w+", r"\1: 1s", text)
    (place / "authsvc.rules.yaml").write_text(text)
    configuration = place / "prometheus.yml"
    configuration.write_text(machine.block("prometheus").replace("15s", "1s"))
    if shutil.which("promtool"):
        await machine.execute("promtool", "check", "config", str(configuration))
    prometheus = _prometheus(configuration, directory, port)
    try:

        async def up() -> bool:
            targets = await _ask(port, "targets?state=active")
            return [each["health"] for each in targets.get("activeTargets", ())] == ["up", "up"]

        async def fires() -> bool:
            alerts = (await _ask(port, "alerts")).get("alerts", ())
            return any(
                alert["labels"]["alertname"] == "AuthsvcLeaseOver" and alert["state"] == "firing"
                for alert in alerts
            )

        async def is_over() -> bool:
            return await up() and not await fires()

        await until(up, seconds=60)
        assert not await fires()
        await server.stop(signal.SIGINT)
        await until(fires, seconds=60)
        await server.start()
        await until(is_over, seconds=60)
    finally:
        prometheus.terminate()
        await asyncio.to_thread(prometheus.wait, 30)


def _prometheus(configuration: Path, directory: Path, port: int) -> "subprocess.Popen[bytes]":
    command = ["prometheus", f"--config.file={configuration}", f"--web.listen-address=127.0.0.1:{port}"]
    command += [f"--storage.tsdb.path={directory}/prometheus"]
    with (directory / "prometheus.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


async def _ask(port: int, path: str) -> dict[str, Any]:
    """Return an answer of Prometheus, or nothing while it does not answer."""

    def get() -> dict[str, Any]:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=5) as told,
        ):
            answer: dict[str, Any] = json.load(told)["data"]
            return answer
        return {}

    return await asyncio.to_thread(get)
