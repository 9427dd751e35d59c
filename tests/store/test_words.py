"""The numbers by which words of an owner are indexed: those of the first schema, which indexes contain."""

import asyncpg

# As they were in migration 0001.
_FIRST = """
    CREATE FUNCTION pg_temp.owned(owner_id text, words text[]) RETURNS bigint[]
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $$ SELECT coalesce(array_agg(hashtextextended(owner_id || ' ' || word, 0)), '{}') FROM unnest(words) AS word $$;
    CREATE FUNCTION pg_temp.trigrams(name text) RETURNS text[]
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $$ SELECT coalesce(array_agg(DISTINCT substr(name, i, 3)), '{}') FROM generate_series(1, length(name) - 2) AS i $$;
"""  # noqa: E501
_NAMES = [
    "",
    "a",
    "ab",
    "abc",
    "abcd",
    "aaaaaa",
    "abcabcabc",
    "orders of acme",
    "größe 😀😀😀 é",
    "x" * 200,
    None,
]


async def test_words_have_the_numbers_that_indexes_contain(database_url: str) -> None:
    """An index that was built by an earlier release finds what this one looks for."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_FIRST)
        for name in _NAMES:
            before = await connection.fetchval("SELECT pg_temp.trigrams($1)", name)
            now = await connection.fetchval("SELECT authsvc.trigrams($1)", name)
            assert (now and sorted(now)) == (before and sorted(before))
            both = "SELECT pg_temp.owned($1, $2), authsvc.owned($1, $2)"
            for owner_id in ("acme", "", None):
                found = await connection.fetchrow(both, owner_id, before)
                assert found is not None
                assert found[0] == found[1]
    finally:
        await connection.close()
