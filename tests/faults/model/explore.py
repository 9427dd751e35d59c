"""Exploration, breadth first: every state that a model reaches, or the shortest way to a violation."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.faults.model.protocol import Model, State, successors


@dataclass(frozen=True)
class Result:
    """How many states were seen, and the steps to the first violation if there was one."""

    states: int
    trace: list[str] | None


def explore(model: Model, violated: Callable[[State], bool]) -> Result:
    """Explore until a violation is found or no state is new."""
    start = model.initial()
    parents: dict[State, State | None] = {start: None}
    level = [start]
    with _no_collections():
        while level:
            following: list[State] = []
            for state in level:
                for _, after in successors(model, state):
                    if after in parents:
                        continue
                    parents[after] = state
                    if violated(after):
                        return Result(len(parents), _trace(model, parents, after))
                    following.append(after)
            level = following
    return Result(len(parents), None)


def _trace(model: Model, parents: dict[State, State | None], last: State) -> list[str]:
    """Tell the way to a state in words."""
    words: list[str] = []
    state, before = last, parents[last]
    while before is not None:
        words.append(next(said for said, after in successors(model, before) if after == state))
        state, before = before, parents[before]
    return words[::-1]


@contextmanager
def _no_collections() -> Iterator[None]:
    """Spare the collector: states have no cycles, and looking through them takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
