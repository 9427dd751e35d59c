"""The systemd unit: what systemd says about it, and the service within its limits."""

import asyncio
import ctypes.util
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.process import free_port, on_linux, running_as, until

pytestmark = [on_linux, pytest.mark.slow]

# Exposure in tenths, as `systemd-analyze security` counts it.
_MAX_EXPOSURE = 20
# Takes on what the unit imposes, then runs authsvc: no new privileges, no memory that is writable and
# executable (since Linux 6.3), and only the system calls that are named; others fail with EPERM.
CONFINED = """
import ctypes, os, sys
libc, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, ALLOW, EPERM = 38, 65, 0x7FFF0000, 0x00050001
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)
seccomp.seccomp_init.restype = ctypes.c_void_p
rules = ctypes.c_void_p(seccomp.seccomp_init(EPERM))
for name in os.environ.pop("CONFINED_SYSCALLS").split():
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert seccomp.seccomp_rule_add(rules, ALLOW, number, 0) == 0
assert seccomp.seccomp_load(rules) == 0
try:
    os.setuid(os.getuid())
except PermissionError:
    pass
else:
    sys.exit("the filter has no effect")
from authsvc.cli import main
main()
"""


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: Debian package systemd")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)


@pytest.fixture
def unit(checkout: Path) -> Path:
    return checkout / "deploy/systemd/authsvc.service"


def settings_of(unit: Path, name: str) -> list[str]:
    """Return the values of a setting, in their order."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


def test_the_exposure_is_low(unit: Path) -> None:
    """At most 2.0 of 10."""
    done = analyze("security", "--offline=true", f"--threshold={_MAX_EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    """No setting is unknown or wrong. The program is not installed here, so it is another one."""
    text = unit.read_text("utf-8")
    assert "/opt/authsvc/bin/authsvc" in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/authsvc/bin/authsvc", "/bin/true"), "utf-8")
    done = analyze("verify", "--recursive-errors=no", copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_never_gives_up(unit: Path) -> None:
    """After any end, however often; and systemd waits for READY=1."""
    assert settings_of(unit, "StartLimitIntervalSec") == ["0"]
    assert settings_of(unit, "Restart") == ["always"]
    assert settings_of(unit, "Type") == ["notify"]


def allowed_calls(unit: Path) -> set[str]:
    """Return the system calls that the unit allows; `systemd-analyze` knows the groups."""

    def members(group: str) -> set[str]:
        if not group.startswith("@"):
            return {group}
        listed = analyze("syscall-filter", group).stdout.splitlines()[2:]
        names = {line.strip() for line in listed if line.strip() and not line.strip().startswith("#")}
        return {each for name in names for each in members(name)}

    allowed = members("@default")
    for value in settings_of(unit, "SystemCallFilter"):
        named = {each for group in value.removeprefix("~").split() for each in members(group)}
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


def filters(pid: int) -> bool:
    """Return whether the system calls of a process are filtered."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return re.search(r"^Seccomp:\t2$", status, re.MULTILINE) is not None


async def test_the_service_runs_within_the_limits_of_the_unit(
    unit: Path, directory: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are created, hashed and verified, workers replaced, pages served; no system call is refused."""
    calls = allowed_calls(unit)
    assert {"futex", "mmap", "execve", "accept4", "setpriority"} <= calls
    assert not {"mount", "setuid", "chown", "nice", "ptrace"} & calls
    if ctypes.util.find_library("seccomp") is None:
        pytest.skip("no libseccomp.so.2: Debian package libseccomp2")
    monkeypatch.setenv("CONFINED_SYSCALLS", " ".join(calls))
    (directory / "data").mkdir()
    given = {"database_url": database_url, "workers": 2, "admin_listen": f"127.0.0.1:{free_port()}"}
    with running_as(("-c", CONFINED), "dev", directory, **given) as server:
        await asyncio.to_thread(until, lambda: server.admin("/readyz")[0] == 200)
        async with server.client() as admin:
            made = await admin.CreateKey(owner_id="acme", display_name="Orders")
        server.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(until, lambda: "the rolling restart is done" in server.stderr)
        async with server.client() as admin:
            assert (await admin.VerifyKey(key_string=made.key_string)).valid
        assert server.metric("authsvc_open_files") > 0
        assert filters(server.process.pid)
        assert server.end() == 0
    for line in server.stderr.splitlines():
        assert "ermission" not in line
        assert "not permitted" not in line
        assert '"level": "warning"' not in line or "plain text" in line, line
