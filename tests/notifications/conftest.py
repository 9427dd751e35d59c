"""What the tests of notifications share."""

from collections.abc import AsyncIterator

import pytest_asyncio

from authsvc.store.pool import Database


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database without a service, so that nothing runs but what the test calls."""
    async with Database.open(database_url) as opened:
        yield opened
