"""Rows that are written in the background: one that the database refuses is not in the way of the others."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from asyncpg import exceptions as pg
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from authsvc.model.errors import Unavailable
from authsvc.model.key_use import KeyUse
from authsvc.model.use import Use
from authsvc.store.activity import ActivityStore
from authsvc.store.batch_writer import BatchWriter
from authsvc.store.key_usage import KeyUsageStore
from authsvc.store.pool import Database
from tests.conftest import Clock, Service, eventually

AWAY = Unavailable("away", reason="DATABASE_UNAVAILABLE", retry_after=1)


class Rows:
    """A table that refuses some rows, and is away after a number of statements."""

    def __init__(self, refused: set[int], away_after: int = 10**6) -> None:
        self.rows: list[int] = []
        self.statements = 0
        self._refused, self._away_after = refused, away_after

    async def insert(self, rows: Sequence[int]) -> None:
        self.statements += 1
        if self.statements > self._away_after:
            raise AWAY
        if self._refused.intersection(rows):
            raise pg.CheckViolationError("row 7 is refused")
        self.rows += rows


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
async def test_all_others_are_written_once(count: int, refused: set[int]) -> None:
    """In order, whichever are refused; those are counted."""
    table = Rows(refused)
    writer = BatchWriter("a row", table.insert, str)
    settled: list[int] = []
    await writer.write(range(count), settled=settled.extend)
    assert table.rows == [row for row in range(count) if row not in refused]
    assert writer.refused == len(refused & set(range(count)))
    assert settled == list(range(count))


async def test_one_among_many_is_found_soon() -> None:
    """Not by a statement for each row."""
    table = Rows({617})
    await BatchWriter("a row", table.insert, str).write(range(1000))
    assert len(table.rows) == 999
    assert table.statements <= 21


@given(st.sets(st.integers(0, 19)), st.integers(0, 40))
async def test_an_outage_is_no_bad_row(refused: set[int], statements: int) -> None:
    """It is raised, also in the middle of the search; what was not written is not settled."""
    table = Rows(refused, statements)
    writer = BatchWriter("a row", table.insert, str)
    settled: list[int] = []
    try:
        await writer.write(range(20), settled=settled.extend)
    except Unavailable:
        assert table.statements > statements
    else:
        assert len(settled) == 20
    assert table.rows == [row for row in settled if row not in refused]
    assert writer.refused == len(refused & set(settled))


@pytest.mark.parametrize("error", [pg.InsufficientPrivilegeError, pg.UndefinedTableError, RuntimeError])
async def test_a_fault_of_the_statement_is_no_bad_row(error: type[Exception]) -> None:
    """The operator can mend it, so nothing is dropped."""

    async def fail(rows: Sequence[int]) -> None:
        raise error("a fault")

    writer = BatchWriter("a row", fail, str)
    with pytest.raises(error):
        await writer.write(range(3), settled=lambda rows: pytest.fail(f"{rows} are lost"))
    assert writer.refused == 0


async def sql(url: str, statement: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(statement, *values))
    finally:
        await connection.close()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


REFUSE = """
    DO $$ BEGIN
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN RAISE EXCEPTION ''the value % is refused'', NEW; END';
    CREATE TRIGGER refuse BEFORE UPDATE ON authsvc.{table} FOR EACH ROW WHEN ({condition})
        EXECUTE FUNCTION refuse();
    END $$
