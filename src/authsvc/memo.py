"""Results of a function of texts, remembered within a bound in bytes.

Mechanism: an LRU cache (functools) that long texts do not enter. Whoever chooses the texts can fill it, but
with no more than `most` entries of `longest` characters each.

Bound: `most` entries; of each at most `longest` characters of text, which are up to four bytes each, and the
result, which must not be larger than the text by more than a constant.

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

    __slots__ = ("__wrapped__", "_cached", "_longest", "cache_info")

    def __init__(self, function: Callable[P, T], *, most: int, longest: int) -> None:
        """Take a function whose arguments are all texts, given by position.

        `most`: how many results are remembered. `longest`: how many characters the texts may have together.
        """
        self.__wrapped__ = function
        self._longest = longest
        self._cached = lru_cache(most)(function)
        #: As that of functools.lru_cache.
        self.cache_info = self._cached.cache_info

    def __call__(self, *texts: P.args, **none: P.kwargs) -> T:
        """Return the result, remembered or computed."""
        if sum(map(len, texts)) > self._longest:  # type: ignore[arg-type]  # all are texts
            return self.__wrapped__(*texts, **none)
        return self._cached(*texts, **none)  # type: ignore[arg-type]  # texts are hashable


def remembered(*, most: int, longest: int) -> Callable[[Callable[P, T]], Memo[P, T]]:
    """Return a decorator that makes a Memo of a function; see there."""

    def decorate(function: Callable[P, T]) -> Memo[P, T]:
        return Memo(function, most=most, longest=longest)

    return decorate
