"""Three PostgreSQL nodes under Patroni, one etcd, and haproxy in front of them.

Each is a machine of its own. The settings are those of deploy/patroni, with shorter times, so that a failover
takes seconds. `synchronous_mode_strict` is on: without a synchronous standby nothing is committed.
"""

import asyncio
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from authsvc.process.devpg.account import unprivileged
from authsvc.store.migrate import migrate
from tests.patroni.deployed import ETCD_PORT, MOST_LAG, PASSWORD, PORT, REST_PORT, TTL, haproxy, patroni
from tests.patroni.lan import Lan, Machine, Unsupported, lan

T = TypeVar("T")
__all__ = ["TTL", "Cluster", "Unhealthy", "binaries", "cluster"]

_PATH = f"{os.defpath}:/usr/sbin:/usr/local/bin"
_IS_PRIMARY = "SELECT WHERE NOT pg_is_in_recovery()"
_NODES = ("node1", "node2", "node3")


def binaries() -> Path:
    """Return the directory of the system's PostgreSQL; raise Unsupported if a program is missing.

    It is not the embedded one: a release of Patroni knows the versions of PostgreSQL up to its own time.
    """
    missing = [name for name in ("patroni", "patronictl", "etcd", "haproxy") if not _which(name)]
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if missing or not found:
        named = ", ".join([*missing, *([] if found else ["postgresql"])])
        raise Unsupported(
            f"not installed: {named} (Debian: patroni, etcd-server, haproxy, postgresql; see .ci/run)"
        )
    return found[-1].parent


class Unhealthy(Exception):
    """Patroni has not brought its nodes into order by itself, whatever authsvc does."""


class Cluster:
    """The nodes, and what they depend on."""

    def __init__(self, nodes: list[Machine], etcd: Machine, proxy: Machine, *, synchronous: bool) -> None:
        self.nodes = nodes
        self.synchronous = synchronous
        self.etcd = etcd
        self.proxy = proxy

    def url(self, database: str, *nodes: Machine, role: str = "authsvc") -> str:
        """Return the URL of a database with these hosts, in this order."""
        hosts = ",".join(f"{node.address}:{PORT}" for node in nodes)
        return f"postgresql://{role}:{PASSWORD}@{hosts}/{database}?sslmode=disable"

    async def create_database(self, name: str) -> None:
        """Create a database of the role that serves, and migrate it."""
        leader = await self.healthy()
        await self.fetch(leader, f"CREATE DATABASE {name} OWNER authsvc")
        await migrate(self.url(name, leader))

    async def leader(self, but: Machine | None = None) -> Machine | None:
        """Return the node that answers as the primary, apart from one; None if there is none now."""
        nodes = [node for node in self.nodes if node is not but]
        answers = await asyncio.gather(*(_status(node, "primary") for node in nodes))
        return next((node for node, answer in zip(nodes, answers, strict=True) if answer), None)

    async def new_leader(self, but: Machine | None = None) -> Machine:
        """Wait until a node, apart from one, is the primary."""
        return await _until(lambda: self.leader(but))

    async def lost_leader(self) -> None:
        """Wait until there is no primary."""

        async def lost() -> bool:
            return await self.leader() is None

        await _until(lost)

    async def healthy(self, seconds: float = 90) -> Machine:
        """Wait until there are a primary and two standbys, one of them synchronous; return the primary."""
        told: object = None

        async def is_healthy() -> Machine | None:
            nonlocal told
            leader = await self.leader()
            told = leader and await _status(leader, "cluster")
            return leader if _is_healthy(told, synchronous=self.synchronous) else None

        try:
            return await _until(is_healthy, seconds)
        except TimeoutError:
            logs = "\n".join(f"{node.name}:\n{node.log[-1500:]}" for node in self.nodes)
            raise Unhealthy(f"{told}\n{logs}") from None

    async def proxied(self) -> None:
        """Wait until haproxy leads to the primary only: until its first checks it takes all nodes for one."""

        async def leads() -> bool:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                # It takes the nodes in turn.
                asked = [await self.fetch(self.proxy, _IS_PRIMARY) for _ in range(2 * len(self.nodes))]
                return all(asked)
            return False

        await _until(leads)

    async def switch_over(self, leader: Machine) -> None:
        """Make a standby the primary, with patronictl; the synchronous one if there is one."""
        told = await _status(leader, "cluster")
        standbys = [node for node in told["members"] if node["role"] != "leader"]
        candidate = max(standbys, key=lambda node: node["role"] == "sync_standby")["name"]
        program = _which("patronictl")
        assert program is not None
        given = ("-c", str(leader.home / "patroni.yml"), "switchover", "authsvc", "--force")
        chosen = ("--leader", leader.name, "--candidate", candidate)
        await asyncio.to_thread(leader.run, program, *given, *chosen)

    def start(self, node: Machine) -> None:
        """Start Patroni on a node, which starts PostgreSQL."""
        program = _which("patroni")
        assert program is not None
        node.start(program, node.home / "patroni.yml")

    async def kill_postgres(self, node: Machine) -> Machine:
        """SIGKILL the server process of the primary; return the primary when there is one again."""
        old = min(node.processes("-D"))  # A child that was just forked looks the same.
        os.kill(old, signal.SIGKILL)

        async def again() -> Machine | None:
            found = await self.leader()
            if found and (found is not node or old not in node.processes("-D")):
                with suppress(OSError, asyncpg.PostgresError, TimeoutError):
                    return found if await self.fetch(found, _IS_PRIMARY) else None
            return None

        return await _until(again)

    async def start_etcd(self) -> None:
        """Start etcd, or start it again on its data."""
        program = _which("etcd")
        assert program is not None
        url, peer = f"http://{self.etcd.address}:{ETCD_PORT}", f"http://{self.etcd.address}:2380"
        self.etcd.start(
            program,
            *("--name", "etcd", "--data-dir", self.etcd.home / "data"),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"etcd={peer}"),
        )
        await _until(lambda: asyncio.to_thread(_get, f"{url}/health"))

    async def fetch(
        self, node: Machine, statement: str, *, database: str = "postgres"
    ) -> list[asyncpg.Record]:
        """Query a node directly, as the superuser."""
        url = self.url(database, node, role="postgres")
        connection = await asyncpg.connect(url, timeout=5, command_timeout=10)
        try:
            return list(await connection.fetch(statement))
        finally:
            connection.terminate()


