"""The image, built by buildah on a base of Debian's packages, and containers of it, by bubblewrap.

The base is not the one of the Containerfile, which comes from a registry. Everything else is as in
production: the steps of the Containerfile, the user, a file system that is read-only, and the command as the
first process.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = "localhost/authsvc-base"
#: Where the secrets of a test are in its containers.
SECRETS = "/mnt"
# Who starts a container in production has the privileges to set a user and to drop the rest.
_USER = (
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"),
    *("--bounding-set=-all", "--inh-caps=-all", "--"),
)


class NoBuilderError(Exception):
    """The image cannot be built; the message says what is missing."""


@dataclass
class Process:
    """The first process of a container. `pid` is its process id outside."""

    process: "subprocess.Popen[str]"
    pid: int

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal, and return the exit code and what was printed."""
        os.kill(self.pid, number)
        printed, _ = self.process.communicate(timeout=60)
        return self.process.returncode, printed


@dataclass(frozen=True)
class Image:
    """The file system of the image, and its configuration."""

    root: Path
    config: Mapping[str, Any]
    secrets: Path

    def start(self, *arguments: str, **settings: object) -> Process:
        """Start a container with these arguments of the command line of authsvc."""
        reader, writer = os.pipe()
        command = [*self._sandbox(writer, settings), *self.config["Entrypoint"], *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=[writer]
        )
        os.close(writer)
        with os.fdopen(reader) as info:
            return Process(process, json.load(info)["child-pid"])

    def run(self, *arguments: str, **settings: object) -> tuple[int, str]:
        """Run a command to its end; return the exit code and what it printed."""
        started = self.start(*arguments, **settings)
        printed, _ = started.process.communicate(timeout=120)
        return started.process.returncode, printed

    def _sandbox(self, info: int, settings: Mapping[str, object]) -> list[str]:
        environment = dict(line.split("=", 1) for line in self.config["Env"])
        environment |= {f"AUTHSVC_{name.upper()}": str(value) for name, value in settings.items()}
        return [
            *("bwrap", "--die-with-parent", "--info-fd", str(info), "--unshare-pid", "--as-pid-1"),
            *(
                "--unshare-ipc",
                "--unshare-uts",
                "--ro-bind",
                str(self.root),
                "/",
                "--proc",
                "/proc",
                "--dev",
                "/dev",
            ),
            *("--ro-bind", str(self.secrets), SECRETS),
            *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP", "--clearenv"),
            *(word for name, value in environment.items() for word in ("--setenv", name, value)),
            *_USER,
        ]


@contextmanager
def built(checkout: Path, directory: Path) -> Iterator[Image]:
    """Build the image with deploy/image/build.sh while the block runs."""
    missing = [name for name in ("buildah", "bwrap", "setpriv", "nsenter") if shutil.which(name) is None]
    if missing or os.geteuid() != 0 or not (checkout / ".tools/image/base.stamp").exists():
        raise NoBuilderError(
            "needs root, buildah, bubblewrap, and tests/image/base.sh, which needs mmdebstrap; missing: "
            f"{' '.join(missing) or 'root or the base'}"
        )
    (directory / "bin").mkdir()
    buildah = directory / "bin/buildah"
    store, runs = checkout / ".tools/image/store", directory / "run"
    buildah.write_text(
        f'#!/bin/sh\nexec {shutil.which("buildah")} --root "{store}" --runroot "{runs}" "$@"\n'
    )
    buildah.chmod(0o755)

    def run(*command: object, **environment: str) -> str:
        given = os.environ | {"PATH": f"{directory}/bin:{os.environ['PATH']}"} | environment
        done = subprocess.run(
            [str(word) for word in command], env=given, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()

    # The authorities of this machine: it may reach package indexes through a proxy of its own.
    options = ("--pull-never", "--isolation", "chroot", "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro")
    build = checkout / "deploy/image/build.sh"
    run(build, "buildah", *options, BASE=BASE, SOURCE_DATE_EPOCH="1700000000")
    container = run(buildah, "from", "--pull-never", "localhost/authsvc:latest")
    try:
        secrets = directory / "secrets"
        secrets.mkdir()
        told = json.loads(run(buildah, "inspect", "--type", "image", "localhost/authsvc:latest"))
        yield Image(Path(run(buildah, "mount", container)), told["Docker"]["config"], secrets)
    finally:
        with suppress(subprocess.CalledProcessError):
            run(buildah, "umount", container)
            run(buildah, "rm", container)
            run(buildah, "rmi", "--force", run(buildah, "images", "--quiet", "localhost/authsvc:latest"))
            run(buildah, "rmi", "--prune", "--force")
