"""A page of a list: so many items, so many bytes, and no long stretch of the event loop.

A page of 1000 of the largest keys would have 35 MB, which is more than clients take, and keep the loop for
most of a second.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import asyncpg

Item = TypeVar("Item")

#: Characters of texts on a page, unless it has one item only. 1000 usual keys have a third of that.
MAX_TEXT = 512 * 1024
# For what has no length of its own in a row.
_BESIDES = 100
# Rows that are read at a time; each takes some 20 microseconds.
_SLICE = 25


async def page_of(
    rows: Sequence[asyncpg.Record], size: int, read: Callable[[asyncpg.Record], Item]
) -> tuple[list[Item], bool]:
    """Return the items of the first rows, at most `size` and at least one, and whether there are more."""
    items: list[Item] = []
    left = MAX_TEXT
    for row in rows[:size]:
        left -= _text(row)
        if left < 0 and items:
            return items, True
        items.append(read(row))
        if len(items) % _SLICE == 0:
            await asyncio.sleep(0)
    return items, len(rows) > size


def _text(row: asyncpg.Record) -> int:
    """Return about how many characters a row has."""
    return _BESIDES + sum(
        sum(map(len, value)) if isinstance(value, list) else len(value)
        for value in row.values()
        if isinstance(value, str | list)
    )