"""


async def test_last_uses(
    service: Service, database_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:  # rule 23
    """Of a constraint of a newer release: the others are written, and later the next use of that key."""
    await sql(
        database_url,
        "ALTER TABLE authsvc.key_uses ADD CONSTRAINT newer CHECK (last_use_ip <> '192.0.2.66') NOT VALID",
    )
    made = [await service.admin.CreateKey(owner_id="acme", display_name="Orders") for _ in range(5)]
    for number, each in enumerate(made):
        await service.admin.VerifyKey(key_string=each.key_string, client_ip=f"192.0.2.{64 + number}")
    ids = [each.key.key_id for each in made]
    shown = "SELECT key_id, last_use_ip FROM authsvc.key_uses WHERE owner_id = 'acme'"
    for _ in range(2):
        await service.flush()
        found = dict(map(tuple, await sql(database_url, shown)))
        assert [found[key_id] for key_id in ids] == [
            "192.0.2.64",
            "192.0.2.65",
            "",
            "192.0.2.67",
            "192.0.2.68",
        ]
    assert errors(caplog) == [
        f"a count of uses of {ids[2]} is dropped, because the database refuses it: "
        "CheckViolationError (23514), constraint newer, table key_uses; PostgreSQL's log has the details"
    ]
    page = generate_latest(service.app.metrics.registry).decode()
    assert 'authsvc_rows_refused_total{kind="last_use"} 1.0' in page
    clock.advance(seconds=1)
    await service.admin.VerifyKey(key_string=made[2].key_string, client_ip="192.0.2.1")
    await service.flush()
    assert dict(map(tuple, await sql(database_url, shown)))[ids[2]] == "192.0.2.1"
    assert service.app.usage.refused == 1


async def test_last_activities(
    service: Service, database_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:  # rule 23
    """Of a trigger that refuses a user agent: its message, which has the values, is not told."""
    made = [await service.admin.CreateSession(owner_id="alice") for _ in range(5)]
    await sql(database_url, REFUSE.format(table="sessions", condition="NEW.user_agent = 'agent 2'"))
    clock.advance(seconds=1)
    for number, each in enumerate(made):
        await service.admin.VerifySession(session_token=each.session_token, user_agent=f"agent {number}")
    ids = [each.session.session_id for each in made]
    shown = "SELECT session_id, user_agent FROM authsvc.sessions"
    for _ in range(2):
        await service.flush()
        found = dict(map(tuple, await sql(database_url, shown)))
        assert [found[session_id] for session_id in ids] == ["agent 0", "agent 1", "", "agent 3", "agent 4"]
    assert errors(caplog) == [
        f"a last activity of {ids[2]} is dropped, because the database refuses it: "
        "RaiseError (P0001); PostgreSQL's log has the details"
    ]
    assert service.app.activity.refused == 1


async def test_the_delivery_status_of_new_keys(
    service: Service, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a row that may not change: the status of the other keys is written, and counted once."""
    made = [
        await service.admin.CreateKey(owner_id="acme", display_name="Orders", request_id=f"r{number}")
        for number in range(5)
    ]
    ids = [each.key.key_id for each in made]
    deliveries = service.app.keys.deliveries
    # gRPC tells that it has sent an answer after the client has it.
    pending = "SELECT FROM authsvc.key_uses WHERE answer = 'pending'"
    await eventually(lambda: sql(database_url, pending), lambda found: not found)
    await sql(database_url, REFUSE.format(table="key_uses", condition=f"NEW.key_id = '{ids[2]}'"))
    # In one batch, before the background can write it.
    for key_id in ids:
        deliveries.note(key_id, sent=False)
    for _ in range(2):
        await deliveries.flush()
        lost = await sql(database_url, "SELECT key_id FROM authsvc.key_uses WHERE answer = 'lost'")
        assert {row["key_id"] for row in lost} == {*ids[:2], *ids[3:]}
    assert (deliveries.lost, deliveries.refused) == (4, 1)
    assert len(errors(caplog)) == 1
    assert ids[2] in errors(caplog)[0]


@pytest.mark.parametrize("bad", ["192.0.2.1\0", "\ud800"], ids=["NUL", "surrogate"])
async def test_a_text_that_is_none(service: Service, bad: str, database_url: str) -> None:
    """One that PostgreSQL does not take, and one that the driver cannot encode."""
    key_id = (await service.admin.CreateKey(owner_id="acme", display_name="Orders")).key.key_id
    session_id = (await service.admin.CreateSession(owner_id="alice")).session.session_id
    late = datetime(2030, 1, 1, tzinfo=UTC)
    good = Use(session_id, late, "192.0.2.9")
    counted = KeyUse(key_id, late.date(), "key_v", "192.0.2.0/24", "curl/8", 3, late, "192.0.2.9", "acme")
    later = late + timedelta(1)
    async with Database.open(database_url) as database:
        activities, counts = ActivityStore(database), KeyUsageStore(database)
        await activities.record_uses([good._replace(time=later, client_ip=bad), good])
        await counts.record_key_uses([counted._replace(last_use_time=later, client_ip=bad), counted])
        await counts.record_key_uses([counted._replace(last_use_time=later, program=bad), counted])
    assert (activities.refused, counts.refused) == (1, 2)
    found = await sql(
        database_url,
        "SELECT last_use_ip AS ip FROM authsvc.key_uses WHERE last_use_time = $1"
        " UNION ALL SELECT ip_address FROM authsvc.sessions WHERE last_activity_time = $1",
        late,
    )
    assert [row["ip"] for row in found] == ["192.0.2.9"] * 2
    [row] = await sql(database_url, "SELECT program, uses FROM authsvc.key_usage")
    assert tuple(row) == ("curl/8", 6)
