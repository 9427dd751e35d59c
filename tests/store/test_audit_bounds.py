"""What the serving role may record, drop and add: the schema of a real deployment, with two roles."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from authsvc.audit.check import AuditCheck
from authsvc.model.audit_chain import Fault
from authsvc.model.audit_event import AuditEvent
from authsvc.store import audit as audit_store
from authsvc.store import tag_keys
from authsvc.store.migrate import MigrationError, known_migrations, migrate
from authsvc.store.pool import Database
from authsvc.store.retention import Retention
from tests.store.test_audit import chain, event, faults, record


@pytest_asyncio.fixture
async def owner(empty_database_url: str, plain_role: str) -> AsyncIterator[Any]:
    """The owner of a schema that another role serves from."""
    await migrate(empty_database_url, serving_role=plain_role)
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def serving(owner: Any, empty_database_url: str, plain_role: str) -> AsyncIterator[Any]:
    """The serving role."""
    place = urlsplit(empty_database_url)
    connection = await asyncpg.connect(
        f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"
    )
    yield connection
    await connection.close()


def json_of(**fields: object) -> str:
    """Return a current event as `record_audit` takes it, with these fields replaced."""
    [made] = json.loads(audit_store.events_json([event(at=datetime.now(UTC))]))
    assert not set(fields) - set(AuditEvent.__dataclass_fields__)
    return json.dumps([made | fields])


async def recorded(connection: Any, **fields: object) -> None:
    await connection.execute("SELECT authsvc.record_audit($1)", json_of(**fields))


@pytest.mark.parametrize(
    "time",
    ["200000-01-01T00:00:00Z", "infinity", "-infinity", "0044-03-15 BC", "2020-01-01T00:00:00Z", "ahead"],
)
async def test_a_time_that_cannot_be_is_replaced(serving: Any, empty_database_url: str, time: str) -> None:
    """The database's time is used then: a chain cannot get a future time, or one that is dropped soon."""
    if time == "ahead":
        time = (datetime.now(UTC) + timedelta(minutes=61)).isoformat()
    before = await serving.fetchval("SELECT clock_timestamp()")
    await recorded(serving, event_time=time)
    await recorded(serving)
    async with Database.open(empty_database_url) as database:
        assert await faults(database) == []
        for chained in await chain(database):
            assert before <= chained.event.event_time <= await serving.fetchval("SELECT clock_timestamp()")


@pytest.mark.parametrize("ago", [timedelta(hours=-1, seconds=30), timedelta(hours=23)])
async def test_a_time_that_can_be_is_kept(serving: Any, empty_database_url: str, ago: timedelta) -> None:
    """Clocks differ, and refused attempts are written only after an outage."""
    time = datetime.now(UTC) - ago
    await recorded(serving, event_time=time.isoformat())
    async with Database.open(empty_database_url) as database:
        [chained] = await chain(database)
        assert chained.event.event_time == time
        assert await faults(database) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"owner_id": "a\nb 1 00"},
        {"owner_id": "\u202eemca"},
        {"owner_id": "a b"},
        {"owner_id": ""},
        {"owner_id": "a" * 129},
        {"event_id": "evt\x1b[2J"},
        {"event_id": "evt 1"},
        {"action": "KEY\nCREATED"},
        {"action": "EVENTS_DROPPED"},
        {"action": "EVENTS_DROPPED", "owner_id": "authsvc"},
        {"details": {"count": 1}},
        {"details": {"count": None}},
        {"details": {"more": {"count": "1"}}},
        {"details": {"a": "b", "more": ["count"]}},
        {"details": {"text": "x" * 33_000}},
        {"actor_id": "x" * 33_000},
        {"target_id": "x" * 33_000},
        {"client_ip": "x" * 33_000},
        {"request_id": "x" * 33_000},
        {"actor_type": None},
        {"client_ip": None},
        {"event_time": None},
    ],
)  # fmt: skip
async def test_an_event_that_is_none_is_refused(serving: Any, fields: dict[str, object]) -> None:
    """An attacker that takes over the service can record no unreadable event, and no drop of months."""
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await recorded(serving, **fields)
    assert await serving.fetchval("SELECT count(*) FROM authsvc.audit_heads") == 0


async def test_the_functions_behind_are_not_for_the_role_that_serves(serving: Any) -> None:
    """They have no bounds, or record what only the schema may."""
    for call in ("append_audit('[]', true)", "record_drop('2020-01-01', 1)", "audit_time(now())"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await serving.execute(f"SELECT authsvc.{call}")


# -- Retention ----------------------------------------------------------------------------------


def days(number: int, *, asked: bool = False) -> Retention:
    return Retention(timedelta(days=number), was_asked_for=asked)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ([], None),
        ([days(400)], 400),
        ([days(400), days(700)], 700),
        ([days(700), days(400)], 700),
        ([days(700, asked=True), days(400)], 700),
        ([days(700), days(400, asked=True)], 400),
        ([days(700), days(0)], 0),
        ([days(0, asked=True), days(400)], 0),
        ([days(0), days(90, asked=True)], 90),
    ],
)
async def test_the_owner_sets_the_retention(
    empty_database_url: str, settings: list[Retention], kept: int | None
) -> None:
    """By migrating; a default lengthens it, and only an explicit value shortens it."""
    told: list[str] = []
    await migrate(empty_database_url)
    for setting in settings:
        await migrate(empty_database_url, retention=setting, tell=told.append)
    async with Database.open(empty_database_url) as database, database.connection() as connection:
        found = await audit_store.retention(connection)
        assert found == (None if kept is None else timedelta(days=kept))
    if kept is not None:
        assert told[-1] == f"audit events are kept {f'for {kept} days' if kept else 'forever'}"


