"""No more rows are fetched than an answer may have room for."""

import pytest

from authsvc.store.pages import MAX_TEXT_LENGTH, SMALL_PAGE, fetch, page_of
from authsvc.store.pool import Database

_ROWS = "SELECT n, repeat('x', $2::int) AS text, ARRAY['y'] AS list FROM generate_series(1, $1::int) AS n"


@pytest.mark.parametrize(
    ("size", "rows", "length", "fetched", "more"),
    [
        (10, 10, 5, 10, False),
        (10, 11, 5, 10, True),
        (10, 11, MAX_TEXT_LENGTH, 10, True),
        (1000, 0, 5, 0, False),
        (1000, 1000, 5, 1000, False),
        (1000, 1001, 5, 1000, True),
        (1000, 1001, 100_000, SMALL_PAGE, True),
        (1000, 1001, 20_000, 2 * SMALL_PAGE, True),
        # What was fetched is all, but nobody has looked.
        (1000, SMALL_PAGE, MAX_TEXT_LENGTH // SMALL_PAGE, SMALL_PAGE, True),
    ],
)
async def test_a_page_ends_with_enough_text(
    database_url: str, size: int, rows: int, length: int, fetched: int, more: bool
) -> None:
    """Or with its size, or with the last row; it says whether more may follow."""
    in_transaction = size > SMALL_PAGE
    async with (
        Database.open(database_url, size=5) as database,
        database.listing("acme", in_transaction=in_transaction) as connection,
    ):
        found = await fetch(connection, _ROWS, rows, length, size=size)
        items, has_more = page_of(found, size, lambda row: row["n"])
    assert list(items) == list(range(1, fetched + 1))
    assert list(items[-3:]) == list(range(1, fetched + 1))[-3:]
    assert has_more is more
