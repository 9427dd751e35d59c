"""A PostgreSQL server with the roles of deploy/postgres, a service on it, and the commands of the page."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.process import Server as Service
from tests.e2e.process import authsvc, free_port, running
from tests.faults.replicated import Installation, Server
from tests.restore.page import blocks

LEASE = 15.0
_SUPERUSER, _PASSWORD = "authsvc", "standby"  # those of `Server`
_PASSWORDS = {"authsvc_owner": "owner", "authsvc_server": "server", _SUPERUSER: _PASSWORD}


@dataclass
class Drill:
    """What the page calls BACKUPS, PGDATA and so on; and its commands."""

    checkout: Path
    home: Path
    installation: Installation
    server: Server
    given: dict[str, str] = field(default_factory=dict)

    @property
    def backups(self) -> Path:
        return self.home / "backups"

    def url(self, role: str) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.server.port}/authsvc"

    def environment(self) -> dict[str, str]:
        """Return what the page takes from the environment."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("AUTHSVC_", "PG"))}
        venv = self.checkout / ".venv" / "bin"
        return ours | {
            "PATH": f"{self.installation.binaries.directory}:{venv}:{ours['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": _SUPERUSER,
            "PGPASSFILE": str(self.home / "pgpass"),
            "PGDATA": str(self.server.directory),
            "BACKUPS": str(self.backups),
            "AUTHSVC_DATABASE_URL": self.url("authsvc_server"),
            "AUTHSVC_MIGRATION_DATABASE_URL": self.url("authsvc_owner"),
            **self.given,
        }

    async def run(self, name: str, *, status: int = 0) -> str:
        """Run a block of the page; return its output. Where the page says so, as PostgreSQL's account."""
        text = blocks(self.checkout / "docs/backup.md")[name]
        command = ["bash", "-eu", "-o", "pipefail", "-c", text]
        environment = self.environment()
        if text.startswith("# As the account of PostgreSQL") and os.geteuid() == 0:
            uid, gid = map(str, self.installation.account)
            command = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", *command]
            environment["PGPASSFILE"] = str(self.home / "pgpass.account")
        return await self.execute(*command, env=environment, status=status)

    async def execute(self, *command: str, env: dict[str, str] | None = None, status: int = 0) -> str:
        """Run a program in the directory of the drill; return its output."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.home,
            env=env or self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        output, _ = await process.communicate()
        assert await process.wait() == status, output.decode()
        return output.decode()

    @contextmanager
    def service(self, number: int) -> Iterator[Service]:
        """Run a replica with two workers; the page gets its address."""
        directory = self.home / f"replica-{number}"
        directory.mkdir()
        port = free_port()
        self.given["CALL_URL"] = f"http://127.0.0.1:{port}"
        with running(
            "serve",
            directory,
            workers=2,
            database_url=self.url("authsvc_server"),
            lease=LEASE,
            web_listen=f"127.0.0.1:{port}",
            admin_listen=f"127.0.0.1:{free_port()}",
            caller_limit="0",
            scopes="*",
        ) as service:
            yield service


@pytest_asyncio.fixture
async def drill(
    reachable_dir: Path, checkout: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Drill]:
    """A migrated database with an administrator key, whose log is archived as the page says."""
    if shutil.which("curl") is None:
        pytest.skip("not installed: Debian package curl")
    installation = Installation.find()
    home = reachable_dir / unique
    installation.make(home)
    for name in ("backups", "backups/wal"):
        installation.make(home / name)
    (home / "deploy").symlink_to(checkout / "deploy")
    for role, password in _PASSWORDS.items():
        (home / f"{role}.password").write_text(password)
    lines = "".join(f"127.0.0.1:*:*:{role}:{password}\n" for role, password in _PASSWORDS.items())
    for name in ("pgpass", "pgpass.account"):
        (home / name).write_text(lines)
        (home / name).chmod(stat.S_IRUSR)
    installation.owns(home / "pgpass.account")
    initdb = ("-U", _SUPERUSER, f"--pwfile={home}/{_SUPERUSER}.password", "--auth=scram-sha-256")
    data = home / "data"
    await asyncio.to_thread(
        installation.run, "initdb", "-D", str(data), *initdb, "--encoding=UTF8", "--locale=C", "--no-sync"
    )
    made = Drill(checkout, home, installation, Server(installation, data, _archived(checkout, home)))
    monkeypatch.setenv("PGPASSFILE", str(home / "pgpass"))
    await made.server.start()
    try:
        files = [("-v", f"{who}_password_file={home}/authsvc_{who}.password") for who in ("owner", "server")]
        roles = "deploy/postgres/roles.sql"
        await made.execute("psql", "-X", *(each for pair in files for each in pair), "-f", roles, "postgres")
        await made.execute("authsvc", "migrate")
        done = await asyncio.to_thread(
            authsvc, "bootstrap", cwd=home, database_url=made.url("authsvc_server")
        )
        made.given["KEY"] = done.stdout.strip()
        (home / "admin.header").write_text(f"authorization: Bearer {done.stdout.strip()}\n")
        yield made
    finally:
        await made.server.stop(signal.SIGQUIT)


def _archived(checkout: Path, home: Path) -> dict[str, str]:
    """Return the settings of the page that archive the log, with the directory of the drill."""
    text = blocks(checkout / "docs/backup.md")["archive"].replace("/var/backups", str(home / "backups"))
    lines = [line.partition(" = ") for line in text.splitlines()]
    return {name: value.strip("'") for name, _, value in lines}
