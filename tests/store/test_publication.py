"""Publishing: the place of an entry, what is quoted, and when it is refused."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from authsvc.model.credential import CredentialKind
from authsvc.store.driver_errors import AuthorityOver
from authsvc.store.literal import quoted, quoted_array
from authsvc.store.migrate import migrate
from authsvc.store.pool import Database
from authsvc.store.publication import NewEntry, announce, find_place, publication
from authsvc.store.queries import load_queries

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOSTILE = [
    "plain",
    "",
    "it's",
    "back\\slash",
    "\\'; DROP TABLE authsvc.feed; --",
    "$$",
    "{a,b}",
    'quo"te',
    "é😀\n",
]


@pytest_asyncio.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    """A database whose clock is not that of the tests."""
    await migrate(empty_database_url)
    async with Database.open(empty_database_url) as opened:
        yield opened


async def publish(database: Database, entry: NewEntry, *given: datetime) -> None:
    async with database.transaction(last=lambda: publication(entry, *given)):
        pass


async def test_an_entry_has_a_place_after_the_commit(database: Database) -> None:
    """It is found by its nonce, also when others were published since; it is what was published."""
    entries = [
        NewEntry(key_prefixes=["eg_live_b", "eg_live_a"]),
        NewEntry(owner_id="o''s \\ owner", kind=CredentialKind.SESSION),
        NewEntry(about_tag_keys=True),
    ]
    for entry in entries:
        await publish(database, entry)
    places = [await find_place(database, entry) for entry in entries]
    announced = await announce(database, [*entries, NewEntry()])
    assert [each and each.place for each in announced] == [*places, None]
    assert [place and place.seq for place in places] == [1, 2, 3]
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM authsvc.feed WHERE seq > 0 ORDER BY seq")
        assert await connection.fetchval("SELECT nonce FROM authsvc.feed_head") == entries[-1].nonce
    assert [row["key_prefixes"] for row in rows] == [["eg_live_a", "eg_live_b"], [], []]
    assert [(row["owner_id"], row["kind"]) for row in rows] == [
        (None, None),
        (entries[1].owner_id, "session"),
        (None, None),
    ]
    assert [row["about_tag_keys"] for row in rows] == [False, False, True]


async def test_the_feed_is_walked_from_its_end(database: Database) -> None:
    """The place of a new entry is found without reading all others, also before the feed is analyzed."""
    async with database.connection() as connection:
        await connection.execute(
            """
            INSERT INTO authsvc.feed (seq, nonce)
            SELECT n, gen_random_uuid() FROM generate_series(1, 20000) AS n;
            UPDATE authsvc.feed_head SET seq = 20000;
            """
        )
    entry = NewEntry()
    await publish(database, entry)
    async with database.connection() as connection, connection.transaction():
        assert await connection.fetchval(load_queries("feed.sql")["find_place"], entry.nonce) == 20001
        reads = "SELECT seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'feed'"
        assert tuple(await connection.fetchrow(reads) or ()) == (0, 1)


async def test_an_unknown_entry_has_no_place(database: Database) -> None:
    """A primary that was replaced does not have the entry."""
    assert await find_place(database, NewEntry()) is None
    assert await announce(database, [NewEntry()]) == [None]


async def test_the_authority_ends_while_the_message_waits(database: Database) -> None:
    """From the end on nothing is committed, and the connection can be used again; before it, all is."""
    await publish(database, NewEntry(), NOW + timedelta(hours=1), NOW)
    with pytest.raises(AuthorityOver):
        await publish(database, NewEntry(), NOW + timedelta(microseconds=1), NOW)
    async with database.transaction() as connection:
        assert await connection.fetchval("SELECT seq FROM authsvc.feed_head") == 1


@pytest.mark.parametrize("strings", ["on", "off"])
async def test_texts_are_quoted(database_url: str, strings: str) -> None:
    """Each text arrives as it is, whatever the setting of the server is."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SET escape_string_warning = off")
        await connection.execute(f"SET standard_conforming_strings = {strings}")
        for text in HOSTILE:
            assert await connection.fetchval(f"SELECT {quoted(text)}::text") == text
        assert await connection.fetchval(f"SELECT {quoted_array(HOSTILE)}") == HOSTILE
        assert await connection.fetchval(f"SELECT {quoted_array([])}") == []
        assert await connection.fetchval(f"SELECT {quoted(None)}") is None
    finally:
        await connection.close()
    with pytest.raises(ValueError, match="NUL"):
        quoted("a\0b")
