"""The statement that finds keys to warn of: it agrees with the model, and reads a batch of a large table."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from authsvc.model.key_warning import (
    DAY,
    EXPIRY_THRESHOLDS,
    WARNINGS,
    GivenWarning,
    WatchedKey,
    due_warnings,
)
from authsvc.store import key_warnings
from authsvc.store.key_warnings import Terms
from authsvc.store.pool import Connection, Database
from tests.bench import key_rows

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_TICKS = (-timedelta(microseconds=1), timedelta(0), timedelta(0), timedelta(microseconds=1))
_EXPIRING, _EXPIRED, _UNUSED, _ROTATION_DUE = (str(kind) for kind in WARNINGS)
_KINDS = [
    *((_EXPIRING, days) for days in EXPIRY_THRESHOLDS),
    (_EXPIRED, 0),
    (_UNUSED, 0),
    (_ROTATION_DUE, 0),
]
_POLICIES = {"acme": (timedelta(0), True), "globex": (30 * DAY, True), "initech": (60 * DAY, False)}
_TERMS = Terms(mailed=WARNINGS, has_operator=True, rotation_period=45 * DAY, keys_enabled=False)
_INSERT_POLICY = """
    INSERT INTO authsvc.owner_policies (
        owner_id, rotation_period, keys_enabled, max_active_keys, allowed_scopes, max_key_lifetime,
        expiration_required, contacts_required, key_edits, key_managers, brand, update_time, version)
    VALUES ($1, $2, $3, 0, '{}', '0', false, false, 'all', 'any', '', now(), 1)
"""
_INSERT_KEY = """
    WITH key AS (
        INSERT INTO authsvc.keys (
            key_id, owner_id, key_prefix, secret_hash, secret_origin, display_name, folded_name, description,
            scopes, technical_contacts, annotations, create_time, creator_id, update_time, expire_time,
            revoke_time, revoker_id, revoke_reason, rotated_from_key_id, rotated_to_key_id, version)
        VALUES ($1, $2, $1, '', 'minted', '', '', '', '{}', '[]', '{}', $3, '', $3, $4, $5, '', '', '', $6, 1)
        RETURNING key_id, owner_id)
    INSERT INTO authsvc.key_uses (key_id, owner_id, last_use_time, answer)
    SELECT key_id, owner_id, $7, $8 FROM key
"""
_INSERT_WARNING = """
    INSERT INTO authsvc.key_warnings (key_id, kind, threshold_days, about_time, warn_time)
    VALUES ($1, $2, $3, $4, $4)
"""
# What was read of each table, by its indexes and without.
_READ = """
    SELECT relname, coalesce(seq_scan, 0) AS scans,
           coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows
      FROM pg_stat_xact_user_tables WHERE schemaname = 'authsvc'
