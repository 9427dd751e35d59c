"""The rows of a page, read as far as an answer may have room for them.

Bound: at most `MAX_TEXT_LENGTH` characters and `SMALL_PAGE` rows more are fetched. A thousand of the largest
keys have 70 MB. Rows are converted one by one, when they are put into the answer.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, overload

import asyncpg

from authsvc.store.pool import Connection

Item = TypeVar("Item")

#: A page of so many rows is fetched at once. A larger one needs a transaction.
SMALL_PAGE = 100
# Of a page, besides the last rows. The encoded items have at least as many bytes as characters.
MAX_TEXT_LENGTH = 2 * 1024 * 1024


class Fetched(NamedTuple):
    """The first rows of a query, and whether it may have more, because these had enough text."""

    rows: Sequence[asyncpg.Record]
    is_cut: bool


async def fetch(connection: Connection, sql: str, *values: object, size: int) -> Fetched:
    """Return the rows of a query that returns at most `size` + 1, or fewer if they have much text."""
    if size <= SMALL_PAGE:
        return Fetched(await connection.fetch(sql, *values), False)
    cursor = await connection.cursor(sql, *values)
    rows: list[asyncpg.Record] = []
    left = MAX_TEXT_LENGTH
    while some := await cursor.fetch(SMALL_PAGE):
        rows += some
        left -= sum(map(_text_length, some))
        if left < 0:
            return Fetched(rows, True)
    return Fetched(rows, False)


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


def page_of(fetched: Fetched, size: int, read: Callable[[Any], Item]) -> tuple[Sequence[Item], bool]:
    """Return the items of the first `size` rows, and whether there may be more."""
    return ReadRows(fetched.rows[:size], read), fetched.is_cut or len(fetched.rows) > size


def _text_length(row: asyncpg.Record) -> int:
    return sum(
        sum(map(len, value)) if isinstance(value, list) else len(value)
        for value in row.values()
        if isinstance(value, str | list)
    )
