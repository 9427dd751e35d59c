"""How many files and connections the system lets a process have open.

The soft limit is often 1024, for programs that use select(2). Nothing here does, so it is raised to the hard
limit. Some files are reserved for the database, the feed of changes, metrics, reloaded files and logs, so
that clients that use all the others do not affect these.
"""

import logging
import resource
from pathlib import Path

_log = logging.getLogger(__name__)

# Files besides the connections to the database. Connections of checks over HTTP are among these.
_RESERVED_FILES = 128


def raise_limit() -> int:
    """Raise the limit of this process and its children as far as possible, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # macOS has a lower limit of its own
            _log.warning("cannot raise the limit of open files from %d to %d: %s", soft, hard, error)
    return _limit()


def connections(wanted: int, database: int) -> int:
    """Return how many of the wanted client connections there is room for, besides those to the database."""
    room = max(_limit() // 4, _limit() - database - _RESERVED_FILES)
    if room < wanted:
        _log.warning(
            "only %d client connections fit, but AUTHSVC_CONNECTION_LIMIT is %d: raise the "
            "limit of open files (ulimit -n, LimitNOFILE=), which is %d",
            room,
            wanted,
            _limit(),
        )
    return min(wanted, room)


def in_use() -> int:
    """Return how many files this process has open; 0 where the system does not say."""
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        return 0


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft
