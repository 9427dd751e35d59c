"""The database of `authsvc dev` around its workers: the order of starting and stopping, and failures."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent


class Dev:
    """A run of `tests.process.dev`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def lines(self, number: int) -> list[str]:
        """Return the next lines; wait for them."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline().rstrip("\n") for _ in range(number)]

    def end(self) -> tuple[list[str], int]:
        """Return the remaining lines and the exit code; wait for the end."""
        assert self.process.stdout is not None
        return self.process.stdout.read().splitlines(), self.process.wait(30)

    def serves(self) -> int:
        """Wait until all serve; return the process id of the database."""
        database, *workers, serving = self.lines(4)
        assert [line.split()[0] for line in (database, *workers)] == ["database", "worker", "worker"]
        assert serving == "serving at 50051 with a key"
        return int(database.split()[1])


@contextmanager
def running(*wrong: str) -> Iterator[Dev]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.process.dev", *wrong], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        try:
            yield Dev(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_database_stops_after_the_workers(number: int) -> None:
    """And it starts before them."""
    with running() as dev:
        dev.serves()
        dev.process.send_signal(number)
        assert dev.end() == (["worker stops", "worker stops", "database stops"], 0)


def test_a_database_that_ends_stops_the_workers() -> None:
    """They drain, and its end is the error."""
    with running() as dev:
        os.kill(dev.serves(), signal.SIGKILL)
        error = "StartError: the process of the database has ended: SIGKILL"
        assert dev.end() == (["worker stops", "worker stops", error], 1)


def test_a_database_that_fails_to_start_is_the_error() -> None:
    """No worker starts."""
    with running("database-fails") as dev:
        lines, code = dev.end()
        assert (lines[1:], code) == (["StartError: the disk is full"], 1)


def test_an_unexpected_error_is_not_shown() -> None:
    """It may hold anything; only an OperatorError is reported with its message."""
    with running("database-has-a-bug") as dev:
        lines, code = dev.end()
        assert lines[1:] == ["StartError: an unexpected error, whose traceback is in the log"]
        assert code == 1


def test_a_worker_that_fails_to_start_stops_the_database() -> None:
    """Its error is the one that is reported."""
    with running("worker-fails") as dev:
        lines, code = dev.end()
        assert lines[-2:] == ["database stops", "StartError: the schema is old"]
        assert code == 1


def test_a_stop_while_the_database_starts() -> None:
    """The start is given up, without an error, and no worker starts."""
    with running("database-hangs-at-start") as dev:
        dev.lines(1)
        dev.process.terminate()
        assert dev.end() == ([], 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_kills_a_database_that_hangs(number: int, code: int) -> None:
    """The exit code is that of the signal."""
    with running("database-hangs-at-stop") as dev:
        dev.serves()
        dev.process.send_signal(number)
        assert dev.lines(3) == ["worker stops", "worker stops", "database stops"]
        dev.process.send_signal(number)
        assert dev.end() == ([], code)


def test_a_killed_parent_leaves_no_database() -> None:
    """Its children end by themselves; the output ends with the last of them."""
    with running() as dev:
        dev.serves()
        dev.process.kill()
        lines, code = dev.end()
        assert sorted(lines) == ["database stops", "worker stops", "worker stops"]
        assert code == -signal.SIGKILL
