"""An event loop without I/O, whose time passes as fast as its callbacks run."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Loop(asyncio.BaseEventLoop):
    """Advances its time to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        #: What the loop would have logged.
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        """Return the seconds that have passed."""
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """Let the time until the next timer pass; there is no I/O to wait for."""
        if timeout is None:
            raise AssertionError("everything waits, and nothing will happen")
        self._now += timeout
        return []

    def _process_events(self, _: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(work: Callable[[Loop], Coroutine[Any, Any, None]]) -> None:
    """Run a test in a loop of its own; fail for what the loop would have logged."""
    loop = Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work(loop))
    assert loop.errors == []


async def turns(count: int = 3) -> None:
    """Let callbacks run that are ready, and those that they schedule."""
    for _ in range(count):
        await asyncio.sleep(0)
