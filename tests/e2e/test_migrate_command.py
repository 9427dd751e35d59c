"""`authsvc migrate`: what it does, what it says that it would do, and how it is interrupted."""

import asyncio
import signal
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from authsvc.store.migrate import known_migrations, migrate
from tests.e2e import forks
from tests.e2e.process import Ended, authsvc, environment, eventually
from tests.e2e.test_start import refusal

LATEST = known_migrations()[-1]


async def command(directory: Path, url: str, *arguments: str, **settings: object) -> Ended:
    return await asyncio.to_thread(
        partial(authsvc, "migrate", *arguments, cwd=directory, database_url=url, **settings)
    )


async def objects(url: str) -> list[str]:
    """Return everything that a migration could change, and who may use it."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT relname || coalesce(relacl::text, '') || xmin AS found FROM pg_class"
        " UNION ALL SELECT proname || xmin FROM pg_proc UNION ALL SELECT nspname || xmin FROM pg_namespace"
    )
    await connection.close()
    return sorted(row["found"] for row in rows)


async def test_what_is_missing(directory: Path, empty_database_url: str) -> None:
    """It is listed, with status 3, and nothing is changed; then it is applied, and the status is 0."""
    before = await objects(empty_database_url)
    done = await command(directory, empty_database_url, "--check")
    assert done == Ended(3, "".join(f"missing {each}\n" for each in known_migrations()), "")
    assert await objects(empty_database_url) == before
    await migrate(empty_database_url, migrations=known_migrations()[:-1])
    assert await command(directory, empty_database_url, "--check") == Ended(3, f"missing {LATEST}\n", "")
    done = await command(directory, empty_database_url)
    assert (done.code, done.stdout.splitlines()[0]) == (0, f"applied {LATEST}")
    expected = Ended(0, "nothing to do; the schema is up to date\n", "")
    assert await command(directory, empty_database_url, "--check") == expected


async def test_what_would_be_executed(directory: Path, empty_database_url: str, plain_role: str) -> None:
    """It is printed, with the privileges of the serving role, and neither executed nor locked."""
    await migrate(empty_database_url, migrations=known_migrations()[:-1])
    before = await objects(empty_database_url)
    place = urlsplit(empty_database_url)
    serving_url = f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"
    connection = await asyncpg.connect(empty_database_url)
    async with connection.transaction():
        # With any lock of a table that is used, it would wait in vain.
        for table in ("keys", "feed", "feed_head", "workers"):
            await connection.execute(f"LOCK TABLE authsvc.{table} IN ACCESS EXCLUSIVE MODE")
        done = await command(directory, serving_url, "--dry-run", migration_database_url=empty_database_url)
    assert (done.code, done.stderr) == (0, "1 migration is missing; nothing was executed.\n")
    assert done.stdout.startswith(f"-- migration {LATEST}\n\nBEGIN;\n{LATEST.sql.strip()}\nCOMMIT;\n")
    assert f'GRANT USAGE ON SCHEMA authsvc TO "{plain_role}";' in done.stdout
    assert await objects(empty_database_url) == before
    # It is SQL as it would be executed.
    await connection.execute(done.stdout)
    await connection.close()
    assert (
        await command(directory, empty_database_url, "--dry-run")
    ).stderr == "1 migration is missing; nothing was executed.\n"


async def test_what_cannot_be_told(directory: Path, empty_database_url: str, plain_role: str) -> None:
    """Status 1, and the reason: nobody there, no privileges, a file that was changed."""
    done = await command(directory, "postgresql://nobody:secret@127.0.0.1:1/none", "--check")
    assert refusal(done).startswith("cannot use the database: ")
    assert "secret" not in done.stderr
    await migrate(empty_database_url)
    place = urlsplit(empty_database_url)
    serving_url = f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"
    done = await command(directory, serving_url, "--check")
    assert "has no privileges on the schema" in refusal(done)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("UPDATE authsvc.migrations SET checksum = 'x' WHERE number = 2")
    await connection.close()
    for option in ("--check", "--dry-run"):
        done = await command(directory, empty_database_url, option)
        assert refusal(done).startswith("migration 0002 feed was changed after it had been applied")


async def test_options_that_make_no_sense(directory: Path, empty_database_url: str) -> None:
    """They are named, before anything is done."""
    for arguments, expected in (
        (("--check", "--dry-run"), "--check and --dry-run: use one of them"),
        (("--lock-wait=-1s",), "--lock-wait: use 0 or more, for instance 30s"),
    ):
        assert refusal(await command(directory, empty_database_url, *arguments)) == expected
    done = await command(directory, empty_database_url, "--lock-wait", "soon")
    assert (done.code, '"soon" is' in done.stderr) == (2, True)
    assert (await command(directory, empty_database_url, "--check")).code == 3


async def test_an_interruption(directory: Path, empty_database_url: str) -> None:
    """It says at once what it waits for, also into a file; Ctrl-C ends it, and it can be repeated."""
    await migrate(empty_database_url, migrations=known_migrations()[:-1])
    connection = await asyncpg.connect(empty_database_url, server_settings={"application_name": "report"})
    async with connection.transaction():
        # As another migration does. What the last one replaces need not be something that can be locked.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x617574687376)
        stdout, stderr = directory / "stdout", directory / "stderr"
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = forks.start(
                "authsvc",
                "migrate",
                cwd=directory,
                env=environment(database_url=empty_database_url),
                stdout=out,
                stderr=err,
            )
        await eventually(lambda: "waits for a lock that process" in stdout.read_text())
        assert "(application report, in a transaction for " in stdout.read_text()
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 30) == 130
        assert stderr.read_text() == (
            "Interrupted. Run `authsvc migrate` again: it continues with what was not applied.\n"
        )
    await connection.close()
    assert (await command(directory, empty_database_url)).stdout.splitlines()[0] == f"applied {LATEST}"


async def test_a_lock_that_is_not_released(directory: Path, empty_database_url: str) -> None:
    """Status 1 after --lock-wait, with who holds it."""
    connection = await asyncpg.connect(empty_database_url, server_settings={"application_name": "report"})
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x617574687376)
        done = await command(directory, empty_database_url, "--lock-wait", "0")
    await connection.close()
    assert done.code == 1
    assert "creating the schema: not done, since process" in done.stderr
    assert "(application report, in a transaction for" in done.stderr
