"""Who runs PostgreSQL, which refuses root, and where that account can reach."""

import contextlib
import pwd
import stat
from pathlib import Path

from authsvc.process.devpg.error import DevPostgresError

_ROOTS_PLACE = Path("/var/lib/authsvc-dev")  # for root only: what the account cannot reach where it is


def unprivileged() -> tuple[int, int]:
    """Return the uid and gid of the account that runs PostgreSQL for root."""
    for name in "postgres", "nobody":
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise DevPostgresError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")


def reaches(account: tuple[int, int], path: Path) -> bool:
    """Say whether the account may pass all directories down to the path, and the path itself."""
    for step in path, *path.parents:
        status = step.stat()
        others = stat.S_IXGRP if status.st_gid == account[1] else stat.S_IXOTH
        if not status.st_mode & (stat.S_IXUSR if status.st_uid == account[0] else others):
            return False
    return True


def roots_place() -> Path:
    """Return the directory for what root's PostgreSQL needs within its reach; make it if it is missing."""
    _ROOTS_PLACE.mkdir(parents=True, exist_ok=True)
    _ROOTS_PLACE.chmod(0o711)
    return _ROOTS_PLACE
