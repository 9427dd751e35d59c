"""The rows of a page. They are read one by one, since an answer may have room for only a few of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import asyncpg

Item = TypeVar("Item")


class ReadRows(Sequence[Item]):
    """Rows as items. A row is read whenever its item is asked for."""

    def __init__(self, rows: Sequence[asyncpg.Record], read: Callable[[Any], Item]) -> None:
        self._rows = rows
        self._read = read

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "ReadRows[Item]": ...
    def __getitem__(self, index: int | slice) -> "Item | ReadRows[Item]":
        if isinstance(index, slice):
            return ReadRows(self._rows[index], self._read)
        return self._read(self._rows[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self._read, self._rows)


def page_of(
    rows: Sequence[asyncpg.Record], size: int, read: Callable[[Any], Item]
) -> tuple[Sequence[Item], bool]:
    """Return the items of the first `size` rows, and whether there are more rows."""
    return ReadRows(rows[:size], read), len(rows) > size
