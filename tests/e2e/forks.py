"""Programs in processes that are forked after the imports, which take longer than most commands.

A fork server has imported the service and does nothing else. It forks a child for each program, which gets
its arguments, environment, directory and files, and then runs the module as `python -m` would. The server has
one thread and no event loop, as the supervisor of the service, which forks its workers in the same way.

Variables that Python or the C library read at a start (PYTHON*, LANG, TZ), limits, and what /proc tells of
the command are those of the server. Tests of these, of the supervisor, and of what Python reports at a start,
start Python (`process.running_as`).
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

_CHECKOUT = Path(__file__).parent.parent.parent
# All that `authsvc` and `tests.faults.worker` import.
_IMPORTED = ("authsvc.cli.commands", "authsvc.cli.probe", "authsvc.rpc.endpoint", "uvloop")
_LONGEST_REQUEST = 1 << 17
# Variables that would change the output of programs.
_PRESENTATION = {"COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}


def inherited_environment() -> dict[str, str]:
    """Return our environment without settings, and without variables that change the output of programs."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("AUTHSVC_") and name not in _PRESENTATION
    }


class Process:
    """A forked process, with the parts of `subprocess.Popen` that are used here."""

    def __init__(self, arguments: tuple[str, ...], status: int) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._status = status
        self._lock = threading.Lock()
        self.pid = int(self._line())

    def poll(self) -> int | None:
        """Return how it ended, like `Popen`; None while it runs."""
        with self._lock:
            if self.returncode is None and _readable(self._status, 0):
                self.returncode = int(self._line())
        return self.returncode

    def __del__(self) -> None:
        # Not earlier: another thread may still wait for it.
        os.close(self._status)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return how it ended."""
        if self.returncode is None and not _readable(self._status, timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to it if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(self._status, 1)
            assert read, "the fork server has ended"
            line += read
        return line


def start(
    module: str,
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str],
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
) -> Process:
    """Start what `python -m module` runs; None is /dev/null."""
    request = json.dumps({"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env)})
    status, tell = os.pipe()
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        files = [(file or nothing).fileno() for file in (stdin, stdout, stderr)]
        socket.send_fds(_server(), [request.encode()], [*files, tell])
    os.close(tell)
    return Process((module, *arguments), status)


def run(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = start(module, *arguments, cwd=cwd, env=env, stdout=stdout, stderr=stderr)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        told = []
        for file in stdout, stderr:
            file.seek(0)
            told.append(file.read().decode())
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, *told)


def _readable(descriptor: int, seconds: float | None) -> bool:
    asked = select.poll()
    asked.register(descriptor, select.POLLIN)
    return bool(asked.poll(None if seconds is None else seconds * 1000))


@cache
def _server() -> socket.socket:
    """Start the fork server of this process; both end together."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # Not a terminal: imported modules may check their files. Its own errors are those of the tests.
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=_CHECKOUT,
            env=inherited_environment(),
        )

    def end() -> None:
        ours.close()
        process.wait(30)

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and report how each child ended. Return its request in the child, else None."""
    told: dict[int, int] = {}
    woken, wake = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4096)
                for pid in list(told):
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        _tell(told[pid], os.waitstatus_to_exitcode(status))
                        os.close(told.pop(pid))
            if requests not in ready:
                continue
            data, descriptors, _, _ = socket.recv_fds(requests, _LONGEST_REQUEST, 4)
            if not data:
                return None
            *files, status = descriptors
            pid = os.fork()
            if pid:
                told[pid] = status
                _tell(status, pid)
                for descriptor in files:
                    os.close(descriptor)
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for standard, descriptor in enumerate(files):
                os.dup2(descriptor, standard)
            for descriptor in (*files, status, woken, wake, *told.values()):
                os.close(descriptor)
            requests.close()
            request: dict[str, Any] = json.loads(data)
            return request


def _tell(status: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(status, b"%d\n" % number)


def _main() -> None:
    for module in _IMPORTED:
        importlib.import_module(module)
    # A child's collector skips what exists now, so its memory stays shared.
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
