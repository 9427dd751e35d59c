"""Settings of sessions: no default of a role or a database breaks what rests on them."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from authsvc.process.devpg import Binaries
from authsvc.store.connect import connect
from authsvc.store.connect_error import ConnectError
from authsvc.store.migrate import migrate
from authsvc.store.pool import Database
from authsvc.store.requirements import UnfitDatabaseError
from tests.conftest import serving
from tests.faults.test_pooler import needs_pgbouncer, pgbouncer

# Defaults that each break something, and what holds instead.
_HOSTILE = {
    "default_transaction_isolation": ("repeatable read", "read committed"),
    "default_transaction_deferrable": ("on", "off"),
    "statement_timeout": ("1ms", "0"),
    "lock_timeout": ("1ms", "0"),
    "idle_in_transaction_session_timeout": ("1s", "0"),
    "idle_session_timeout": ("1s", "0"),
    "synchronous_commit": ("off", "on"),
    "client_min_messages": ("error", "notice"),
    "search_path": ("authsvc, pg_catalog", "public"),
    "transform_null_equals": ("on", "off"),
    "standard_conforming_strings": ("off", "on"),
    "DateStyle": ("German, DMY", "ISO, MDY"),
    "TimeZone": ("Asia/Kathmandu", "UTC"),
    "IntervalStyle": ("iso_8601", "postgres"),
    "bytea_output": ("escape", "hex"),
    "extra_float_digits": ("-15", "1"),
    "jit": ("on", "off"),
}
if Binaries.find().major >= 17:
    _HOSTILE["transaction_timeout"] = ("10s", "0")


async def make_hostile(url: str, whose: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for name, (value, _) in _HOSTILE.items():
            # A list of names is not one name.
            quoted = value if name == "search_path" else f"'{value}'"
            await connection.execute(f"ALTER {whose} SET {name} = {quoted}")
    finally:
        await connection.close()


def as_role(url: str, role: str) -> str:
    place = urlsplit(url)
    return f"postgresql://{role}:{role}@{place.hostname}:{place.port}{place.path}"


@pytest.mark.parametrize("whose", ["ROLE", "DATABASE"])
async def test_forty_revocations_at_once(
    empty_database_url: str, plain_role: str, unique: str, whose: str
) -> None:
    """Whatever the defaults are, the schema is made, and all of them succeed."""
    if whose == "DATABASE":
        await make_hostile(empty_database_url, f"DATABASE {unique}_empty")
    else:
        await make_hostile(empty_database_url, f"ROLE {plain_role}")
    await migrate(empty_database_url, serving_role=plain_role)
    async with serving(as_role(empty_database_url, plain_role), None) as service:
        made = [await service.admin.CreateKey(owner_id="acme", display_name=f"{n}") for n in range(40)]
        revoked = await asyncio.gather(
            *(service.admin.RevokeKey(key_id=each.key.key_id) for each in made), return_exceptions=True
        )
        assert [each for each in revoked if isinstance(each, BaseException)] == []
        await service.flush()
        page = await service.admin.ListAuditEvents(owner_id="acme", page_size=100)
        assert len(page.events) == 80


async def test_what_holds_instead(database_url: str, plain_role: str) -> None:
    """For the connections of the pool and for others."""
    await migrate(database_url, serving_role=plain_role)
    await make_hostile(database_url, f"ROLE {plain_role}")
    url = as_role(database_url, plain_role)
    single = await connect(url, timeout=20)
    try:
        async with Database.open(url) as database, database.connection() as pooled:
            for connection in single, pooled:
                found = {name: await connection.fetchval(f"SHOW {name}") for name in _HOSTILE}
                assert found == {name: value for name, (_, value) in _HOSTILE.items()}
    finally:
        await single.close()


@pytest.mark.parametrize("whose", ["role", "database"])
async def test_a_database_that_is_read_only(
    database_url: str, plain_role: str, unique: str, whose: str
) -> None:
    """An operator who wants no writes has none; the message says so, since this is not a standby."""
    connection = await asyncpg.connect(database_url)
    try:
        name = {"role": plain_role, "database": unique}[whose]
        await connection.execute(f"ALTER {whose} {name} SET default_transaction_read_only = on")
    finally:
        await connection.close()
    with pytest.raises(ConnectError, match=r"is read-only \(default_transaction_read_only is on\)$"):
        await connect(as_role(database_url, plain_role), timeout=20)


@needs_pgbouncer
async def test_defaults_behind_a_pooler(database_url: str, reachable_dir: Path, unique: str) -> None:
    """There nothing can be pinned. What would do harm is refused, with each statement that ends it."""
    connection = await asyncpg.connect(database_url)
    try:
        await make_hostile(database_url, f"DATABASE {unique}")
        # One of a millisecond would be told by the first statement that it cancels.
        await connection.execute(f"ALTER DATABASE {unique} SET statement_timeout = '30s'")
        async with pgbouncer(reachable_dir / unique, database_url) as url:
            with pytest.raises(UnfitDatabaseError) as told:
                async with serving(url, None, feed="poll"):
                    pass
            remedies = str(told.value).partition("Change them: ")[2].split("; ")
            assert [remedy.split()[4] for remedy in remedies] == [
                "client_min_messages",
                "default_transaction_isolation",
                "lock_timeout",
                "statement_timeout",
                *(["transaction_timeout"] if "transaction_timeout" in _HOSTILE else []),
                "transform_null_equals",
            ]
            with pytest.raises(UnfitDatabaseError):
                await migrate(url, pooler=True)
            for remedy in remedies:
                await connection.execute(remedy)
    finally:
        await connection.close()
    async with pgbouncer(reachable_dir / f"{unique}_2", database_url) as url, serving(url, None, feed="poll"):
        pass
