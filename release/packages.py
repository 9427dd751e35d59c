"""Builds the wheels and source distributions of `authsvc` and `authsvc-client`."""

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: The directories with a pyproject.toml. The client comes first, since the service requires it.
PROJECTS = ("clients/python", ".")
_NOT_COPIED = (".git", ".venv", ".tools", ".data", "dist", "__pycache__", ".*_cache", "*.egg-info")


class BuildError(Exception):
    """A package could not be built; the message is what the build tool says."""


class NotReproducibleError(Exception):
    """Two builds of the same sources differ; the message names the files."""


def build(
    checkout: Path, out: Path, *, epoch: int, umask: int = 0o022, projects: Sequence[str] = PROJECTS
) -> list[Path]:
    """Build both packages of a checkout into `out`, and return the files.

    All times in them are `epoch`, in seconds since 1970. The build tools are those of this environment.
    Raises BuildError.
    """
    out.mkdir(parents=True, exist_ok=True)
    for project in projects:
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-d", str(out.resolve())],
            cwd=checkout / project,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
            umask=umask,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise BuildError(f"{project}: {done.stderr}")
    return sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])


def copy_sources(checkout: Path, target: Path) -> None:
    """Copy the files that git does not ignore, or without git all but those that tools leave behind."""
    if not (checkout / ".git").exists():
        shutil.copytree(checkout, target, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        return
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - the git of whoever releases
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(checkout / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, target / name, follow_symlinks=False)


def compare(built: list[Path], again: list[Path]) -> None:
    """Raise NotReproducibleError unless both builds have the same files with the same bytes."""
    names, names_again = {path.name for path in built}, {path.name for path in again}
    if names != names_again:
        raise NotReproducibleError(f"one build has {sorted(names)}, the other one {sorted(names_again)}")
    differ = [
        first.name
        for first, second in zip(sorted(built), sorted(again), strict=True)
        if not filecmp.cmp(first, second, shallow=False)
    ]
    if differ:
        raise NotReproducibleError(
            f"built twice, {', '.join(differ)} differ: is there a file that git ignores, "
            "or does the build depend on the time, the place or the user?"
        )
