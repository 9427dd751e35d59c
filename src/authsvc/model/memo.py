"""A cache for pure functions of texts, with a bound in bytes.

Mechanism: an LRU cache (functools) that does not store long texts. Clients that choose the texts can fill it,
but with no more than `max_entries` entries of `max_length` characters each.

Bound: `max_entries` entries. Each has at most `max_length` characters of text, of up to four bytes, and the
result, which must not be larger than the text by more than a constant.

Failure: an exception is not remembered.

All functools caches with a text as their key are made here, so that none has keys of unbounded length
(tests/model/test_memo.py checks it).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Memo(Generic[P, T]):
    """Calls a pure function of texts, and remembers the results for short texts."""

    __slots__ = ("__wrapped__", "_max_length", "cache_info", "short")

    def __init__(self, function: Callable[P, T], *, max_entries: int, max_length: int) -> None:
        """All arguments of the function are texts, given by position.

        `max_entries` is the number of results that are remembered, `max_length` the number of characters that
        the arguments of one call may have together to be remembered.
        """
        self.__wrapped__ = function
        self._max_length = max_length
        #: Does the same for texts that are known to be short.
        self.short = lru_cache(max_entries)(function)
        #: See functools.lru_cache.
        self.cache_info = self.short.cache_info

    def __call__(self, *texts: P.args, **none: P.kwargs) -> T:
        """Return the result, remembered or computed."""
        length = len(texts[0]) if len(texts) == 1 else sum(map(len, texts))  # type: ignore[arg-type]  # texts
        if length > self._max_length:
            return self.__wrapped__(*texts, **none)
        return self.short(*texts, **none)  # type: ignore[arg-type]  # texts are hashable


def remembered(*, max_entries: int, max_length: int) -> Callable[[Callable[P, T]], Memo[P, T]]:
    """Return a decorator that makes a function a Memo; see there."""

    def decorate(function: Callable[P, T]) -> Memo[P, T]:
        return Memo(function, max_entries=max_entries, max_length=max_length)

    return decorate
