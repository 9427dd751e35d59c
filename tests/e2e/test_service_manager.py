"""What a service manager is told over NOTIFY_SOCKET, by the real service."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from authsvc.process.service_manager import ServiceManager, State
from tests.e2e.process import on_linux, running, until
from tests.e2e.test_workers import children

pytestmark = pytest.mark.slow


class Manager:
    """A socket as systemd has it, and what arrives there."""

    def __init__(self, receiver: socket.socket) -> None:
        receiver.settimeout(30)
        self._receiver = receiver

    def next(self) -> dict[str, str]:
        """Return the assignments of the next datagram; wait for it."""
        lines = self._receiver.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def until(self, assignment: str) -> tuple[dict[str, str], list[str]]:
        """Return the first datagram with this assignment, and the statuses before it."""
        name, value = assignment.split("=", 1)
        before = []
        while (told := self.next()).get(name) != value:
            before.append(told["STATUS"])
            assert "READY" not in told
        return told, before


@pytest.fixture(params=["path", pytest.param("abstract", marks=on_linux)])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if request.param == "path":
            monkeypatch.chdir(tmp_path)  # a path has at most 107 bytes
            receiver.bind(str(tmp_path / "notify"))
            address = str(tmp_path / "notify")
        else:
            name = f"authsvc-test-{os.getpid()}-{time.monotonic_ns()}"
            receiver.bind(f"\0{name}")
            address = f"@{name}"
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield Manager(receiver)


def test_a_service_tells_its_life(manager: Manager, directory: Path, database_url: str) -> None:
    """A start, a worker that is gone, a rolling restart, and a stop with the time that it may take."""
    with running(
        "serve", directory, database_url=database_url, workers=2, drain_delay="300ms", drain_grace="3s"
    ) as server:
        told, before = manager.until("READY=1")
        assert (before, told) == (["starting"], {"READY": "1", "STATUS": "2 of 2 workers serve"})

        *_, worker = children(server.process.pid)  # after the follower
        os.kill(worker, signal.SIGKILL)
        assert manager.next() == {"STATUS": "1 of 2 workers serve"}
        assert manager.next() == {"STATUS": "2 of 2 workers serve"}

        asked = time.monotonic_ns() // 1000
        server.process.send_signal(signal.SIGHUP)
        told, _ = manager.until("RELOADING=1")
        assert asked <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        told, _ = manager.until("READY=1")
        assert told == {"READY": "1", "STATUS": "2 of 2 workers serve"}

        server.process.send_signal(signal.SIGTERM)
        told, _ = manager.until("STOPPING=1")
        # The delay, the grace, twice, and 50 s in which all that is left was killed.
        assert told["EXTEND_TIMEOUT_USEC"] == "56300000"
        assert told["STATUS"] == "2 of 2 workers serve, no longer ready"
        assert manager.next() == {"STATUS": "draining"}
        assert server.process.wait(30) == 0


@on_linux
def test_only_the_supervisor_knows_the_socket(
    directory: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A manager that has gone is logged, and the service serves."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with running("serve", directory, database_url=database_url) as server:
        until(lambda: "cannot tell the service manager at NOTIFY_SOCKET: " in server.stderr)
        assert server.end() == 0


async def test_what_was_not_told_is_told_later(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY=1 is not lost when the manager did not take it at first."""
    teller = ServiceManager.of_environment()
    assert "NOTIFY_SOCKET" not in os.environ
    address, teller._address = teller._address, "/nonexistent/socket"
    await asyncio.to_thread(teller.tell, State.READY, "all serve")
    teller._address = address
    teller.tell(State.READY, "all serve")
    assert manager.next() == {"READY": "1", "STATUS": "all serve"}
    teller.tell(State.READY, "all serve")
    teller.tell(State.READY, "most serve")
    assert manager.next() == {"STATUS": "most serve"}


def test_without_a_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without systemd."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    ServiceManager.of_environment().tell(State.READY, "all serve")
