"""The pages of lists: bounded in items and in bytes, and read without blocking the event loop.

A page of 1000 of the largest keys would have 35 MB, which is more than clients accept, and would block the
event loop for most of a second.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import asyncpg

Item = TypeVar("Item")

#: The characters on a page, unless it has one item only. 1000 usual keys have a third of that.
MAX_TEXT_LENGTH = 512 * 1024
# The length that values other than texts count together.
_OVERHEAD_LENGTH = 100
# How many rows are read before other tasks run. Each row takes about 20 microseconds.
_ROWS_AT_A_TIME = 25


async def page_of(
    rows: Sequence[asyncpg.Record], size: int, read: Callable[[asyncpg.Record], Item]
) -> tuple[list[Item], bool]:
    """Return the items of the first rows, at most `size` and at least one, and whether there are more."""
    items: list[Item] = []
    left = MAX_TEXT_LENGTH
    for row in rows[:size]:
        left -= _text_length(row)
        if left < 0 and items:
            return items, True
        items.append(read(row))
        if len(items) % _ROWS_AT_A_TIME == 0:
            await asyncio.sleep(0)
    return items, len(rows) > size


def _text_length(row: asyncpg.Record) -> int:
    """Return the approximate number of characters in a row."""
    return _OVERHEAD_LENGTH + sum(
        sum(map(len, value)) if isinstance(value, list) else len(value)
        for value in row.values()
        if isinstance(value, str | list)
    )