@pytest.mark.parametrize("kept", [0, 400])
async def test_nothing_is_dropped_before_its_retention(
    owner: Any, serving: Any, empty_database_url: str, kept: int
) -> None:
    """Not by the serving role, and not sooner for the retention that it requests; it can set no other."""
    await migrate(empty_database_url, retention=days(kept))
    young = date.today() - timedelta(days=380)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="are kept") as refused:
        await serving.execute("SELECT authsvc.drop_audit_before($1)", young)
    assert "`authsvc migrate` as the owner" in str(refused.value.hint)
    for statement in (
        "UPDATE authsvc.audit_retention SET retention = '90 days'",
        "DELETE FROM authsvc.audit_retention",
        "INSERT INTO authsvc.audit_retention VALUES ('90 days')",
        "TRUNCATE authsvc.audit_retention",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await serving.execute(statement)
    old = date.today() - timedelta(days=435)
    if kept:
        assert await serving.fetchval("SELECT authsvc.drop_audit_before($1)", old) == 0
    else:
        with pytest.raises(asyncpg.InvalidParameterValueError, match="is for good"):
            await serving.execute("SELECT authsvc.drop_audit_before($1)", old)


# -- Tag keys -----------------------------------------------------------------------------------


async def test_the_role_that_serves_adds_no_tag_key(owner: Any, serving: Any) -> None:
    """The migration created the first one. A worker of the previous release cannot insert it at its start."""
    [before] = await owner.fetch("SELECT * FROM authsvc.tag_keys")
    assert (before["tag_key_id"], len(before["tag_key"])) == (1, 32)
    assert before["mint_time"] is not None
    insert = "INSERT INTO authsvc.tag_keys (tag_key_id, tag_key) VALUES ($1, $2) ON CONFLICT DO NOTHING"
    await serving.execute(insert, 1, bytes(32))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="by the owner of the schema"):
        await serving.execute(insert, 2, bytes(32))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await serving.execute("INSERT INTO authsvc.tag_keys VALUES (1, $1, now(), now())", bytes(32))
    assert not await serving.fetchval("SELECT has_table_privilege('authsvc.tag_keys', 'INSERT')")
    assert await owner.fetch("SELECT * FROM authsvc.tag_keys") == [before]
    await owner.execute(insert, 2, bytes(32))


async def test_each_database_has_a_tag_key_of_its_own(owner: Any, empty_database_url: str) -> None:
    """An existing one is kept; without any no worker serves, and the reason is reported."""
    first = await owner.fetchval("SELECT tag_key FROM authsvc.tag_keys")
    await migrate(empty_database_url)
    assert await owner.fetchval("SELECT tag_key FROM authsvc.tag_keys") == first
    await owner.execute("DELETE FROM authsvc.tag_keys")
    async with Database.open(empty_database_url) as database:
        with pytest.raises(MigrationError, match="restore the table from a backup"):
            await tag_keys.accepted(database)


# -- The previous schema ------------------------------------------------------------------------


async def test_what_was_dropped_before_is_vouched_for(empty_database_url: str) -> None:
    """A log from which months were already dropped is intact; a forged row is detected from then on."""
    before = [migration for migration in known_migrations() if migration.number < 7]
    await migrate(empty_database_url, migrations=before)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("INSERT INTO authsvc.tag_keys (tag_key_id, tag_key) VALUES (1, $1)", bytes(32))
    await connection.close()
    async with Database.open(empty_database_url) as database:
        old = datetime(2024, 1, 5, tzinfo=UTC)
        await record(database, event(at=old), event(at=old), event("bob", old), event(at=datetime.now(UTC)))
        async with database.transaction() as lent:
            assert await lent.fetchval("SELECT authsvc.drop_audit_before('2024-02-01')") == 3
    await migrate(empty_database_url)
    async with Database.open(empty_database_url) as database:
        assert await faults(database) == []
        noted = [dict(chained.event.details) for chained in await chain(database, "authsvc")]
        assert [(details["before"], details["count"]) for details in noted] == [
            ("2024-02-01", "3"),
            ("2024-02-01", "0"),
        ]
        assert (await tag_keys.accepted(database)).secrets == (bytes(32),)
        async with database.transaction() as lent:
            await lent.execute("UPDATE authsvc.audit_drops SET position = 7 WHERE owner_id = 'bob'")
        found: list[Fault] = []
        await AuditCheck(database, on_fault=found.append).run()
        assert "does not match authsvc.audit_drops" in found[0].problem


async def test_a_new_database_records_no_drop(owner: Any) -> None:
    """There was no drop."""
    assert await owner.fetchval("SELECT count(*) FROM authsvc.audit_events") == 0
