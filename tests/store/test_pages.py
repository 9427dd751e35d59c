"""A page of a list is bounded in bytes, and its creation yields to the event loop."""

import asyncio
from typing import Any

from authsvc.store.pages import MAX_TEXT_LENGTH, page_of


def rows(*lengths: int) -> Any:
    """Return rows, each with a text and a list of texts that together have this length."""
    return [{"a": "x" * (size - 2), "b": ["x", "x"], "n": 1} for size in lengths]


def read(row: Any) -> int:
    return len(row["a"])


async def test_it_ends_with_what_fits() -> None:
    """It has at least one item, however large, and those that also fit."""
    assert await page_of(rows(10, 10, 10), 3, read) == ([8, 8, 8], False)
    assert await page_of(rows(10, 10, 10), 2, read) == ([8, 8], True)
    assert await page_of(rows(2 * MAX_TEXT_LENGTH, 10), 2, read) == ([2 * MAX_TEXT_LENGTH - 2], True)
    assert await page_of(rows(2 * MAX_TEXT_LENGTH), 2, read) == ([2 * MAX_TEXT_LENGTH - 2], False)
    half = MAX_TEXT_LENGTH // 2 - 100
    assert await page_of(rows(half, half, 10), 10, read) == ([half - 2, half - 2], True)
    assert await page_of([], 10, read) == ([], False)


async def test_others_have_the_loop_in_between() -> None:
    """A long page is read a few rows at a time."""
    page = asyncio.create_task(page_of(rows(*[10] * 1000), 1000, read))
    turns = 0
    while not page.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 1000 // 25
