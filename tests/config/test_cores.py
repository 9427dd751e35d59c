"""The number of cores, with files of control groups as systems have them, and with a real group."""

import os
import subprocess
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from authsvc.config.cgroup import cpu_quota
from authsvc.config.cores import usable_cores
from authsvc.config.settings import load_settings

MOUNT_2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "33 31 0:30 /docker/ab /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)


def system(root: Path, group: str, mounts: str, **files: str) -> Path:
    """Write the files of a system; `files` are named by their paths below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group, "utf-8")
    (root / "proc/self/mountinfo").write_text(mounts, "utf-8")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "ascii")
    return root


def test_version_2_in_a_container(tmp_path: Path) -> None:
    """Its own group is the root of what it sees."""
    files = {"cpu.max": "150000 100000\n"}
    assert cpu_quota(system(tmp_path, "0::/\n", MOUNT_2, **files)) == 1.5


@pytest.mark.parametrize(
    ("outer", "middle", "inner", "quota"),
    [
        ("max 100000", "200000 100000", "max 100000", 2),
        ("300000 100000", "max 100000", "50000 100000", 0.5),
        ("100000 200000", "max 100000", "400000 100000", 0.5),
        ("max 100000", "max 100000", "max 100000", inf),
    ],
)
def test_the_smallest_quota_on_the_path_counts(
    tmp_path: Path, outer: str, middle: str, inner: str, quota: float
) -> None:
    """A slice may limit a unit more than the unit itself; the root has no file."""
    files = {
        "system.slice/cpu.max": outer,
        "system.slice/a b.service/cpu.max": middle,
        "system.slice/a b.service/inner/cpu.max": inner,
        "system.slice/other.service/cpu.max": "1000 100000",
    }
    group = "0::/system.slice/a b.service/inner\n"
    assert cpu_quota(system(tmp_path, group, MOUNT_2, **files)) == quota


def test_version_1(tmp_path: Path) -> None:
    """The hierarchy of the controller `cpu`; -1 is no quota."""
    group = "9:cpuset:/x\n4:cpu,cpuacct:/docker/ab/cd\n1:name=systemd:/docker/ab\n0::/\n"
    files = {
        "cpu,cpuacct/docker/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "250000",
        "cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/docker/ab/cd/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/docker/ab/cd/cpu.cfs_period_us": "100000",
    }
    assert cpu_quota(system(tmp_path, group, MOUNT_1.format(root="/"), **files)) == 2.5


def test_version_1_in_a_container(tmp_path: Path) -> None:
    """The mount begins at the group of the container."""
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    group = "4:cpu,cpuacct:/docker/ab\n"
    assert cpu_quota(system(tmp_path, group, MOUNT_1.format(root="/docker/ab"), **files)) == 0.5


def test_a_mount_with_a_space(tmp_path: Path) -> None:
    """The kernel writes it as an octal number."""
    mount = MOUNT_2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/a\\040b")
    assert cpu_quota(system(tmp_path, "0::/\n", mount, **{"a b/cpu.max": "200000 100000"})) == 2


@pytest.mark.parametrize("content", ["", "max", "x y", "100000 0", "1 2 3", "?"])
def test_what_cannot_be_read_is_no_quota(tmp_path: Path, content: str) -> None:
    """Nor is a system without control groups."""
    assert cpu_quota(tmp_path) == inf
    assert cpu_quota(system(tmp_path, "0::/../x\n", MOUNT_2, **{"cpu.max": content})) == inf


@pytest.mark.parametrize(
    ("quota", "affinity", "cores"),
    [
        ("150000 100000", 8, 2),
        ("100000 100000", 8, 1),
        ("1000 100000", 8, 1),
        ("900000 100000", 4, 4),
        ("max 100000", 3, 3),
    ],
)
def test_workers_default_to_the_quota_or_the_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, affinity: int, cores: int
) -> None:
    """Whichever is less, rounded up, at least one; argon2 threads follow."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    system(tmp_path, "0::/\n", MOUNT_2, **{"cpu.max": quota})
    assert usable_cores(tmp_path) == cores
    monkeypatch.setattr("authsvc.config.cores.cpu_quota", lambda _: cpu_quota(tmp_path))
    settings = load_settings()
    assert settings.workers * settings.argon2_threads == cores


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A group of the kernel with a quota of half a core, below our own; without permission, a skip."""
    root = Path("/sys/fs/cgroup")
    for parent, set_quota in ((root / "cpu", "cpu.cfs_quota_us"), (root, "cpu.max")):
        group = parent / f"authsvc-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / set_quota).exists():
                (group / set_quota).write_text("50000" if set_quota != "cpu.max" else "50000 100000", "ascii")
                yield group
                return
        except OSError:
            continue
        finally:
            group.rmdir()
    pytest.skip("no control groups that this user may change")


def test_a_real_group(real_group: Path) -> None:
    """A process in the group sees its quota."""
    program = (
        "import os, sys, pathlib; from authsvc.config.cgroup import cpu_quota; "
        "from authsvc.config.cores import usable_cores; "
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid())); "
        "print(cpu_quota(), usable_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, real_group], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0.5", "1"]
