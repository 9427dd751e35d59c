"""The supervisor, without processes."""

from types import SimpleNamespace
from typing import Any

import pytest

from authsvc.config.settings import Settings
from authsvc.process.supervisor import Supervisor


@pytest.mark.parametrize(("wait", "allowed"), [("0", 60), ("10m", 660)])
def test_a_worker_that_waits_for_the_database_is_not_late(wait: str, allowed: float) -> None:
    """It is killed only when it is late after the wait."""
    forked: list[float] = []

    def fork(*_: object, max_start_seconds: float, **__: object) -> None:
        forked.append(max_start_seconds)
        raise OSError("no room")

    children: Any = SimpleNamespace(
        fork=fork, signals=SimpleNamespace(handle_stops=lambda **_: None), kill_late=lambda: None
    )
    values: dict[str, Any] = {"workers": 1, "wait_for_database": wait}
    settings = Settings(**values)
    assert "no room" in Supervisor(settings, children, announce=lambda _: None).run()
    # The notifier, and the worker.
    assert forked == [allowed, allowed]
