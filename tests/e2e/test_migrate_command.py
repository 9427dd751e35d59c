"""`authsvc migrate`: what it does, what it says that it would do, and how it is interrupted."""

import asyncio
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

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
    assert done.stdout.startswith(
        "-- For reading only. Do not execute this by hand: `authsvc migrate` applies"
    )
    assert f"\n\n-- migration {LATEST}\n\nBEGIN;\n{LATEST.sql.strip()}\nCOMMIT;\n" in done.stdout
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
    """They are named, before anything is done, with the status of a wrong command line."""
    for arguments, expected in (
        (("--check", "--dry-run"), "--check and --dry-run: use one of them"),
        (("--lock-wait=-1s",), "--lock-wait: use 0 or more"),
        (("--lock-wait", "soon"), '"soon" is not valid'),
    ):
        done = await command(directory, empty_database_url, *arguments)
        assert (done.code, done.stdout, expected in done.stderr) == (2, "", True)
    assert (await command(directory, empty_database_url, "--check")).code == 3


async def test_the_serving_role(
    directory: Path, empty_database_url: str, plain_role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that the driver would take; without one, or with another database, nothing is done."""
    place = urlsplit(empty_database_url)
    monkeypatch.delenv("PGUSER", raising=False)
    unnamed = f"postgresql://{place.hostname}:{place.port}{place.path}"
    owner = {"migration_database_url": empty_database_url}
    for arguments in ((), ("--check",), ("--dry-run",)):
        told = refusal(await command(directory, unnamed, *arguments, **owner))
        assert told.startswith("AUTHSVC_DATABASE_URL: name the role that serves, which gets the privileges, ")
        other = f"postgresql://{plain_role}:secret@{place.hostname}:{place.port}/other"
        told = refusal(await command(directory, other, *arguments, **owner))
        assert f'they are for "other" and "{place.path[1:]}"' in told
        assert "secret" not in told
    told = refusal(await command(directory, f"{unnamed}?secret", **owner))
    assert (
        told
        == "AUTHSVC_DATABASE_URL: the driver cannot read the URL of the database; check its hosts and options"
    )
    assert (await command(directory, empty_database_url, "--check")).code == 3
    granted = f"granted the use of the tables to {plain_role}"
    done = await command(directory, f"{unnamed}?user={plain_role}", **owner)
    assert (done.code, granted in done.stdout.splitlines()) == (0, True)
    monkeypatch.setenv("PGUSER", plain_role)
    done = await command(directory, unnamed, **owner)
    assert (done.code, granted in done.stdout.splitlines()) == (0, True)


async def test_a_retention_that_would_change(directory: Path, empty_database_url: str) -> None:
    """It is told, with the statement, and has no influence on the status of --check."""
    fresh = await command(directory, empty_database_url, "--dry-run")
    assert "VALUES (interval '400 days" in fresh.stdout
    assert "instead of" not in fresh.stderr
    await command(directory, empty_database_url)
    done = await command(directory, empty_database_url, "--dry-run")
    assert done == Ended(0, "", "No migration is missing.\n")

    change = "`authsvc migrate` would keep audit events for 90 days instead of for 400 days"
    change += "; older ones may then be dropped"
    done = await command(directory, empty_database_url, "--dry-run", audit_retention="90d")
    assert (done.code, done.stderr) == (0, f"No migration is missing. {change}.\n")
    assert f"-- {change}\n\nBEGIN;\n    INSERT INTO authsvc.audit_retention" in done.stdout
    checked = await command(directory, empty_database_url, "--check", audit_retention="90d")
    assert checked == Ended(0, f"{change}\nno migration is missing\n", "")

    connection = await asyncpg.connect(empty_database_url)
    kept = "SELECT retention FROM authsvc.audit_retention"
    assert await connection.fetchval(kept) == timedelta(days=400)
    # It is the statement that would be executed.
    await connection.execute(done.stdout)
    assert await connection.fetchval(kept) == timedelta(days=90)
    await connection.close()
    done = await command(directory, empty_database_url, "--check", audit_retention="0")
    change = "`authsvc migrate` would keep audit events forever instead of for 90 days"
    assert done == Ended(0, f"{change}\nno migration is missing\n", "")


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
                "authsvc.cli",
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
