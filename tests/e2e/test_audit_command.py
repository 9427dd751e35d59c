"""`authsvc audit`: lists audit events, and verifies that they are complete and unaltered."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio

from authsvc.process.devpg import DevPostgres
from tests.e2e.process import Server, authsvc, running


@pytest_asyncio.fixture
async def served(directory: Path) -> AsyncIterator[tuple[Server, str]]:
    """A service on a database that the command line can also reach, and the URL of the database."""
    (directory / "data").mkdir()
    async with DevPostgres(directory / "postgres") as postgres:
        with running("dev", directory, database_url=postgres.url) as server:
            yield server, postgres.url


def test_what_was_done_is_listed(dev: Server) -> None:  # rule 28
    """Newest first, by filter, as a table and as JSON."""
    made = dev.run("keys", "create", "listed", "Orders", "--scope", "orders:read")
    assert made.code == 0, made.stderr
    [key] = (json.loads(line) for line in dev.run("keys", "list", "listed", "--json").stdout.splitlines())
    dev.run("keys", "revoke", key["key_id"], "--reason", "leaked in a log")
    table = dev.run("audit", "list", "listed").stdout.splitlines()
    assert table[0].split() == ["time", "action", "target", "by", "from", "details"]
    assert table[1].split()[2:5] == ["UTC", "KEY_REVOKED", key["key_id"]]
    assert 'reason="leaked in a log" revoke_time=2' in table[1]
    assert "KEY_CREATED" in table[2]
    for arguments, actions in (
        ((), ["KEY_REVOKED", "KEY_CREATED"]),
        (("--action", "key-created", "--action", "key-updated"), ["KEY_CREATED"]),
        (("--target", key["key_id"], "--limit", "1"), ["KEY_REVOKED"]),
        (("--actor", "nobody"), []),
        (("--after", "2100-01-01"), []),
        (("--before", "2100-01-01"), ["KEY_REVOKED", "KEY_CREATED"]),
        (("--after-position", "1"), ["KEY_REVOKED"]),
    ):
        done = dev.run("audit", "list", "listed", "--json", *arguments)
        assert done.code == 0, done.stderr
        listed = [
            json.loads(line)["action"].removeprefix("AUDIT_ACTION_") for line in done.stdout.splitlines()
        ]
        assert listed == actions, arguments


def test_what_is_wrong_is_said_in_one_line(dev: Server, tmp_path: Path) -> None:
    """An unknown owner, no database, no anchor file."""
    done = dev.run("audit", "list", "no such owner")
    assert (done.code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    done = authsvc("audit", "verify", cwd=tmp_path)
    assert (done.code, done.stdout) == (1, "")
    assert "AUTHSVC_DATABASE_URL" in done.stderr


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_tampering_is_told(served: tuple[Server, str], directory: Path) -> None:  # rule 28
    """An intact log exits with 0, a tampered one with 1 and the event; an anchor detects missing events."""
    server, url = served

    async def verify(*arguments: str) -> tuple[int, list[str]]:
        done = await asyncio.to_thread(
            authsvc, "audit", "verify", *arguments, cwd=directory, database_url=url
        )
        assert "Traceback" not in done.stderr
        return done.code, done.stdout.splitlines() or done.stderr.splitlines()

    for name in ("one", "two", "three"):
        done = await asyncio.to_thread(server.run, "keys", "create", "acme", name)
        assert done.code == 0, done.stderr
    whole = (0, ["4 events in 2 chains verified: no faults"])
    assert await verify("--write-anchor", "anchor") == whole
    assert await verify("--anchor", "anchor") == whole
    first, *lines = (directory / "anchor").read_text().splitlines()
    assert first.startswith("authsvc anchors 2 20")
    assert [line.split()[:2] for line in lines] == [
        ["acme", "3"],
        ["authsvc", "1"],
    ]
    assert await verify("--owner", "acme") == (0, ["3 events in 1 chain verified: no faults"])
    await execute(
        url, "UPDATE authsvc.audit_events SET actor_id = 'eve' WHERE owner_id = 'acme' AND position = 2"
    )
    code, lines = await verify()
    assert code == 1
    assert lines[0].startswith("acme 2 evt_")
    assert lines[0].endswith(": was altered: its hash does not match")
    assert lines[1:] == ["4 events in 2 chains verified: 1 fault"]
    assert (await verify("--owner", "authsvc"))[0] == 0
    assert await verify("--owner", "typo") == (1, ["authsvc: typo has no audit events; check the owner id"])
    # A log with faults gets no anchor, and does not replace a good one; a path must be writable.
    before = (directory / "anchor").read_text()
    assert (await verify("--write-anchor", "anchor"))[0] == 1
    assert (directory / "anchor").read_text() == before
    assert not (directory / "anchor.new").exists()
    code, [line] = await verify("--write-anchor", "nowhere/anchor")
    assert (code, line) == (
        1,
        "authsvc: cannot write the anchor file nowhere/anchor: No such file or directory",
    )
    for table in ("events", "heads"):
        await execute(url, f"DELETE FROM authsvc.audit_{table} WHERE owner_id = 'acme'")  # noqa: S608
    assert (await verify())[0] == 0
    code, lines = await verify("--anchor", "anchor")
    assert (code, lines[0]) == (1, "acme 3: the chain is missing, but the anchor lists it")
    # An invalid anchor gives no assurance: a missing one, an empty one, one out of order.
    for text in (None, "rubbish\n", f"b 1 {'00' * 32}\na 1 {'00' * 32}\n"):
        if text is not None:
            (directory / "bad").write_text(text)
        done = await asyncio.to_thread(
            authsvc, "audit", "verify", "--anchor", "bad", cwd=directory, database_url=url
        )
        assert done.code == 1
        assert "authsvc: " in done.stderr
        assert "Traceback" not in done.stderr


async def test_what_was_erased_is_told(served: tuple[Server, str], directory: Path) -> None:
    """Events recorded as dropped long ago are detected with an anchor. Owners are shown escaped."""
    server, url = served

    async def verify(*arguments: str) -> tuple[int, list[str]]:
        done = await asyncio.to_thread(
            authsvc, "audit", "verify", *arguments, cwd=directory, database_url=url
        )
        assert "Traceback" not in done.stderr
        return done.code, done.stdout.splitlines() or done.stderr.splitlines()

    for name in ("one", "two", "three"):
        await asyncio.to_thread(server.run, "keys", "create", "acme", name)
    assert (await verify("--write-anchor", "anchor"))[0] == 0
    # As earlier versions wrote them.
    lines = (directory / "anchor").read_text().splitlines()[1:]
    (directory / "old").write_text("".join(" ".join(line.split()[:3]) + "\n" for line in lines))
    assert await verify("--anchor", "old") == (0, ["4 events in 2 chains verified: no faults"])
    await execute(
        url,
        "INSERT INTO authsvc.audit_drops SELECT owner_id, position, hash, now() FROM authsvc.audit_events "
        "WHERE owner_id = 'acme' AND position = 2;"
        "DELETE FROM authsvc.audit_events WHERE owner_id = 'acme' AND position <= 2",
    )
    code, lines = await verify()
    assert (code, lines) == (
        1,
        [
            "authsvc 0: events were dropped: no event records it",
            "acme 2: events up to 2 were dropped: no event says before which month",
            "2 events in 2 chains verified: 2 faults",
        ],
    )
    await execute(url, "SELECT authsvc.record_drop('2024-01-01', 2)")
    assert (await verify())[0] == 0
    code, lines = await verify("--anchor", "anchor")
    assert (code, lines[0]) == (
        1,
        "acme 2: events up to 2 were dropped: according to the anchor, the events before 2024-01-01 end at 0",
    )
    # The owner of the tables can put any text into an owner's name.
    await execute(
        url, "UPDATE authsvc.audit_events SET owner_id = E'\\n\\u202e\\x1b[2J' WHERE owner_id = 'acme'"
    )
    code, lines = await verify()
    assert (code, lines[0]) == (1, r"\n\u202e\x1b[2J 1: events beyond the head of the chain")
    assert len(lines) == 3
