"""What the database has to be: others are refused by `migrate` and `serve`, with the remedy."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from authsvc.process.devpg import Binaries
from authsvc.store.migrate import migrate
from authsvc.store.requirements import UnfitDatabaseError, check_database, refuse_impostor
from tests.conftest import serving

_LIBC = "LOCALE_PROVIDER libc" if Binaries.find().major >= 15 else ""
_COCKROACH = "CockroachDB CCL v23.1.11 (x86_64-pc-linux-gnu, built 2023/09/27 02:20:44, go1.19.10)"


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (_COCKROACH, "the database is CockroachDB, not PostgreSQL: its advisory locks do nothing"),
        ("PostgreSQL 15.2-YB-2.25.2.0-b0 on x86_64-pc-linux-gnu, compiled by clang", "YugabyteDB"),
        (
            "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 "
            "(Red Hat 3.4.2-6.fc3), Redshift 1.0.12103",
            "Amazon Redshift",
        ),
        ("PostgreSQL 13.14.0-RisingWave-2.3.2 (58c5893670f326f0922b9bc58c61c83cabeccaa8)", "RisingWave"),
        ("PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (materialized v0.27.0)", "Materialize"),
        ("PostgreSQL 12.3, compiled by Visual C++ build 1914, 64-bit, QuestDB", "QuestDB"),
        ("CrateDB 5.4.0 (built 1234/NA, Linux 5.10 amd64, OpenJDK 64-Bit Server VM)", "CrateDB"),
        ("PostgreSQL 14.4 (Apache Cloudberry 2.0.0 build dev) on x86_64-pc-linux-gnu", "Greenplum"),
        ("PostgreSQL 9.2.4 (openGauss 5.0.0 build a07d57c3) compiled at 2023-03-29", "openGauss"),
        (
            "PostgreSQL 13.11 (Debian 13.11-0+deb11u1) on x86_64",
            "PostgreSQL 13, which is too old",
        ),
        ("PostgreSQL 9.6.24 on x86_64-pc-linux-gnu", "PostgreSQL 9, which is too old"),
        ("SomethingElse 1.0", "not PostgreSQL, but 'SomethingElse 1.0'"),
    ],
)
def test_a_database_that_only_looks_like_it(version: str, told: str) -> None:
    """It is named, with the reason and what to use."""
    with pytest.raises(UnfitDatabaseError) as refused:
        refuse_impostor(version)
    assert told in str(refused.value)
    assert str(refused.value).endswith("; use PostgreSQL 14 or later")


@pytest.mark.parametrize(
    "version",
    [
        "PostgreSQL 14.0 on x86_64-pc-linux-gnu, compiled by gcc (Debian 10.2.1-6) 10.2.1 20210110, 64-bit",
        "PostgreSQL 15.5 (Debian 15.5-0+deb12u1) on x86_64-pc-linux-gnu",
        "PostgreSQL 16.2 (EnterpriseDB Advanced Server 16.2.0) on x86_64-pc-linux-gnu",
        "PostgreSQL 19devel on x86_64-pc-linux-gnu",
    ],
)
def test_postgresql(version: str) -> None:
    refuse_impostor(version)


async def sql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def as_role(url: str, role: str) -> str:
    """Return a URL with the `plain_role`."""
    place = urlsplit(url)
    return f"postgresql://{role}:{role}@{place.hostname}:{place.port}{place.path}"


async def refusal(url: str, feed: str = "listen") -> str:
    """Return what `migrate` and `serve` say, which is the same."""
    with pytest.raises(UnfitDatabaseError) as told:
        await migrate(url, pooler=feed == "poll")
    with pytest.raises(UnfitDatabaseError) as told_by_serve:
        async with serving(url, None, feed=feed):
            pass
    assert str(told.value) == str(told_by_serve.value)
    return str(told.value)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "WIN1252"])
async def test_an_encoding_that_lacks_letters(database_url: str, unique: str, encoding: str) -> None:
    """A user agent with a letter that it lacks would stop the writing of all activities."""
    name = f"{unique}_other"
    await sql(
        database_url,
        f"CREATE DATABASE {name} ENCODING '{encoding}' {_LIBC} LOCALE 'C' TEMPLATE template0",
    )
    try:
        told = await refusal(database_url.replace(unique, name))
    finally:
        await sql(database_url, f"DROP DATABASE {name} WITH (FORCE)")
    assert told.startswith(f"the encoding of database {name} is {encoding}, and has to be UTF8: ")
    assert "TEMPLATE template0" in told


async def test_triggers_that_do_not_run(database_url: str, plain_role: str) -> None:
    """The setting stops the triggers that guard the schema."""
    await migrate(database_url, serving_role=plain_role)
    await sql(database_url, f"ALTER ROLE {plain_role} SET session_replication_role = replica")
    told = await refusal(as_role(database_url, plain_role))
    assert told.startswith("session_replication_role is replica, so triggers do not run: ALTER ROLE")


async def test_names_that_have_to_be_quoted(database_url: str, unique: str) -> None:
    """The statements that are proposed can be executed as they are."""
    name = f'{unique}-My "other"'
    quoted = '"' + name.replace('"', '""') + '"'
    await sql(database_url, f"CREATE ROLE {quoted} SUPERUSER LOGIN PASSWORD 'x'")
    await sql(database_url, f"CREATE DATABASE {quoted} ENCODING 'UTF8' TEMPLATE template0")
    place = urlsplit(database_url)
    url = f"postgresql://{quote(name)}:x@{place.hostname}:{place.port}/{quote(name)}"
    try:
        await sql(database_url, f"ALTER ROLE {quoted} SET session_replication_role = replica")
        await sql(database_url, f"ALTER DATABASE {quoted} SET session_replication_role = replica")
        told = await refusal(url)
        remedies = re.findall(r"ALTER .*? RESET session_replication_role", told)
        assert [remedy.split()[1] for remedy in remedies] == ["ROLE", "DATABASE"]
        for remedy in remedies:
            await sql(database_url, remedy)
        await sql(database_url, f"ALTER ROLE {quoted} SET lock_timeout = 10")
        told = await refusal(url, feed="poll")
        await sql(database_url, told[told.index("ALTER ROLE") :])
        await migrate(url, pooler=True)
    finally:
        await sql(database_url, f"DROP DATABASE {quoted} WITH (FORCE)")
        await sql(database_url, f"DROP ROLE {quoted}")


@pytest_asyncio.fixture
async def cockroach() -> AsyncIterator[str]:
    """The URL of a server that speaks the protocol, answers CockroachDB's version, and knows no settings."""
    async with _speaking(_COCKROACH) as port:
        yield f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable"


