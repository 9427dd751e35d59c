"""A fresh virtual environment outside of the checkout. Packages of others come from an index."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.e2e.process import Ended, environment, run

_UV = (sys.executable, "-m", "uv", "--quiet")
_OURS = {"authsvc", "authsvc-client"}


@dataclass(frozen=True)
class Environment:
    """The directory of an environment, and what can be done with it."""

    directory: Path
    checkout: Path

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def authsvc(self) -> Path:
        """The program, as pip has made it."""
        return self.directory / "bin" / "authsvc"

    def run(self, *arguments: str | Path, cwd: Path, **variables: str) -> Ended:
        """Run its Python, with these variables and without those of ours that are settings."""
        return run(self.python, *arguments, cwd=cwd, env=environment() | variables)

    def require(self, *requirements: str) -> None:
        """Install packages of others, in the versions of our lock file; without an index, skip the test."""
        lock = self.checkout / "requirements.lock"
        options: list[str | Path] = ["--python", self.python, "--constraint", lock]
        done = subprocess.run(
            [*_UV, "pip", "install", *options, *requirements], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"the packages that authsvc requires cannot be installed: {done.stderr}")

    def pip(self, *arguments: str | Path) -> str:
        """Run pip for this environment: unlike uv, it installs and uninstalls one package after the other."""
        options: list[str | Path] = ["--python", self.directory, "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", *options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.directory)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, built: Path, *names: str) -> None:
        """Install distributions of ours, whose requirements are there already."""
        self._uv("pip", "install", "--no-index", "--find-links", built, *names)
        self._uv("pip", "check")

    def _uv(self, *arguments: str | Path) -> str:
        command = [*_UV, *arguments, "--python", self.python]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def distributions(self) -> set[str]:
        """Return the names of what is installed."""
        listed = self._uv("pip", "list", "--format", "freeze").splitlines()
        return {line.partition("==")[0].lower() for line in listed}

    def ours(self) -> set[str]:
        """Return the files of our package that are installed, without bytecode."""
        (packages,) = (self.directory / "lib").glob("python*/site-packages")
        found = (packages / "authsvc").rglob("*")
        return {
            path.relative_to(packages).as_posix()
            for path in found
            if path.is_file() and path.suffix != ".pyc"
        }


def fresh(directory: Path, checkout: Path, python: str | Path = sys.executable) -> Environment:
    """Return an environment with nothing in it, not even pip."""
    subprocess.run([*_UV, "venv", "--no-python-downloads", "--python", python, directory], check=True)
    return Environment(directory, checkout)


def required(wheel: Path, *extras: str) -> list[str]:
    """Return the requirements of a wheel that are not ours."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist", [])
    found = []
    for requirement in map(Requirement, lines):
        wanted = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if wanted and requirement.name not in _OURS:
            requirement.marker = None
            found.append(str(requirement))
    return found


def interpreter(version: str) -> Path:
    """Return a Python of this version, on the PATH or of pyenv; skip the test if there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = shutil.which(f"python{version}")
    for path in [*([Path(found)] if found else []), *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True)
        if asked.stdout.startswith(f"Python {version}."):  # pyenv has stand-ins for versions that are off
            return path
    pytest.skip(f"no Python {version}: install python{version}, for instance by pyenv")
