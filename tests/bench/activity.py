"""The cost of recording session activity in the database: one write per session and interval.

Each of many sessions is verified once, twice and five times per interval, evenly, in this
process, while the service flushes its buffer at each interval. Writes are the rows that PostgreSQL
reports as updated, statements the calls of the store.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from unittest import mock

import asyncpg
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import load_settings
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.credential import CredentialKind
from authsvc.model.use import Use
from authsvc.model.verdict import VerdictCode
from authsvc.store.activity import ActivityStore
from authsvc.verify.verifier import Question
from tests.bench import session_rows
from tests.bench.bench import say
from tests.bench.table import AtMost, Row

_PART = "sessions"
_TIMES = (1, 2, 5)
_INTERVALS = 2
_BATCH = 100
_QUESTION = Question(CredentialKind.SESSION, BOOTSTRAP, (), "192.0.2.7", session_rows.USER_AGENT)


@dataclass(slots=True)
class _Statements:
    """The calls of the store: their number, their duration, and how many are in progress."""

    count: int = 0
    seconds: float = 0.0
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class _Written:
    verifications: int
    rows: int
    hot: int
    statements: int
    writing: float
    seconds: float


async def measure(url: str, *, quick: bool) -> list[Row]:
    """Return the rows about writing activity."""
    # The longest interval that can be set: one process has to verify all sessions five times in it.
    count, interval = (20_000, 3.0) if quick else (200_000, 15.0)
    say(f"sessions: inserting {count:,}, and verifying them for the first time")
    settings = load_settings(
        listen="127.0.0.1:0",
        database_url=SecretStr(url),
        activity_interval=interval,
        cache_capacity=count + 1000,
        lease=3600.0,
    )
    connection = await asyncpg.connect(url)
    try:
        mint = await session_rows.mint(connection)
        owner_ids = [f"user-{number:06}" for number in range(count)]
        tokens = [made.token for made in await session_rows.insert(connection, mint, owner_ids)]
        await connection.execute("VACUUM ANALYZE authsvc.sessions")
        async with _counted() as statements, app.running(settings) as service:
            for start in range(0, count, _BATCH):
                asked = [(_QUESTION, token) for token in tokens[start : start + _BATCH]]
                assert all(verdict.credential for verdict in await service.verifier.verify_all(asked))
            written = {}
            for times in _TIMES:
                say(f"sessions: verifying {count:,} sessions {times} times in {interval:g} s")
                written[times] = await _verify(service, connection, statements, tokens, times, interval)
    finally:
        await connection.close()
    return _rows(written, count)


@asynccontextmanager
async def _counted() -> AsyncIterator[_Statements]:
    """Count the calls of the store while the block runs."""
    statements, record_uses = _Statements(), ActivityStore.record_uses

    async def counted(store: ActivityStore, uses: Sequence[Use]) -> None:
        statements.under_way += 1
        started = time.perf_counter()
        try:
            await record_uses(store, uses)
        finally:
            statements.count += 1
            statements.seconds += time.perf_counter() - started
            statements.under_way -= 1

    with mock.patch.object(ActivityStore, "record_uses", counted):
        yield statements


async def _verify(
    service: app.App,
    connection: "asyncpg.Connection[asyncpg.Record]",
    statements: _Statements,
    tokens: Sequence[str],
    times: int,
    interval: float,
) -> _Written:
    """Verify each session this many times per interval, starting just after a write; then write the rest."""
    await _flush(service, statements)
    before = statements.count
    service.verifier.recall(_QUESTION, tokens[0])
    while statements.count == before:  # noqa: ASYNC110 - the service tells nobody
        await asyncio.sleep(0.01)
    rows, hot = await _updated(service, connection)
    calls, writing, started = statements.count, statements.seconds, time.perf_counter()
    valid = service.verifier.counts[VerdictCode.VALID]
    total = len(tokens) * times * _INTERVALS
    for done in range(0, total, _BATCH):
        first = done % len(tokens)
        for token in tokens[first : first + _BATCH]:
            service.verifier.recall(_QUESTION, token)
        due = started + (done + _BATCH) / total * interval * _INTERVALS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    seconds = time.perf_counter() - started
    assert service.verifier.counts[VerdictCode.VALID] - valid == total, "not every verdict came from memory"
    await _flush(service, statements)
    rows_after, hot_after = await _updated(service, connection)
    return _Written(
        total,
        rows_after - rows,
        hot_after - hot,
        statements.count - calls,
        statements.seconds - writing,
        seconds,
    )


async def _flush(service: app.App, statements: _Statements) -> None:
    await service.activity.flush()
    while statements.under_way:  # noqa: ASYNC110 - likewise
        await asyncio.sleep(0.01)


async def _updated(service: app.App, connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[int, int]:
    """Return the number of updated sessions, once all connections of the service have reported statistics."""
    async with AsyncExitStack() as stack:
        for _ in range(load_settings().database_pool_size):
            lent = await stack.enter_async_context(service.database.connection())
            await lent.execute("SELECT pg_stat_force_next_flush()")
    row = await connection.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'authsvc.sessions'::regclass"
    )
    assert row is not None
    return row["n_tup_upd"], row["n_tup_hot_upd"]


def _rows(written: dict[int, _Written], count: int) -> list[Row]:
    once = written[_TIMES[0]]
    rows = [
        Row(
            _PART,
            f"rows a verification writes, {count:,} sessions {times}x in {each.seconds / _INTERVALS:.0f} s",
            f"{each.rows / each.seconds:,.0f} rows/s in {each.statements / each.seconds:,.1f} statements/s",
            f"{each.verifications / each.seconds:,.0f} verifications/s",
            each.rows / each.verifications,
        )
        for times, each in written.items()
    ]
    for times, each in written.items():
        if times != _TIMES[0]:
            what = f"rows written at {times}x the verifications against 1x"
            aim = AtMost(1.5) if times == _TIMES[-1] else None
            rows.append(Row(_PART, what, f"{each.rows:,}", f"{once.rows:,}", each.rows / once.rows, aim))
    rows.append(
        Row(
            _PART,
            "rows written in place (HOT), and how fast while writing",
            f"{once.hot / once.rows:.0%} in place",
            f"{once.rows / once.writing:,.0f} rows/s while writing",
            once.hot / once.rows,
        )
    )
    return rows
