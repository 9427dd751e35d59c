"""An auxiliary process that does not report any more."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from authsvc.process.auxiliary import Auxiliary
from authsvc.process.child import NEVER


class FakeChild:
    """A child whose reports the test makes."""

    def __init__(self) -> None:
        self.stopping = False
        self.deadline = NEVER
        self.failure = ""
        self.said: list[tuple[str, str]] = []
        self.got: list[int] = []

    def end(self) -> str:
        return ""

    def reports(self) -> Iterator[tuple[str, str]]:
        said, self.said = self.said, []
        return iter(said)

    def stop(self) -> None:
        self.stopping = True

    def send(self, number: signal.Signals) -> None:
        self.got.append(number)


class FakeChildren:
    """Forks one fake child."""

    def __init__(self) -> None:
        self.child = FakeChild()

    def fork(self, *_: object, **__: object) -> FakeChild:
        return self.child


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `time.monotonic` shows."""
    moment = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def started() -> tuple[Auxiliary, FakeChild]:
    children: Any = FakeChildren()
    context: Any = None
    auxiliary = Auxiliary(children, "the helper", context, max_stop_seconds=9, max_silence_seconds=5)
    auxiliary.start()
    children.child.said = [("ready", "")]
    auxiliary.look()
    return auxiliary, children.child


def test_silence_is_looked_at_twice(now: list[float]) -> None:
    """A supervisor that was stopped itself finds the reports at its second look."""
    auxiliary, child = started()
    assert auxiliary.look_time == 1005
    now[0] = 2000
    auxiliary.look()
    assert child.got == []
    child.said = [("alive", "")]
    auxiliary.look()
    assert auxiliary.look_time == 2005
    now[0] = 2005
    auxiliary.look()
    now[0] = auxiliary.look_time
    auxiliary.look()
    assert child.got == [signal.SIGKILL]


def test_one_that_stops_need_not_report(now: list[float]) -> None:
    """Its deadline bounds the stop; the supervisor waits for that, and does not look again and again."""
    auxiliary, child = started()
    auxiliary.stop()
    child.said = [("alive", "")]
    now[0] = 2000
    auxiliary.look()
    assert child.got == []
    assert auxiliary.look_time == NEVER
