"""Results of a function of texts, remembered within a bound in bytes.

Mechanism: an LRU cache (functools) that long texts do not enter. Whoever chooses the texts can fill it, but
with no more than `max_entries` entries of `max_length` characters each.

Bound: `max_entries` entries. Each holds at most `max_length` characters of text, which are up to four bytes
each, and the result, which must not be larger than the text by more than a constant.

Failure: an exception is not remembered.

This is the one place that keeps a functools cache by text, so that none is keyed by a text of any length
(tests/test_memo.py holds it).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Memo(Generic[P, T]):
    """Calls a pure function of texts, and remembers what it returned for short ones."""

    __slots__ = ("__wrapped__", "_cached", "_max_length", "cache_info")

    def __init__(self, function: Callable[P, T], *, max_entries: int, max_length: int) -> None:
        """Take a function whose arguments are all texts, given by position.

        `max_entries`: how many results are remembered. `max_length`: how many characters the texts may have
        together.
        """
        self.__wrapped__ = function
        self._max_length = max_length
        self._cached = lru_cache(max_entries)(function)
        #: As that of functools.lru_cache.
        self.cache_info = self._cached.cache_info

    def __call__(self, *texts: P.args, **none: P.kwargs) -> T:
        """Return the result, remembered or computed."""
        if sum(map(len, texts)) > self._max_length:  # type: ignore[arg-type]  # all are texts
            return self.__wrapped__(*texts, **none)
        return self._cached(*texts, **none)  # type: ignore[arg-type]  # texts are hashable


def remembered(*, max_entries: int, max_length: int) -> Callable[[Callable[P, T]], Memo[P, T]]:
    """Return a decorator that makes a Memo of a function; see there."""

    def decorate(function: Callable[P, T]) -> Memo[P, T]:
        return Memo(function, max_entries=max_entries, max_length=max_length)

    return decorate