"""


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url, size=1) as database:
        yield database


async def test_it_finds_what_the_model_says(database: Database) -> None:
    """Of many random keys, exactly those for which something is due. Many times coincide with a limit."""
    chance, keys = random.Random(18), dict[str, WatchedKey]()  # noqa: S311 - a test
    async with database.connection() as connection:
        for owner_id, (period, enabled) in _POLICIES.items():
            await connection.execute(_INSERT_POLICY, owner_id, period, enabled)
        await connection.execute(_INSERT_POLICY, "authsvc", 2 * DAY, False)  # It has no policy.
        for number in range(1500):
            key = await _random_key(connection, chance, f"key_{number:06}")
            keys[key.key_id] = key
    since = NOW - 3 * DAY
    async with database.transaction() as connection:
        # In this time zone, a day of each month around now has 23 or 25 hours.
        await connection.execute("SET LOCAL timezone = 'AST5ADT,M12.1.0,M11.1.0'")
        due = await key_warnings.list_due(
            connection, _TERMS, NOW, since=since, after="", size=5000, most=5000
        )
    for key, _ in due.keys:
        known = keys[key.key_id]
        assert sorted(key.given) == sorted(known.given)
        assert (key.rotation_period, key.is_enabled, key.is_delivered, known.is_ending) == (
            known.rotation_period,
            known.is_enabled,
            known.is_delivered,
            False,
        )
    found = {key.key_id: set(kinds) for key, kinds in due.keys}
    expected = {
        key.key_id: {str(each.kind) for each in due_warnings(key, NOW, since=since)} for key in keys.values()
    }
    assert found == {key_id: kinds for key_id, kinds in expected.items() if kinds}
    assert {kind for kinds in found.values() for kind in kinds} == set(WARNINGS)
    assert 100 < len(found) < 1400


async def _random_key(connection: Connection, chance: random.Random, key_id: str) -> WatchedKey:
    """Insert a key and some of its warnings; return what the model is to know of it."""

    def ago(*days: float) -> datetime:
        return NOW - chance.choice(days) * DAY + chance.choice(_TICKS)

    def days_ahead() -> datetime:
        return NOW + chance.choice((-60, -1, 0, 1, 7, 30)) * DAY

    owner_id = chance.choice((*_POLICIES, "hooli", "authsvc"))
    period, enabled = _POLICIES.get(owner_id, (_TERMS.rotation_period, owner_id == "authsvc"))
    answer, used = chance.choice((None, None, None, "lost", "pending")), ago(1, 89, 90, 91)
    key = WatchedKey(
        key_id=key_id,
        create_time=ago(0.5, 2, 14, 30, 45, 60, 90, 200),
        expire_time=chance.choice((None, ago(-60, -30, -7, -1, 0, 1, 3, 10))),
        last_use_time=chance.choice((None, used)),
        is_ending=chance.random() < 0.1,
        is_enabled=enabled,
        rotation_period=period,
        given=[GivenWarning(*kind, days_ahead()) for kind in _KINDS if chance.random() < 0.2],
    )
    is_scheduled = key.is_ending and chance.random() < 0.5
    await connection.execute(
        _INSERT_KEY,
        key_id,
        owner_id,
        key.create_time,
        key.expire_time,
        NOW + DAY if is_scheduled else None,
        "key_0" if key.is_ending and not is_scheduled else "",
        key.last_use_time,
        answer,
    )
    for each in key.given:
        await connection.execute(_INSERT_WARNING, key_id, *each)
    return _with_delivery(key, answer)


def _with_delivery(key: WatchedKey, answer: str | None) -> WatchedKey:
    fields: dict[str, Any] = {name: getattr(key, name) for name in WatchedKey.__slots__}
    return WatchedKey(**fields | {"is_delivered": answer is None or key.last_use_time is not None})


async def test_a_batch_of_a_large_table_reads_only_that(database: Database) -> None:
    """Also by plans that were made for empty tables, which are kept until these are analyzed."""
    terms = Terms(mailed=(), has_operator=False, rotation_period=DAY, keys_enabled=True)

    async def batch(connection: Connection, size: int, most: int) -> Sequence[Any]:
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await key_warnings.has_backlog(connection, NOW, 100)
        due = await key_warnings.list_due(
            connection, terms, NOW, since=NOW, after="key_5", size=size, most=most
        )
        warnings = [each for key, _ in due.keys for each in due_warnings(key, NOW, since=NOW)]
        return await key_warnings.give(connection, warnings, NOW)

    async with database.connection() as connection:
        for table in ("keys", "key_uses", "key_warnings", "notifications", "mails", "webhooks"):
            await connection.execute(f"ALTER TABLE authsvc.{table} SET (autovacuum_enabled = off)")
    async with database.transaction() as connection:
        assert await batch(connection, 50, 20) == []
    async with database.connection() as connection:
        owners = [f"globex-{number}" for number in range(1, 51)]
        await connection.execute(key_rows.FILL, owners, [100] * 50, NOW, timeout=60)
        # Somebody listens, as do many others, and the outbox has old notifications that nobody waits for.
        await connection.execute(
            "INSERT INTO authsvc.webhooks (webhook_id, owner_id, url, description, event_types,"
            " technical_contacts, enabled, create_time, creator_id, update_time, version, secrets, line_time)"
            " SELECT 'whk_' || i, CASE i WHEN 2000 THEN 'authsvc' ELSE 'other-' || i END, '', '', '{}', '[]',"
            " true, now(), '', now(), 1, '[]', now() FROM generate_series(1, 2000) AS i"
        )
        await connection.execute(
            "INSERT INTO authsvc.notifications (notification_id, type, owner_id, event_time, target_id,"
            " actor_id, actor_owner_id, actor_type, details, subject, contacts, spread_time)"
            " SELECT 'evt_' || i, 'key.created', 'acme', now(), '', '', '', '', '{}', '{}', '[]', now()"
            "   FROM generate_series(1, 5000) AS i"
        )
        await connection.execute(
            "INSERT INTO authsvc.mails (notification_id, owner_id, address, contact_name, state,"
            " create_time, next_time)"
            " SELECT notification_id, owner_id, '', '', 'sent', now(), now() FROM authsvc.notifications"
        )
    async with database.transaction() as connection:
        before = await _read(connection)  # of earlier transactions of this connection
        given = await batch(connection, 50, 20)
        after = await _read(connection)
    assert len(given) >= 20
    large = ("keys", "key_uses", "key_warnings", "notifications", "mails", "webhook_deliveries")
    scans, rows = ({table: after[table][i] - before[table][i] for table in before} for i in (0, 1))
    scans = {table: scans[table] for table in large}
    assert scans == dict.fromkeys(large, 0)
    # Each key that is looked at, and those that are warned of once more, with what refers to them.
    assert rows["keys"] <= 50 + 2 * len(given)
    assert rows["key_uses"] <= 50 + len(given)
    assert rows["webhooks"] <= 3 * 50
    assert rows["key_warnings"] + rows["notifications"] + rows["mails"] <= 2 * len(given)


async def _read(connection: Connection) -> dict[str, tuple[int, int]]:
    """Return how often each table was scanned, and how many of its rows were read."""
    return {row["relname"]: (row["scans"], row["rows"]) for row in await connection.fetch(_READ)}
