"""Exploration, breadth first: every state that a model reaches, or the shortest way to a violation."""

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

S = TypeVar("S", bound=Hashable)


class Explorable(Protocol[S]):
    """What can be explored: where it starts, and every step from a state, told in words."""

    def initial(self) -> S:
        """Return the state from which everything starts."""

    def successors(self, state: S) -> Iterator[tuple[str, S]]:
        """Return every step that is possible."""

    @property
    def name(self) -> str:
        """What happens in it."""

    def changed(self, *changes: str) -> Self:
        """Return this model with rules that are broken or added."""


@dataclass(frozen=True)
class Changed(Generic[S]):
    """A change to a model: where it is explored, what it is, and for which violation."""

    scenario: Explorable[S]
    what: str
    violated: Callable[[S], bool]

    def model(self, *changes: str) -> Explorable[S]:
        """Return the scenario with these changes."""
        return self.scenario.changed(*changes)


@dataclass(frozen=True)
class Result:
    """How many states were seen, and the steps to the first violation if there was one."""

    states: int
    trace: list[str] | None


def explore(model: Explorable[S], violated: Callable[[S], bool]) -> Result:
    """Explore until a violation is found or no state is new."""
    start = model.initial()
    parents: dict[S, S | None] = {start: None}
    level = [start]
    with _no_collections():
        while level:
            following: list[S] = []
            for state in level:
                for _, after in model.successors(state):
                    if after in parents:
                        continue
                    parents[after] = state
                    if violated(after):
                        return Result(len(parents), _trace(model, parents, after))
                    following.append(after)
            level = following
    return Result(len(parents), None)


def _trace(model: Explorable[S], parents: dict[S, S | None], last: S) -> list[str]:
    """Tell the way to a state in words."""
    words: list[str] = []
    state, before = last, parents[last]
    while before is not None:
        words.append(next(said for said, after in model.successors(before) if after == state))
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
