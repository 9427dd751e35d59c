"""Exploration: every state that a model reaches, the shortest way to a violation, or whether there is one."""

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

S = TypeVar("S", bound=Hashable)

# Most searches that succeed need fewer; a second or two.
_MAX_DEPTH_FIRST = 30_000


class Explorable(Protocol[S]):
    """What can be explored: its initial state, and every step from a state, with a description."""

    def initial(self) -> S:
        """Return the initial state."""

    def successors(self, state: S) -> Iterator[tuple[str, S]]:
        """Return every step that is possible."""

    @property
    def name(self) -> str:
        """The description of the step."""

    def changed(self, *changes: str) -> Self:
        """Return this model with rules that are broken or added."""


@dataclass(frozen=True)
class Changed(Generic[S]):
    """A change to a model: its scenario, its description, and the violation that it causes."""

    scenario: Explorable[S]
    what: str
    violated: Callable[[S], bool]

    def model(self, *changes: str) -> Explorable[S]:
        """Return the scenario with these changes."""
        return self.scenario.changed(*changes)


@dataclass(frozen=True)
class Result(Generic[S]):
    """The number of states; the steps to the first violation, and its state, if there is one."""

    states: int
    trace: list[str] | None
    last: S | None = None


def explore(model: Explorable[S], violated: Callable[[S], bool]) -> Result[S]:
    """Explore until a violation is found or there is no new state."""
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
                        return Result(len(parents), _trace(model, parents, after), after)
                    following.append(after)
            level = following
    return Result(len(parents), None)


def reaches(model: Explorable[S], wanted: Callable[[S], bool]) -> bool:
    """Return whether the model reaches such a state.

    It goes on from the newest state. In models whose runs are short it often visits a tenth of the states
    that `explore` needs for the shortest way. After `_MAX_DEPTH_FIRST` states it is lost, and `explore` is
    asked.
    """
    start = model.initial()
    seen, ways = {start}, [model.successors(start)]
    with _no_collections():
        while ways and len(seen) < _MAX_DEPTH_FIRST:
            after = next((state for _, state in ways[-1] if state not in seen), None)
            if after is None:
                ways.pop()
            elif wanted(after):
                return True
            else:
                seen.add(after)
                ways.append(model.successors(after))
    return bool(ways) and explore(model, wanted).trace is not None


def _trace(model: Explorable[S], parents: dict[S, S | None], last: S) -> list[str]:
    """Describe the way to a state."""
    words: list[str] = []
    state, before = last, parents[last]
    while before is not None:
        words.append(next(said for said, after in model.successors(before) if after == state))
        state, before = before, parents[before]
    return words[::-1]


@contextmanager
def _no_collections() -> Iterator[None]:
    """Pause the garbage collector: states have no cycles, and scanning them takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
