"""The CPU quota of our control groups: how many cores a container or a unit may use on average.

Mechanism: /proc/self/cgroup names our group in each hierarchy, and /proc/self/mountinfo where the hierarchies
are mounted. Of our group and those above it, as far as they are mounted, the smallest quota applies:
`cpu.max` in version 2, `cpu.cfs_quota_us` and `cpu.cfs_period_us` in version 1.

Failure: what cannot be read sets no quota, as on systems without control groups.
"""

import re
from collections.abc import Iterator
from math import inf
from pathlib import Path, PurePosixPath

_OCTAL = re.compile(r"\\([0-7]{3})")


def cpu_quota(root: Path = Path("/")) -> float:
    """Return how many cores our groups may use; infinity without a quota. `root` has /proc and /sys."""
    try:
        groups = (root / "proc/self/cgroup").read_text("utf-8", "surrogateescape").splitlines()
        mounts = (root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return inf
    quota = inf
    for line in groups:
        hierarchy, controllers, group = line.split(":", 2)
        if hierarchy == "0" or "cpu" in controllers.split(","):
            read = _quota_2 if hierarchy == "0" else _quota_1
            for directory in _directories(mounts, group, version_2=hierarchy == "0"):
                quota = min(quota, read(root / directory.relative_to("/")))
    return quota


def _directories(mounts: list[str], group: str, *, version_2: bool) -> Iterator[PurePosixPath]:
    """Yield the directory of a group, then those of the groups above it, as far as they are mounted."""
    for line in mounts:
        fields, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind != ("cgroup2" if version_2 else "cgroup"):
            continue
        if not version_2 and "cpu" not in options.split(","):
            continue
        mounted, point = (PurePosixPath(_unescaped(field)) for field in fields.split(" ")[3:5])
        # In a container, the mount may show a part of the hierarchy, as may the name of our group.
        inside = PurePosixPath(group)
        relative = inside.relative_to(mounted) if inside.is_relative_to(mounted) else PurePosixPath()
        if ".." in relative.parts:
            relative = PurePosixPath()
        for depth in range(len(relative.parts), -1, -1):
            yield point.joinpath(*relative.parts[:depth])
        return


def _quota_2(directory: Path) -> float:
    try:
        quota, period = (directory / "cpu.max").read_text("ascii").split()
        return inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return inf


def _quota_1(directory: Path) -> float:
    try:
        quota = int((directory / "cpu.cfs_quota_us").read_text("ascii"))
        period = int((directory / "cpu.cfs_period_us").read_text("ascii"))
        return inf if quota < 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return inf


def _unescaped(field: str) -> str:
    """Return a field of mountinfo, in which spaces and the like are octal."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
