"""Verification of the audit log finds what was changed without the service."""

# ruff: noqa: S608 - all statements are built of constants

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from authsvc.audit import check as audit_check
from authsvc.audit.check import AuditCheck
from authsvc.model.audit_anchor import Anchor
from authsvc.model.audit_chain import BEGINNING, Chain, Fault
from authsvc.store import audit as audit_store
from authsvc.store.pool import Database
from tests.store.test_audit import NOW, chain, event, record

OWNERS = ("acme", "alice", "bob")
LENGTH = 6


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with three chains of six events."""
    async with Database.open(database_url) as opened:
        for _ in range(LENGTH):
            await record(opened, *map(event, OWNERS))
        yield opened


async def check(database: Database, owner_id: str = "", *anchors: Anchor) -> tuple[list[str], list[Anchor]]:
    """Return the faults with their positions, and the ends of the chains."""
    found: list[str] = []
    ends: list[Anchor] = []

    def keep(chain: Chain) -> None:
        dropped = chain.dropped.position
        ends.append(Anchor(chain.owner_id, chain.head, NOW, dropped, chain.months))

    checked = AuditCheck(
        database,
        anchors=anchors,
        on_fault=lambda f: found.append(f"{f.owner_id} {f.position}: {f.problem.split(':')[0]}"),
        on_chain=keep,
    )
    await checked.run(owner_id)
    assert checked.faults == len(found)
    return found, ends


async def execute(database: Database, *statements: str) -> None:
    """Execute a statement as the owner of the tables, which the service never does."""
    async with database.transaction() as connection:
        for statement in statements:
            await connection.execute(statement)


ALICE = "owner_id = 'alice' AND position"
EVENTS = "authsvc.audit_events"
HEADS = "authsvc.audit_heads"


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ([f"UPDATE {EVENTS} SET actor_id = 'eve' WHERE {ALICE} = 3"], ["alice 3: was altered"]),
        (
            [f"UPDATE {EVENTS} SET details = '{{\"reason\": \"none\"}}' WHERE {ALICE} = 6"],
            ["alice 6: was altered"],
        ),
        ([f"DELETE FROM {EVENTS} WHERE {ALICE} = 1"], ["alice 1: event 1 is missing"]),
        ([f"DELETE FROM {EVENTS} WHERE {ALICE} IN (3, 4)"], ["alice 3: events 3 to 4 are missing"]),
        ([f"DELETE FROM {EVENTS} WHERE {ALICE} = 6"], ["alice 6: event 6 is missing"]),
        ([f"DELETE FROM {EVENTS} WHERE {ALICE} > 0"], ["alice 1: events 1 to 6 are missing"]),
        (
            [f"DELETE FROM {EVENTS} WHERE {ALICE} = 6", f"DELETE FROM {HEADS} WHERE owner_id = 'alice'"],
            ["alice 1: events beyond the head of the chain"],
        ),
        (
            [f"UPDATE {HEADS} SET position = 5 WHERE owner_id = 'alice'"],
            [
                "alice 5: the last event does not match the head of the chain",
                "alice 6: events beyond the head of the chain",
            ],
        ),
        (
            [
                f"CREATE TEMP TABLE copy ON COMMIT DROP AS SELECT * FROM {EVENTS} WHERE {ALICE} = 3",
                "UPDATE copy SET position = 7, event_id = 'evt_7'",
                f"INSERT INTO {EVENTS} SELECT * FROM copy",
            ],
            ["alice 7: events beyond the head of the chain"],
        ),
        (
            [
                f"CREATE TEMP TABLE copy ON COMMIT DROP AS SELECT * FROM {EVENTS} WHERE {ALICE} = 3",
                "UPDATE copy SET event_time = event_time + interval '1 s'",
                f"INSERT INTO {EVENTS} SELECT * FROM copy",
            ],
            ["alice 3: was altered", "alice 3: was inserted or moved"],
        ),
        (
            [
                f"UPDATE {EVENTS} SET position = {to} WHERE {ALICE} = {at}"
                for at, to in ((4, 9), (5, 4), (9, 5))
            ],
            ["alice 4: was altered", "alice 4: does not follow the event before it, which has another hash",
             "alice 5: was altered", "alice 5: does not follow the event before it, which has another hash",
             "alice 6: does not follow the event before it, which has another hash"],
        ),
        (
            [f"UPDATE {EVENTS} SET owner_id = 'zoe' WHERE {ALICE} = 6"],
            ["alice 6: event 6 is missing", "zoe 1: events beyond the head of the chain"],
        ),
        (
            [f"UPDATE {EVENTS} SET event_time = event_time - interval '10 days' WHERE {ALICE} = 3"],
            ["alice 1: events 1 to 2 are missing", "alice 3: was altered", "alice 1: was inserted or moved",
             "alice 2: was inserted or moved"],
        ),
        (
            ["INSERT INTO authsvc.audit_drops VALUES ('alice', 3, '', now())"],
            ["authsvc 0: events were dropped", "alice 3: events up to 3 were dropped"]
            + [f"alice {n}: was inserted or moved" for n in (1, 2, 3)]
            + ["alice 4: does not follow the event before it, which has another hash"],
        ),
    ],
)  # fmt: skip
async def test_tampering_is_found(database: Database, statements: list[str], found: list[str]) -> None:
    """Events altered, removed, inserted, swapped or moved; the newest removed; heads and drops forged."""
    await execute(database, *statements)
    told, _ = await check(database)
    assert sorted(told) == sorted(found)
    assert (await check(database, "bob"))[0] == []
    only = [line for line in found if line.startswith(("alice", "authsvc"))]
    assert sorted((await check(database, "alice"))[0]) == sorted(only)


DROPS = "authsvc.audit_drops"


def forged_drop(position: int, *, owner_id: str = "alice") -> list[str]:
    """Return statements that erase the first events of an owner and record a drop as the schema does."""
    which = f"owner_id = '{owner_id}' AND position"
    return [
        f"DELETE FROM {DROPS} WHERE owner_id = '{owner_id}'",
        f"INSERT INTO {DROPS} SELECT owner_id, position, hash, now() FROM {EVENTS} "
        f"WHERE {which} = {position}",
        f"DELETE FROM {EVENTS} WHERE {which} <= {position}",
    ]


async def test_erased_and_noted_without_an_event(database: Database) -> None:
    """Erased events that were recorded as a drop: no event records that drop."""
    await execute(database, *forged_drop(3))
    assert (await check(database))[0] == [
        "authsvc 0: events were dropped",
        "alice 3: events up to 3 were dropped",
    ]
    assert (await check(database, "alice"))[0] == (await check(database))[0]
    assert (await check(database, "bob"))[0] == []


async def test_erased_and_noted_beside_an_event(database: Database) -> None:
    """A drop that is forged, altered or removed does not match the events about the other drops."""
    await record(database, event("carol", datetime(2024, 1, 5, tzinfo=UTC)), event("carol"))
    await _drop(database)
    assert (await check(database))[0] == []
    fault = "authsvc 1: does not match authsvc.audit_drops"
    await execute(database, *forged_drop(3))
    assert (await check(database))[0] == [fault]
    assert (await check(database, "alice"))[0] == [fault]
    await execute(database, f"DELETE FROM {DROPS} WHERE owner_id = 'alice'")
    assert (await check(database))[0] == ["alice 1: events 1 to 3 are missing"]
    await execute(database, f"DELETE FROM {DROPS}")
    assert (await check(database))[0] == [
        fault, "alice 1: events 1 to 3 are missing", "carol 1: event 1 is missing",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("2024-01-15", "authsvc 1: does not say before which month events were dropped"),
        ("2024-1-1", "authsvc 1: does not say before which month events were dropped"),
        ("", "authsvc 1: does not say before which month events were dropped"),
        ("young", "authsvc 1: says that events before {young} were dropped, less than 90 days after that"),
    ],
)
async def test_an_event_about_a_drop_that_cannot_have_been(
    database: Database, before: str, found: str
) -> None:
    """A drop that is not at the edge of a month, or of events that are younger than the schema may drop."""
    young = (datetime.now(UTC) - timedelta(days=40)).date().replace(day=1).isoformat()
    before = before.replace("young", young)
    await execute(database, *forged_drop(3), f"SELECT authsvc.record_drop('{before}', 3)")
    assert found.format(young=young) in (await check(database))[0]


@pytest.mark.parametrize("position", [3, LENGTH, LENGTH + 1])
async def test_an_anchor_finds_what_was_erased_as_old(database: Database, position: int) -> None:
    """A row and an event that match, but name an older month: the anchor has the right month."""
    _, ends = await check(database)
    await record(database, *map(event, OWNERS), *map(event, OWNERS))
    forged = [*forged_drop(position), f"SELECT authsvc.record_drop('2024-01-01', {position})"]
    await execute(database, *forged)
    assert (await check(database))[0] == []
    fault = f"alice {position}: events up to {position} were dropped"
    assert (await check(database, "", *ends))[0] == [fault]
    assert (await check(database, "alice", *ends))[0] == [fault]
    # One of an earlier version, which has no months, cannot tell.
    old = [Anchor(end.owner_id, end.link) for end in ends]
    assert (await check(database, "", *old))[0] == []


async def test_anchors_outlive_what_is_dropped_by_the_schema(database: Database) -> None:
    """After drops of one month, of all that the anchor has, and of nothing."""
    for owner_id, months in (("dave", (1, 1, 2)), ("erin", (1,))):
        for month in months:
            await record(database, event(owner_id, datetime(2024, month, 5, tzinfo=UTC)))
    faults, ends = await check(database)
    assert faults == []
    for month in (2, 4):
        async with database.transaction() as connection:
            assert await audit_store.drop_before(connection, date(2024, month, 1))
        await record(database, *map(event, ("alice", "dave", "erin")))
        faults, later = await check(database, "", *ends)
        assert faults == []
        assert (await check(database, "", *later))[0] == []
    assert {end.owner_id: end.dropped for end in later} == dict.fromkeys((*OWNERS, "authsvc"), 0) | {
        "dave": 3,
        "erin": 1,
    }
    # What was dropped does not come back, so a record of less is forged.
    await execute(database, f"DELETE FROM {DROPS} WHERE owner_id = 'erin'")
    assert "erin 0: events up to 0 were dropped" in (await check(database, "", *later))[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("event_time = '200000-01-01 UTC'", "its time is 200000-01-01 00:00:00+00"),
        ("event_time = 'infinity'", "its time is infinity"),
        ("event_time = '0044-03-15 BC'", "its time is 0044-03-15 00:00:00+00 BC"),
        ("details = '{\"count\": 1}'", "its details are not an object of texts"),
        ("details = '{\"count\": null}'", "its details are not an object of texts"),
        ("details = '[\"x\"]'", "its details are not an object of texts"),
        (f"details = '{'[' * 5000}{']' * 5000}'", "its details cannot be read as JSON"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_a_fault_and_no_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, change: str, problem: str
) -> None:
    """All other events are verified, also if a page ends with the unreadable one."""
    await execute(database, f"UPDATE {EVENTS} SET {change} WHERE {ALICE} = {LENGTH}")
    for page in (1, audit_check.MAX_EVENTS_READ):
        monkeypatch.setattr(audit_check, "MAX_EVENTS_READ", page)
        found: list[Fault] = []
        checked = AuditCheck(database, on_fault=found.append)
        await checked.run()
        assert ("alice", f"cannot be read: {problem}") in {(fault.owner_id, fault.problem) for fault in found}
        assert {fault.owner_id for fault in found} == {"alice"}
        assert (checked.events, checked.chains) == (3 * LENGTH, 3)


async def test_a_whole_log(database: Database) -> None:
    """No faults, all events counted, the right ends; also for one owner, and for one without events."""
    told, ends = await check(database)
    assert (told, [end.owner_id for end in ends]) == ([], list(OWNERS))
    for end in ends:
        assert end.link == (await chain(database, end.owner_id))[-1].link
    assert await check(database, "alice") == ([], [ends[1]])
    assert await check(database, "nobody") == ([], [])


@pytest.mark.parametrize(("owners", "page"), [(1, 1), (2, 1), (2, 5), (3, 6), (3, 18), (500, 4)])
async def test_memory_is_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch, owners: int, page: int
) -> None:
    """All events are read once, however few chains and events are read at a time."""
    monkeypatch.setattr(audit_check, "MAX_CHAINS_READ", owners)
    monkeypatch.setattr(audit_check, "MAX_EVENTS_READ", page)
    checked = AuditCheck(database, on_fault=lambda fault: pytest.fail(str(fault)))
    await checked.run()
    assert (checked.events, checked.chains) == (3 * LENGTH, 3)
    await execute(
        database, f"DELETE FROM {EVENTS} WHERE position = 6", f"DELETE FROM {EVENTS} WHERE owner_id = 'bob'"
    )
    assert (await check(database))[0] == [
        "acme 6: event 6 is missing",
        "alice 6: event 6 is missing",
        "bob 1: events 1 to 6 are missing",
    ]


async def test_an_anchor_finds_what_the_database_cannot_know(database: Database) -> None:
    """A chain that was removed with its head, one that was reset with it, one that was written again."""
    _, ends = await check(database)
    assert (await check(database, "", *ends))[0] == []
    await record(database, *map(event, OWNERS))
    assert (await check(database, "", *ends))[0] == []
    before = (await chain(database, "alice"))[2].link
    forget = ["acme", "bob"]
    await execute(
        database,
        f"DELETE FROM {EVENTS} WHERE owner_id = ANY('{{{','.join(forget)}}}') OR {ALICE} > 3",
        f"DELETE FROM {HEADS} WHERE owner_id = ANY('{{{','.join(forget)}}}')",
        f"UPDATE {HEADS} SET position = 3, hash = '\\x{before.hash.hex()}' WHERE owner_id = 'alice'",
    )
    for _ in range(LENGTH):
        await record(database, event("bob"))
    assert (await check(database))[0] == []
    assert (await check(database, "", *ends))[0] == [
        "acme 6: the chain is missing, but the anchor lists it",
        "alice 3: the anchor is at 6, beyond the head of the chain",
        "bob 6: the anchor has another hash",
    ]
    assert (await check(database, "bob", *ends))[0] == ["bob 6: the anchor has another hash"]
    assert (await check(database, "acme", *ends))[0] == [
        "acme 6: the chain is missing, but the anchor lists it"
    ]


async def _drop(database: Database) -> None:
    async with database.transaction() as connection:
        await audit_store.drop_before(connection, date(2024, 2, 1))


async def _append(database: Database) -> None:
    await record(database, event("alice"), event("al"), event("zoe"))


@pytest.mark.parametrize("meanwhile", [_drop, _append])
@pytest.mark.parametrize("at", range(1, 8))
async def test_changes_meanwhile_are_no_faults(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[Database], Awaitable[None]],
    at: int,
) -> None:
    """Events that are recorded and months that are dropped at any moment of the verification."""
    monkeypatch.setattr(audit_check, "MAX_EVENTS_READ", 2)
    monkeypatch.setattr(audit_check, "MAX_CHAINS_READ", 2)
    async with Database.open(database_url) as database:
        old = datetime(2024, 1, 5, tzinfo=UTC)
        for owner, times in (
            ("alice", (old, old, old, NOW, NOW)),
            ("bob", (old, old)),
            ("carol", (old, NOW)),
        ):
            await record(database, *(event(owner, time) for time in times))
        looks = 0
        find = audit_store.walk

        async def walk(*args: object, **options: object) -> object:
            nonlocal looks
            looks += 1
            if looks == at:
                await meanwhile(database)
            return await find(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(audit_store, "walk", walk)
        assert (await check(database))[0] == []
        assert looks >= at or at > 5
        assert (await check(database))[0] == []


async def test_the_function_is_the_only_way_in(database: Database) -> None:
    """A correct row that was inserted without the function is found, since the head does not include it."""
    last = (await chain(database, "bob"))[-1]
    assert last.link.position == LENGTH
    assert last.link != BEGINNING
    with pytest.raises(asyncpg.UniqueViolationError):
        await execute(database, f"INSERT INTO {EVENTS} SELECT * FROM {EVENTS} WHERE owner_id = 'bob'")
