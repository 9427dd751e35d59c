"""Audit events as rows: what the schema hashes, the permissions of the serving role, months, locks."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsvc.audit.check import AuditCheck
from authsvc.model.audit_chain import Fault, hash_of
from authsvc.model.audit_event import Action, AuditEvent, AuditQuery, ChainedEvent
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.errors import Unavailable
from authsvc.store import audit as audit_store
from authsvc.store.migrate import migrate
from authsvc.store.pool import Database

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ASCII = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def event(owner_id: str = "acme", at: datetime = NOW, target_id: str = "key_1") -> AuditEvent:
    return AuditEvent.of(BOOTSTRAP, Action.KEY_CREATED, at=at, target_id=target_id, owner_id=owner_id)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as opened:
        yield opened


async def record(database: Database, *events: AuditEvent) -> None:
    async with database.transaction() as connection:
        await audit_store.record(connection, events)


async def chain(database: Database, owner_id: str = "acme") -> list[ChainedEvent]:
    """Return all events of an owner, oldest first."""
    async with database.listing("", in_transaction=True) as connection:
        events, _ = await audit_store.page(connection, AuditQuery(owner_id), size=10_000, after=None)
        return list(events)[::-1]


async def faults(database: Database) -> list[Fault]:
    found: list[Fault] = []
    await AuditCheck(database, on_fault=found.append).run()
    return found


async def partitions(database: Database) -> dict[str, int]:
    """Return the number of events in each partition."""
    async with database.connection() as connection:
        names = await connection.fetch(
            "SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE inhparent = 'authsvc.audit_events'::regclass"
        )
        counts = [await connection.fetchval(f"SELECT count(*) FROM authsvc.{name}") for [name] in names]  # noqa: S608
    return {name.removeprefix("audit_events_"): n for [name], n in zip(names, counts, strict=True)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    event_id=ASCII,
    action=ASCII,
    texts=st.tuples(*[TEXT] * 6),
    details=st.dictionaries(TEXT, TEXT, max_size=4),
    at=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
)
async def test_schema_and_program_hash_alike(
    database_url: str,
    event_id: str,
    action: str,
    texts: tuple[str, ...],
    details: dict[str, str],
    at: datetime,
) -> None:
    """For any text, two independent implementations compute the same hash."""
    names = (
        "actor_id",
        "actor_owner_id",
        "actor_type",
        "target_id",
        "client_ip",
        "request_id",
    )
    fields = dict(zip(names, texts, strict=True))
    given_event = replace(event(at=at), event_id=event_id, action=action, details=details, **fields)  # type: ignore[arg-type]
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await audit_store.record(connection, [given_event])  # type: ignore[arg-type]
        [row] = await connection.fetch("SELECT * FROM authsvc.audit_events")
        chained = audit_store.from_row(row)
    finally:
        await transaction.rollback()
        await connection.close()
    assert chained.event == given_event
    assert chained.link.hash == hash_of(chained)


async def test_several_events_in_one_round_trip(database: Database) -> None:
    """Each is added at the end of its owner's chain, in the given order; no events need no round trip."""
    owners = ["b", "a", "b", "c", "a", "b"]
    await record(database, *(event(owner, target_id=str(n)) for n, owner in enumerate(owners)))
    await record(database)
    for owner in "abc":
        events = await chain(database, owner)
        assert [e.event.target_id for e in events] == [str(n) for n, o in enumerate(owners) if o == owner]
        assert [e.link.position for e in events] == list(range(1, len(events) + 1))
    assert await faults(database) == []


async def test_an_event_ends_with_its_transaction(database: Database) -> None:
    """A change that is rolled back leaves no event and no gap."""
    await record(database, event())

    async def fail() -> None:
        async with database.transaction() as connection:
            await audit_store.record(connection, [event(), event("other")])
            raise ValueError

    with pytest.raises(ValueError):
        await fail()
    await record(database, event())
    assert [e.link.position for e in await chain(database)] == [1, 2]
    assert await chain(database, "other") == []
    assert await faults(database) == []


async def test_time_never_goes_back_in_a_chain(database: Database) -> None:
    """With a clock that is behind, an event has the time of the one before, so a month begins a chain."""
    times = [NOW, NOW - timedelta(days=60), NOW + timedelta(seconds=1), NOW]
    for at in times:
        await record(database, event(at=at))
    assert [e.event.event_time - NOW for e in await chain(database)] == [
        timedelta(seconds=s) for s in (0, 0, 1, 1)
    ]
    assert await faults(database) == []


async def test_many_at_once_over_several_owners(database: Database) -> None:
    """Changes that affect the same owners in any order never deadlock, and no chain has a gap or a fork."""
    choose = random.Random(5)  # noqa: S311 - any order will do
    owners = [f"owner{n}" for n in range(6)]

    async def change() -> int:
        touched = choose.choices(owners, k=choose.randint(1, 8))
        async with database.transaction() as connection:
            await audit_store.record(connection, [event(owner) for owner in touched])
        return len(touched)

    made = sum(await asyncio.gather(*(change() for _ in range(300))))
    assert sum([len(await chain(database, owner)) for owner in owners]) == made
    assert await faults(database) == []


