"""How many processor cores there are for us, which in a container are not all of the machine."""

import os
from math import ceil
from pathlib import Path

from authsvc.config.cgroup import cpu_quota


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: its affinity, or its CPU quota, rounded up, if less."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ceil(min(affinity, cpu_quota(root))))