@pytest.mark.parametrize("feed", ["listen", "poll"])
async def test_a_server_that_speaks_the_protocol(cockroach: str, feed: str) -> None:
    """It is refused by name, whatever else it refuses first."""
    assert (await refusal(cockroach, feed=feed)).startswith("the database is CockroachDB, not PostgreSQL: ")


async def test_locks_that_do_nothing(database_url: str) -> None:
    """A server with an unknown name is found out by its locks."""
    connection = await asyncpg.connect(database_url)
    try:
        await check_database(connection)
        await connection.execute(
            """
            CREATE SCHEMA lax;
            CREATE FUNCTION lax.pg_advisory_xact_lock_shared(bigint) RETURNS void LANGUAGE sql AS '';
            SET search_path = lax, pg_catalog
            """
        )
        with pytest.raises(UnfitDatabaseError, match="not PostgreSQL: its advisory locks do nothing"):
            await check_database(connection)
    finally:
        await connection.close()


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + (len(content) + 4).to_bytes(4) + content


_ERROR = _message(b"E", b"SERROR\0VERROR\0C42704\0Munrecognized configuration parameter\0\0")


def _answer(kind: bytes, version: bytes) -> bytes:
    """Return the answer to one message of a client that asks for the version."""
    column = b"\0\1version\0" + bytes(6) + (25).to_bytes(4) + b"\xff\xff" + b"\xff" * 4 + b"\0\0"
    return {
        b"Q": _ERROR + _message(b"Z", b"I"),
        b"P": _message(b"1", b""),
        b"D": _message(b"t", b"\0\0") + _message(b"T", column),
        b"B": _message(b"2", b""),
        b"E": _message(b"D", b"\0\1" + len(version).to_bytes(4) + version) + _message(b"C", b"SELECT 1\0"),
        b"C": _message(b"3", b""),
    }.get(kind, b"")


@asynccontextmanager
async def _speaking(version: str) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
            writer.write(_message(b"R", bytes(4)) + _message(b"S", b"server_version\x0013.0.0\0"))
            writer.write(_message(b"K", bytes(8)) + _message(b"Z", b"I"))
            failed = False
            while True:
                kind = await reader.readexactly(1)
                content = await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
                if kind == b"P" and b"version()" not in content:
                    failed = True
                    writer.write(_ERROR)
                elif kind == b"S":
                    failed = False
                    writer.write(_message(b"Z", b"I"))
                elif not failed:
                    writer.write(_answer(kind, version.encode()))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
