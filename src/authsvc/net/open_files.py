"""How many files and connections the system lets a process have open.

The soft limit is often 1024, for programs that use select(2). Nothing here does, so it is raised to the hard
one. What is kept aside is for the database, the feed of changes, metrics, files that are read anew, and logs:
clients that take all the rest leave those alone.
"""

import logging
import resource
from pathlib import Path

_log = logging.getLogger(__name__)

# Besides the connections to the database. Checks over HTTP have theirs among these.
_ASIDE = 128


def raise_limit() -> int:
    """Raise the limit of this process and of those that it starts as far as it may; return what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # macOS has a lower one of its own
            _log.warning("cannot raise the limit of open files from %d to %d: %s", soft, hard, error)
    return _limit()


def connections(wanted: int, database: int) -> int:
    """Return how many of the wanted connections of clients have room beside so many to the database."""
    room = max(_limit() // 4, _limit() - database - _ASIDE)
    if room < wanted:
        _log.warning(
            "there is room for %d connections of clients, and AUTHSVC_CONNECTION_LIMIT is %d: raise the "
            "limit of open files (ulimit -n, LimitNOFILE=), which is %d",
            room,
            wanted,
            _limit(),
        )
    return min(wanted, room)


def in_use() -> int:
    """Return how many this process has open; 0 where the system does not tell."""
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        return 0


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else soft