@asynccontextmanager
async def cluster(directory: Path, *, synchronous: bool = True) -> AsyncIterator[Cluster]:
    """Run a healthy cluster in a directory; raise Unsupported where it cannot run.

    Without `synchronous`, it is as Patroni is by default: commits wait for no standby.
    """
    programs = binaries()
    with lan(unprivileged()) as net:
        nodes = [net.join(name, 11 + number, directory / name) for number, name in enumerate(_NODES)]
        etcd, proxy = net.join("etcd", 2, directory / "etcd"), net.join("haproxy", 3, directory / "haproxy")
        made = Cluster(nodes, etcd, proxy, synchronous=synchronous)
        try:
            await made.start_etcd()
            for node in nodes:
                settings = patroni(node, etcd, programs, synchronous=synchronous)
                _write(node, net, "patroni.yml", json.dumps(settings))  # JSON is YAML, too.
                made.start(node)
            leader = await made.healthy()
            await made.fetch(leader, f"CREATE ROLE authsvc LOGIN PASSWORD '{PASSWORD}'")
            _write(proxy, net, "haproxy.cfg", haproxy(proxy, nodes))
            program = _which("haproxy")
            assert program is not None
            proxy.start(program, "-db", "-f", proxy.home / "haproxy.cfg")
            await made.proxied()
            yield made
        finally:
            for machine in (*nodes, etcd, proxy):
                machine.kill()


def _write(machine: Machine, net: Lan, name: str, text: str) -> None:
    path = machine.home / name
    path.write_text(text)
    path.chmod(0o600)
    os.chown(path, *net.account)


def _is_healthy(told: Any, *, synchronous: bool) -> bool:
    """Return whether there are a leader and two standbys, all of one timeline."""
    members = told["members"] if told else []
    standbys = [member for member in members if member["role"] != "leader"]
    expected = ["leader", "replica", "sync_standby" if synchronous else "replica"]
    return (
        sorted(member["role"] for member in members) == expected
        and all(member["state"] in ("running", "streaming") for member in members)
        # A lag that is not known is the word "unknown".
        and all(isinstance(member.get("lag"), int) and member["lag"] < MOST_LAG for member in standbys)
        and len({member.get("timeline") for member in members}) == 1
    )


async def _status(node: Machine, page: str) -> Any:
    """Return what Patroni's REST API says on a page, or None unless it answers 200."""
    return await asyncio.to_thread(_get, f"http://{node.address}:{REST_PORT}/{page}")


def _get(url: str) -> Any:
    with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310
        return json.loads(answer.read())
    return None


async def _until(ask: Callable[[], Awaitable[T | None]], seconds: float = 60) -> T:
    """Poll until there is a result, and return it; fail after a time."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await ask():
                return answer
            await asyncio.sleep(0.1)


def _which(name: str) -> str | None:
    return shutil.which(name, path=_PATH)
