"""The files of the server: a data directory with a lock, the cluster, its password, its port, its log.

Mechanism: this process holds the lock, whose text is the id of the process that uses the data directory.
Root's server runs under another account. Where that account cannot reach the data directory, all files but
the lock are in a directory that it can reach, and `moved-to` names it.

Bound: one process has the lock. The files can be read by their owner only.

Failure: `claim` refuses a directory that is in use, or that holds other files. An interrupted `initdb` leaves
no cluster.
"""

import asyncio
import fcntl
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from authsvc.process.devpg.account import reachable_dir, reaches, unprivileged
from authsvc.process.devpg.binaries import Binaries, output_of
from authsvc.process.devpg.child import spawn
from authsvc.process.devpg.error import DevPostgresError

_log = logging.getLogger(__name__)

# The server of a process that was killed ends within this time.
_MAX_PREDECESSOR_SECONDS = 10.0


class Cluster:
    """The files of one server, below `home`, owned by the `account` that runs it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self.home = self._data_dir  # elsewhere only if root's server cannot reach the data directory
        self.account = (os.geteuid(), os.getegid())
        self._lock: int | None = None

    @property
    def directory(self) -> Path:
        """The directory that PostgreSQL calls the data directory."""
        return self.home / "cluster"

    @property
    def password(self) -> str:
        """The password of the superuser."""
        return (self.home / "password").read_text(encoding="ascii")

    @property
    def major(self) -> int | None:
        """The major version of PostgreSQL that has made the cluster; None if there is none."""
        version = (self.lines("cluster/PG_VERSION") or [""])[0].partition(".")[0]
        return int(version) if version.isdecimal() else None

    def made_by_another(self, major: int) -> DevPostgresError:
        """Return the error for a cluster that binaries of this version cannot read."""
        made_by, place = self.major, self._data_dir
        return DevPostgresError(
            f"{place} holds the data of PostgreSQL {made_by}, which PostgreSQL {major} cannot read; "
            f"nothing was changed. To keep the data, install PostgreSQL {made_by} (on Debian and Ubuntu the "
            f"package postgresql-{made_by}): it is then used for this data. To begin with an empty database, "
            f"move {place} away"
        )

    def in_use(self, pid: int | str) -> DevPostgresError:
        """Return the error that names the process which uses the data directory."""
        return DevPostgresError(f"{self._data_dir} is already in use by process {pid}")

    def claim(self) -> None:
        """Lock the data directory, and find out where the cluster is and which account runs it.

        Raises DevPostgresError when another process has the lock or the directory holds other files.
        """
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self._data_dir.iterdir()) and not (self._data_dir / "lock").exists():
            raise DevPostgresError(
                f"{self._data_dir} contains files that are not of authsvc; use another directory"
            )
        if self._lock is None:
            lock = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 20, 0).decode()
                os.close(lock)
                raise self.in_use(holder) from None
            self._lock = lock
            self.name_user(os.getpid())
        self._data_dir.chmod(0o700)
        if os.geteuid() == 0:
            self._choose_account()
            os.fchown(self._lock, *self.account)

    def release(self) -> None:
        """Unlock the data directory; do nothing if it is not locked."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def name_user(self, pid: int) -> None:
        """Write into the lock which process uses the data directory."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(pid).encode(), 0)

    async def wait_for_predecessor(self) -> None:
        """Wait until the server of a killed process has ended, then remove its `postmaster.pid`.

        PostgreSQL would take any process with the old process id for a server, and never start.
        Raises DevPostgresError when the server does not end.
        """
        until = time.monotonic() + _MAX_PREDECESSOR_SECONDS
        pid_file = self.directory / "postmaster.pid"
        while pid := _running_postmaster(pid_file):
            if time.monotonic() > until:
                raise self.in_use(pid)
            await asyncio.sleep(0.02)
        pid_file.unlink(missing_ok=True)

    async def ensure(self, binaries: Binaries, user: str, *, sync: bool) -> None:
        """Make the cluster if there is none, with `user` as its superuser; `sync` flushes it to disk."""
        if not self.directory.exists():
            _log.info("initializing PostgreSQL in %s", self.home)
            self.write("password", secrets.token_urlsafe(24))
            new = await asyncio.to_thread(self._initdb, binaries, user, sync)
            new.rename(self.directory)  # only a complete cluster gets the name

    def write(self, name: str, text: str) -> None:
        """Replace a private file; as root, never through a link that the account may have made."""
        scratch = self.home / f"{name}.new"
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchown(file.fileno(), *self.account)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self.home / name)

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file below `home`; none if it does not exist."""
        return _lines(self.home / name)

    def _choose_account(self) -> None:
        owner = self._data_dir.stat()
        if owner.st_uid != 0:  # the account of an earlier start, or the user for whom root acts
            self.home, self.account = self._data_dir, (owner.st_uid, owner.st_gid)
            return
        self.account = unprivileged()
        pointer = self._data_dir / "moved-to"
        if home := _lines(pointer):
            self.home = Path(home[0])
            if not self.home.is_dir():
                raise DevPostgresError(
                    f"{self.home}, which {pointer} names, does not exist; restore it, "
                    f"or remove {self._data_dir} to begin with an empty database"
                )
        elif reaches(self.account, self._data_dir.parent):
            self.home = self._data_dir
        else:  # the parents of the data directory stay as private as they are
            self.home = Path(tempfile.mkdtemp(prefix="postgres-", dir=reachable_dir()))
            pointer.write_text(f"{self.home}\n", encoding="utf-8")
        if self.home != self._data_dir:
            _log.info("PostgreSQL cannot reach %s: its data is in %s", self._data_dir, self.home)
        os.chown(self.home, *self.account)

    def _initdb(self, binaries: Binaries, user: str, sync: bool) -> Path:
        for interrupted in self.home.glob("initdb-*"):
            shutil.rmtree(interrupted, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.home))
        os.chown(new, *self.account)
        command = [str(binaries.directory / "initdb"), "-D", str(new), "-U", user]
        command += [f"--pwfile={self.home / 'password'}", "--auth=scram-sha-256"]
        command += ["--encoding=UTF8", "--locale=C"]
        if binaries.major >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not sync:
            command.append("--no-sync")
        initdb = spawn(command, self.account, subprocess.PIPE)
        output = initdb.communicate()[0].decode(errors="replace")
        if initdb.returncode != 0:
            raise DevPostgresError(f"initdb exited with {initdb.returncode}:\n{output[-2000:]}")
        return new


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _running_postmaster(pid_file: Path) -> int | None:
    """Return the process id in the file, if the arguments of that process name this cluster."""
    pid = (_lines(pid_file) or [""])[0]
    if not pid.isdecimal():
        return None
    if sys.platform == "linux":
        arguments = " ".join(_lines(Path("/proc", pid, "cmdline"))).split("\0")
    else:
        arguments = output_of("ps", "-o", "command=", "-p", pid).split()
    return int(pid) if str(pid_file.parent) in arguments else None
