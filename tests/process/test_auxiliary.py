"""An auxiliary process beside the workers: the order of starting and stopping, and its failures."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

CHECKOUT = Path(__file__).parent.parent.parent


class Run:
    """A run of `tests.process.auxiliary`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdout: IO[str] = process.stdout
        self.stderr: IO[str] = process.stderr

    def lines(self, number: int) -> list[str]:
        """Return the next lines without process ids; wait for them."""
        return [self.stdout.readline().rstrip("\n") for _ in range(number)]

    def pid(self) -> int:
        """Return the process id of the auxiliary, which is the next line."""
        name, pid = self.stdout.readline().split()
        assert name == "auxiliary"
        return int(pid)

    def logs(self, text: str) -> None:
        """Wait for a line of the log with this text."""
        while text not in (line := self.stderr.readline()):
            assert line, f"the log has no {text!r}"

    def serves(self) -> int:
        """Wait until all serve and the auxiliary has reported; return the process id of the auxiliary."""
        told = sorted(self.lines(5))
        assert [line.split()[0] for line in told] == ["auxiliary", "reports", "serving", "worker", "worker"]
        return int(told[0].split()[1])

    def end(self, number: int = signal.SIGTERM) -> tuple[list[str], int]:
        """Send a signal; return the remaining lines and the exit code."""
        self.process.send_signal(number)
        return self.stdout.read().splitlines(), self.process.wait(30)


@contextmanager
def running(*wrong: str) -> Iterator[Run]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.process.auxiliary", *wrong],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    ) as process:
        try:
            yield Run(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_stops_after_the_workers(number: int) -> None:
    """And its reports reach its supervisor."""
    with running() as run:
        run.serves()
        assert run.end(number) == (["worker stops", "worker stops", "auxiliary stops"], 0)


def test_one_that_dies_is_started_again_at_once() -> None:
    """The workers are not affected; the successor reports and stops like the first one."""
    with running() as run:
        os.kill(run.serves(), signal.SIGKILL)
        run.logs('the helper has ended: SIGKILL; it is started again"')
        run.pid()
        assert run.lines(1) == ["reports word: a text"]
        assert run.end() == (["worker stops", "worker stops", "auxiliary stops"], 0)


def test_one_that_dies_while_the_workers_drain_is_started_again() -> None:
    """Workers may need it to the end."""
    with running("worker-waits") as run:
        auxiliary = run.serves()
        run.process.terminate()
        assert run.lines(1) == ["worker waits"]
        os.kill(auxiliary, signal.SIGKILL)
        told = sorted(run.lines(3))
        assert [line.split()[0] for line in told] == ["auxiliary", "reports", "worker"]
        os.kill(int(told[0].split()[1]), signal.SIGUSR1)
        assert run.stdout.read().splitlines() == ["worker stops", "worker stops", "auxiliary stops"]
        assert run.process.wait(30) == 0


def test_one_that_fails_again_and_again_is_started_ever_less_often() -> None:
    """The service starts and stops all the same, and the log has the reason."""
    with running("fails") as run:
        run.logs('the helper has ended: the disk is full (exit code 1); it is started again"')
        for delay in ("0.1", "0.2", "0.4"):
            run.logs(f"the disk is full (exit code 1); it is started again in {delay} s")
        told, code = run.end()
        assert code == 0
        assert Counter(line.split()[0] for line in told)["worker"] == 4


def test_one_that_is_never_ready_is_replaced() -> None:
    """It is killed after its time, and another one is started."""
    with running("hangs-at-start") as run:
        run.serves()
        run.logs("the helper is not ready in time and is killed")
        run.logs("the helper has ended: SIGKILL; it is started again")


def test_one_that_does_not_stop_is_killed() -> None:
    """It has its time; the log says so, and the exit code is 0."""
    with running("hangs-at-stop") as run:
        run.serves()
        assert run.end() == (["worker stops", "worker stops", "auxiliary stops"], 0)
        run.logs("the helper has not ended in time and is killed")
        run.logs("the helper did not stop cleanly: SIGKILL")


def test_a_second_signal_ends_it_at_once() -> None:
    """Like the workers."""
    with running("worker-waits") as run:
        auxiliary = run.serves()
        run.process.terminate()
        assert run.lines(2) == ["worker waits"] * 2
        told, code = run.end()
        assert (told, code) == ([], 128 + signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            os.kill(auxiliary, 0)


def test_the_notifier_stops_with_the_workers() -> None:
    """It does not wait until they have drained."""
    with running("notifier-tells", "worker-waits") as run:
        auxiliary = run.serves()
        run.process.terminate()
        assert sorted(run.lines(3)) == ["notifier stops", "worker waits", "worker waits"]
        os.kill(auxiliary, signal.SIGUSR1)
        assert run.stdout.read().splitlines() == ["worker stops", "worker stops", "auxiliary stops"]
        assert run.process.wait(30) == 0


def test_nothing_is_announced_before_the_notifier_is_ready() -> None:
    """If it cannot start, the service does not, although its workers could serve."""
    with running("notifier-fails") as run:
        told = sorted(run.lines(6))
        assert [line.split()[0] for line in told] == [
            "auxiliary",
            "ready",
            "ready",
            "reports",
            "worker",
            "worker",
        ]
        os.kill(int(told[0].split()[1]), signal.SIGUSR1)
        *stopped, fault = run.stdout.read().splitlines()
        assert (stopped, fault) == (
            ["worker stops", "worker stops", "auxiliary stops"],
            "fault: a template is broken",
        )