# -- The serving role ---------------------------------------------------------------------------


@pytest_asyncio.fixture
async def serving_url(plain_role: str, empty_database_url: str) -> str:
    """A database with two roles, whose default privileges give the serving role everything."""
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {plain_role}, PUBLIC")
        await connection.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC")
    finally:
        await connection.close()
    await migrate(empty_database_url, serving_role=plain_role)
    place = urlsplit(empty_database_url)
    return f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"


async def test_the_role_that_serves_records_and_reads(serving_url: str) -> None:
    """Everything that the service needs works with it: record, list, verify, months."""
    async with Database.open(serving_url) as database:
        await record(database, event(), event("b"))
        assert len(await chain(database)) == 1
        assert await faults(database) == []
        async with database.transaction() as connection:
            assert await audit_store.make_month(connection, date.today() + timedelta(days=200))
            assert await audit_store.drop_before(connection, date(2020, 1, 1)) == 0
        assert await faults(database) == []


async def test_nobody_tells_by_a_table_of_their_own(serving_url: str) -> None:
    """What writes notifications runs with the rights of the schema's owner, so nobody else attaches it."""
    connection = await asyncpg.connect(serving_url)
    try:
        await connection.execute("CREATE TEMPORARY TABLE mine (event_id text, action text)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="notify_of_events"):
            await connection.execute(
                "CREATE TRIGGER mine AFTER INSERT ON mine REFERENCING NEW TABLE AS recorded"
                " FOR EACH STATEMENT EXECUTE FUNCTION authsvc.notify_of_events()"
            )
    finally:
        await connection.close()


@pytest.mark.parametrize("migrated", ["once", "twice"])
async def test_the_role_that_serves_cannot_change_what_is_recorded(
    serving_url: str, empty_database_url: str, plain_role: str, migrated: str
) -> None:
    """No update, delete, truncate, insert, lock or DDL on events, heads, drops and any partition."""
    if migrated == "twice":
        await migrate(empty_database_url, serving_role=plain_role)
    async with Database.open(serving_url) as database:
        await record(database, event(at=datetime.now(UTC)))
        async with database.transaction() as lent:
            await audit_store.make_month(lent, date.today() + timedelta(days=200))
        months = await partitions_of(empty_database_url)
    assert len(months) == 7
    connection = await asyncpg.connect(serving_url)
    try:
        for table in ("audit_events", *months, "audit_heads", "audit_drops"):
            for statement in (
                f"UPDATE authsvc.{table} SET hash = ''",  # noqa: S608
                f"DELETE FROM authsvc.{table}",  # noqa: S608
                f"TRUNCATE authsvc.{table}",
                f"INSERT INTO authsvc.{table} SELECT * FROM authsvc.{table} LIMIT 0",  # noqa: S608
                f"INSERT INTO authsvc.{table} (owner_id) VALUES ('x')",  # noqa: S608
                f"DO $$ BEGIN LOCK TABLE authsvc.{table} IN ACCESS EXCLUSIVE MODE; END $$",
                f"DROP TABLE authsvc.{table}",
                f"ALTER TABLE authsvc.{table} ADD COLUMN mine integer",
                f"CREATE RULE mine AS ON INSERT TO authsvc.{table} DO INSTEAD NOTHING",
                f"ALTER TABLE authsvc.{table} DISABLE TRIGGER ALL",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        for statement in (
            "SELECT authsvc.grant_audit(current_user)",
            "SELECT authsvc.close_table('authsvc.audit_heads')",
            "CREATE OR REPLACE FUNCTION authsvc.record_audit(jsonb) RETURNS void LANGUAGE sql AS ''",
            "ALTER FUNCTION authsvc.record_audit(jsonb) SECURITY INVOKER",
            "ALTER TABLE authsvc.audit_events DETACH PARTITION authsvc.audit_events_default",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def partitions_of(url: str) -> list[str]:
    async with Database.open(url) as database:
        return [f"audit_events_{name}" for name in await partitions(database)]


async def test_what_a_session_sets_does_not_reach_the_functions(serving_url: str, plain_role: str) -> None:
    """A search path with decoys, a time zone and a text format do not change what is recorded."""
    connection = await asyncpg.connect(serving_url)
    try:
        await connection.execute(
            "CREATE TEMP TABLE audit_heads (owner_id text);"
            "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$;"
            "SET search_path = pg_temp, authsvc, pg_catalog;"
            "SET timezone = 'Pacific/Kiritimati'; SET bytea_output = 'escape'; SET datestyle = 'German';"
            "SET intervalstyle = 'sql_standard'; SET extra_float_digits = 0;"
            "SET standard_conforming_strings = off"
        )
        await audit_store.record(connection, [event(), event()])  # type: ignore[arg-type]
        assert await audit_store.make_month(connection, date.today() + timedelta(days=200))  # type: ignore[arg-type]
    finally:
        await connection.close()
    async with Database.open(serving_url) as database:
        assert len(await chain(database)) == 2
        assert await faults(database) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"owner_id": None},
        {"event_time": None},
        {"action": None},
        {"details": None},
        {"details": [1]},
        {"details": "x"},
        {"event_time": "now or never"},
    ],
)
async def test_the_function_takes_whole_events_only(database_url: str, broken: dict[str, object]) -> None:
    """An invalid event is refused, and nothing is recorded, not even the events before it."""
    good = json.loads(json.dumps(dict.fromkeys(AuditEvent.__dataclass_fields__, "x")))
    good |= {"event_time": NOW.isoformat(), "details": {}}
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("SELECT authsvc.record_audit($1)", json.dumps([good, good | broken]))
        assert await connection.fetchval("SELECT count(*) FROM authsvc.audit_heads") == 0
    finally:
        await connection.close()


