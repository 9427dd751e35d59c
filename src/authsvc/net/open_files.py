"""How many files and connections the system lets a process have open, and who may use them.

The soft limit is often 1024, for programs that use select(2). Nothing here does, so it is raised to the hard
limit. Clients together get what is left after the connections to the database and a reserve for the feed of
changes, metrics, reloaded files and logs, divided among the listeners. So a process refuses clients before it
has no files left for itself.

Failure: OpenFilesError when the limit leaves too little for clients.
"""

import logging
import resource
from collections.abc import Mapping
from pathlib import Path

from authsvc.model.errors import OperatorError

_log = logging.getLogger(__name__)

# Of a worker, besides the connections to the database and of clients. About 30 are open all the time, and
# 80 may be connections to the metrics.
_RESERVED_FILES = 128
# Of a supervisor, besides two pipes for each worker.
_SUPERVISOR_FILES = 64
# Fewer connections to a listener are not worth a start.
MIN_CONNECTIONS = 8
# What macOS grants at most when the hard limit is infinite (OPEN_MAX).
_OPEN_MAX = 10_240


class OpenFilesError(OperatorError):
    """The limit of open files is too low to serve with; the message says how high it has to be."""

    def __init__(self, needed: int, why: str) -> None:
        super().__init__(
            f"the limit of open files is {_limit()}, and {why} needs at least {needed}: "
            "raise it (ulimit -n, LimitNOFILE= of systemd)"
        )


def raise_limit() -> int:
    """Raise the limit of this process and its children as far as possible, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            if not _raise_to(_OPEN_MAX, soft, hard):
                _log.warning("cannot raise the limit of open files from %d to %d: %s", soft, hard, error)
    return _limit()


def check_supervisor(workers: int) -> None:
    """Raise OpenFilesError when a supervisor of so many workers would run out of files."""
    needed = _SUPERVISOR_FILES + 2 * workers
    if _limit() < needed:
        raise OpenFilesError(needed, f"a supervisor of {workers} workers (AUTHSVC_WORKERS)")


def shares(wanted: Mapping[str, int], database: int) -> dict[str, int]:
    """Return how many connections each listener of a worker may have.

    Each gets what it wants, or an even share of what there is besides the connections to the database.
    Raises OpenFilesError when that is less than MIN_CONNECTIONS each.
    """
    room = _limit() - database - _RESERVED_FILES
    if room < MIN_CONNECTIONS * len(wanted):
        needed = MIN_CONNECTIONS * len(wanted) + database + _RESERVED_FILES
        raise OpenFilesError(
            needed, f"a worker with {database} connections to the database (AUTHSVC_DATABASE_POOL_SIZE)"
        )
    found: dict[str, int] = {}
    for name in sorted(wanted, key=wanted.__getitem__):
        found[name] = min(wanted[name], room // (len(wanted) - len(found)))
        room -= found[name]
    return found


def warn_of_shortage(wanted: Mapping[str, int], database: int) -> None:
    """Log which listeners get fewer connections than they want; raise OpenFilesError as `shares` does."""
    given = shares(wanted, database)
    short = ", ".join(
        f"{given[name]} instead of {wanted[name]} {name}" for name in wanted if given[name] < wanted[name]
    )
    if short:
        _log.warning(
            "the limit of open files is %d, so each worker accepts %s: raise it (ulimit -n, LimitNOFILE= "
            "of systemd)",
            _limit(),
            short,
        )


def in_use() -> int:
    """Return how many files this process has open; 0 where the system does not say."""
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        return 0


def _raise_to(limit: int, soft: int, hard: int) -> bool:
    """Raise the soft limit to this one, if it is lower; return whether it is as high now."""
    if soft >= limit:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):
        return False
    return True


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft
