"""The account that runs PostgreSQL, which refuses root, and the files that it can reach."""

import contextlib
import pwd
import stat
from pathlib import Path

from authsvc.process.devpg.error import DevPostgresError

# For root only: copies of what the account cannot reach, and data directories.
_REACHABLE_DIR = Path("/var/lib/authsvc-dev")


def unprivileged() -> tuple[int, int]:
    """Return the uid and gid of the account that runs PostgreSQL for root.

    Raises DevPostgresError when the system has none.
    """
    for name in "postgres", "nobody":
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise DevPostgresError("PostgreSQL refuses to run as root; create a user `postgres` to run it")


def reaches(account: tuple[int, int], path: Path) -> bool:
    """Return whether the account may enter all directories above the path, and may execute the path."""
    for step in path, *path.parents:
        status = step.stat()
        others = stat.S_IXGRP if status.st_gid == account[1] else stat.S_IXOTH
        if not status.st_mode & (stat.S_IXUSR if status.st_uid == account[0] else others):
            return False
    return True


def reachable_dir() -> Path:
    """Return a directory of root's that the account can enter; make it if it is missing."""
    _REACHABLE_DIR.mkdir(parents=True, exist_ok=True)
    _REACHABLE_DIR.chmod(0o711)
    return _REACHABLE_DIR