# -- Months -------------------------------------------------------------------------------------


async def test_a_month_without_a_partition_is_no_obstacle(database: Database) -> None:
    """Its events go to the default partition, and move when theirs is created; the chain is always intact."""
    old = datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)
    await record(
        database,
        event(at=old),
        event(at=old + timedelta(microseconds=1)),
        event(at=old.replace(year=2025, day=3)),
    )
    assert (await partitions(database))["default"] == 3
    async with database.transaction() as connection:
        assert await audit_store.make_month(connection, date(2024, 2, 11))
        assert not await audit_store.make_month(connection, date(2024, 2, 1))
    found = await partitions(database)
    assert (found["202402"], found["default"]) == (1, 2)
    assert await faults(database) == []


async def test_old_months_are_dropped_in_whole(database: Database) -> None:
    """With or without a partition; chains continue from the recorded link; the platform's has the drop."""
    for month in (1, 2, 3, 4):
        await record(
            database, *(event(o, datetime(2024, month, 9, tzinfo=UTC)) for o in ("acme", f"only{month}"))
        )
    async with database.transaction() as connection:
        await audit_store.make_month(connection, date(2024, 2, 1))
        assert await audit_store.drop_before(connection, date(2024, 3, 1)) == 4
    assert "202402" not in await partitions(database)
    assert [e.link.position for e in await chain(database)] == [3, 4]
    assert await faults(database) == []
    await record(database, event("only1"), event())
    assert [e.link.position for e in await chain(database, "only1")] == [2]
    assert await faults(database) == []
    async with database.transaction() as connection:
        assert await audit_store.drop_before(connection, date(2024, 3, 1)) == 0
        assert await audit_store.drop_before(connection, date(2024, 5, 1)) == 4
    assert await faults(database) == []
    noted = await chain(database, "authsvc")
    assert [e.event.action for e in noted] == [Action.EVENTS_DROPPED] * 2
    assert [{k: e.event.details[k] for k in ("before", "count")} for e in noted] == [
        {"before": "2024-03-01", "count": "4"},
        {"before": "2024-05-01", "count": "4"},
    ]


async def test_nothing_young_is_dropped(database: Database) -> None:
    """Not even on request: 90 days by the clock of the database."""
    await record(database, event(at=datetime.now(UTC) - timedelta(days=80)))
    for month in (date.today() - timedelta(days=60), date.today(), date(9999, 1, 1)):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="90 days old"):
            await drop(database, month)
    assert len(await chain(database)) == 1


async def drop(database: Database, month: date) -> int:
    async with database.transaction() as connection:
        return await audit_store.drop_before(connection, month)


async def test_no_months_without_end(database: Database) -> None:
    """The role that may create partitions can create about a hundred at most."""
    for month in (date(2010, 1, 1), date(3000, 1, 1)):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            async with database.transaction() as connection:
                await audit_store.make_month(connection, month)


async def test_a_month_waits_for_nobody_for_long(database: Database) -> None:
    """Creating a partition gives up behind a long reader, instead of blocking all later changes."""
    async with database.transaction() as reader:
        await reader.execute("SELECT count(*) FROM authsvc.audit_events_default")
        with pytest.raises(Unavailable):
            async with database.transaction() as connection:
                await audit_store.make_month(connection, date.today() + timedelta(days=200))
        await record(database, event())
    assert await faults(database) == []


async def test_who_was_granted_to_read_goes_on_reading(
    serving_url: str, empty_database_url: str, plain_role: str
) -> None:
    """A migration for another serving role takes from the first only privileges that it must not have."""
    other = f"{plain_role}_other"
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(f"CREATE ROLE {other} LOGIN PASSWORD '{other}'")
        await connection.execute(f"GRANT ALL ON authsvc.audit_heads TO {plain_role} WITH GRANT OPTION")
    finally:
        await connection.close()
    await migrate(empty_database_url, serving_role=other)
    for role in (plain_role, other):
        async with Database.open(
            serving_url.replace(plain_role, role, 1).replace(f":{plain_role}@", f":{role}@")
        ) as database:
            await record(database, event())
            assert await faults(database) == []
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.connection() as lent:
                    await lent.execute("DELETE FROM authsvc.audit_heads")
