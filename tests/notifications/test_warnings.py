"""Warnings about keys, on the real database: what is told of each key, once, and to whom."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.model.key_warning import DAY, WARNINGS, due_warnings
from authsvc.model.policy import OwnerPolicy
from authsvc.notifications import warnings as key_warnings
from authsvc.notifications.recipients import MailRecipients
from authsvc.notifications.warnings import WALK_INTERVAL, KeyWarnings
from authsvc.store import key_warnings as warning_store
from authsvc.store import purge as jobs
from authsvc.store.key_warnings import Terms
from authsvc.store.migrate import migrate
from authsvc.store.notifications import from_row
from authsvc.store.pool import Database
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from tests.conftest import Clock, Service, serving

TICK = timedelta(microseconds=1)
EXPIRING, EXPIRED, UNUSED, ROTATION_DUE = (str(kind) for kind in WARNINGS)
_CONTACTS = [{"name": "Ann", "email": "ann@example.org"}]
_MAIL: dict[str, Any] = {"smtp_url": "smtp://127.0.0.1:1", "mail_from": "a@b.example"}
# Nothing is due to be rotated, so that tests of other warnings see these alone.
_NO_ROTATION: dict[str, Any] = {"default_rotation_period": 0}


@pytest_asyncio.fixture
async def service(database_url: str, clock: Clock) -> AsyncIterator[Service]:
    """A service that mails, whose warnings have begun."""
    async with serving(database_url, clock, **_MAIL, **_NO_ROTATION) as running:
        await walk(running)
        yield running


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as database:
        yield database


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def create(service: Service, life: timedelta | None = None, **fields: Any) -> Any:
    """Create a key that lives for this long."""
    fields = {"owner_id": "acme", "display_name": "ci", "technical_contacts": _CONTACTS, **fields}
    if life is not None:
        fields["ttl"] = Duration(seconds=int(life.total_seconds()))
    return await service.admin.CreateKey(**fields)


async def walk(service: Service) -> int:
    """Walk over all keys; return the number of batches."""
    async with service.app.database.transaction() as connection:
        await jobs.put_back(connection, "key_warnings", "", service.clock())
    steps = 1
    while await service.notifier.warnings.step():
        steps += 1
    return steps


async def warned(connection: Any, *, owner_id: str = "acme") -> list[tuple[str, str]]:
    """Return the warnings about an owner's keys since the last call: the kind, and the key."""
    rows = await connection.fetch(
        "DELETE FROM authsvc.notifications WHERE position IS NULL AND owner_id = $1"
        " RETURNING number, type, target_id",
        owner_id,
    )
    return [(row["type"], row["target_id"]) for row in sorted(rows, key=lambda row: row["number"])]


async def kinds(connection: Any, *, owner_id: str = "acme") -> list[str]:
    return [kind for kind, _ in await warned(connection, owner_id=owner_id)]


async def extend(service: Service, key_id: str, expire_time: datetime) -> None:
    stamp = Timestamp()
    stamp.FromDatetime(expire_time)
    await service.admin.UpdateKey(
        key={"key_id": key_id, "expire_time": stamp}, update_mask={"paths": ["expire_time"]}
    )


async def test_a_warning_is_a_notification(
    service: Service, connection: Any, clock: Clock
) -> None:  # rule 29
    """With what is shown of the key, its contacts, and how many days there are."""
    made = await create(service, 365 * DAY, display_name="Orders")
    created = clock()
    clock.now += 358 * DAY + timedelta(hours=3)
    await service.admin.VerifyKey(key_string=made.key_string)
    await service.flush()
    await walk(service)
    [row] = await connection.fetch("SELECT * FROM authsvc.notifications WHERE position IS NULL")
    assert row["notification_id"].startswith("evt_")
    assert (row["type"], row["owner_id"], row["target_id"]) == (EXPIRING, "acme", made.key.key_id)
    assert (row["event_time"], row["spread_time"]) == (clock(), None)
    assert (row["actor_id"], row["actor_owner_id"], row["actor_type"]) == ("", "", "")
    read = from_row(row)
    assert read.details == {"remaining_days": "7", "threshold_days": "7"}
    assert [(each.name, each.email) for each in read.contacts] == [("Ann", "ann@example.org")]
    subject = dict(read.subject)
    times = {
        name: datetime.fromisoformat(subject.pop(name))
        for name in ("create_time", "expire_time", "last_use_time")
    }
    expire_time = created + 365 * DAY
    assert times == {"create_time": created, "expire_time": expire_time, "last_use_time": clock()}
    assert subject == {
        "key_id": made.key.key_id,
        "display_name": "Orders",
        "key_prefix": made.key.key_prefix,
        "revoke_time": None,
        "rotated_to_key_id": "",
    }
    # As the trigger shows the same key.
    changed = await connection.fetchval(
        "SELECT subject FROM authsvc.notifications WHERE position IS NOT NULL AND target_id = $1",
        made.key.key_id,
    )
    assert set(from_row({**row, "subject": changed}).subject) == set(read.subject)
    [given] = await connection.fetch("SELECT * FROM authsvc.key_warnings")
    assert dict(given) == {
        "key_id": made.key.key_id,
        "kind": EXPIRING,
        "threshold_days": 7,
        "about_time": expire_time,
        "warn_time": clock(),
    }


async def test_it_reaches_the_contacts(service: Service, connection: Any, clock: Clock) -> None:  # rule 29
    """As mail, like all other notifications."""
    await create(service, 10 * DAY)
    clock.now += 9 * DAY
    await walk(service)
    await service.notifier.spread.work()
    rows = await connection.fetch(
        "SELECT m.address FROM authsvc.mails m JOIN authsvc.notifications n USING (notification_id)"
        " WHERE n.type = 'key.expiring'"
    )
    assert [row["address"] for row in rows] == ["ann@example.org"]


async def test_as_the_role_that_serves(plain_role: str, empty_database_url: str, clock: Clock) -> None:
    """It may do all that warnings need, and they are counted."""
    await migrate(empty_database_url, serving_role=plain_role)
    place = urlsplit(empty_database_url)
    url = f"postgresql://{plain_role}:{plain_role}@{place.hostname}:{place.port}{place.path}"
    async with serving(url, clock, **_MAIL, **_NO_ROTATION) as service:
        await walk(service)
        await create(service)
        clock.now += 90 * DAY
        await walk(service)
        registry = service.notifier_registry
        for kind, count in ((UNUSED, 1), (EXPIRING, 0)):
            assert registry.get_sample_value("authsvc_key_warnings_total", {"kind": kind}) == count


async def test_from_creation_to_expiry(service: Service, connection: Any, clock: Clock) -> None:
    """One look a day: each threshold once, then the expiry, then silence."""
    await create(service, 100 * DAY)
    told = {}
    for day in range(1, 110):
        clock.now += DAY
        await walk(service)
        if found := await kinds(connection):
            told[day] = found
    assert told == {70: [EXPIRING], 90: [UNUSED], 93: [EXPIRING], 99: [EXPIRING], 100: [EXPIRED]}
    rows = await connection.fetch(
        "SELECT threshold_days FROM authsvc.key_warnings WHERE kind = 'key.expiring'"
    )
    assert sorted(row["threshold_days"] for row in rows) == [1, 7, 30]
    assert service.notifier.warnings.written == {EXPIRING: 3, EXPIRED: 1, UNUSED: 1, ROTATION_DUE: 0}


@pytest.mark.parametrize(
    ("missed", "told"),
    [(95, [UNUSED, EXPIRING]), (99, [UNUSED, EXPIRING]), (100, [EXPIRED]), (3000, [EXPIRED])],
)
async def test_a_missed_walk_delays_and_never_skips(
    service: Service, connection: Any, clock: Clock, missed: int, told: list[str]
) -> None:
    """After an outage of any length: what is due then, with the tightest threshold only."""
    await create(service, 100 * DAY)
    clock.now += missed * DAY
    await walk(service)
    assert sorted(await kinds(connection)) == sorted(told)
    await walk(service)
    assert await kinds(connection) == []


async def test_a_later_expiry_rearms(service: Service, connection: Any, clock: Clock) -> None:
    """By UpdateKey, also after the key has expired."""
    made = await create(service, 20 * DAY)
    for days, told in ((19, [EXPIRING]), (20, [EXPIRED])):
        clock.now = made.key.create_time.ToDatetime(tzinfo=clock.now.tzinfo) + days * DAY
        await walk(service)
        assert await kinds(connection) == told
    expire_time = clock() + 10 * DAY
    await extend(service, made.key.key_id, expire_time)
    for remaining, told in ((10, []), (7, [EXPIRING]), (1, [EXPIRING]), (0, [EXPIRED]), (-1, [])):
        clock.now = expire_time - remaining * DAY
        await walk(service)
        assert await kinds(connection) == told
    assert await connection.fetchval("SELECT count(*) FROM authsvc.key_warnings") == 3  # one row each


async def test_use_rearms(service: Service, connection: Any, clock: Clock) -> None:
    """The last use that was written counts."""
    made = await create(service)
    for _ in range(2):
        clock.now += 90 * DAY - TICK
        await walk(service)
        assert await kinds(connection) == []
        clock.now += TICK
        await walk(service)
        assert await kinds(connection) == [UNUSED]
        clock.now += 5 * DAY
        await walk(service)
        assert await kinds(connection) == []
        await service.admin.VerifyKey(key_string=made.key_string)
        await service.flush()


async def test_the_owners_policy_says_when_rotation_is_due(
    database_url: str, connection: Any, clock: Clock
) -> None:
    """The default policy for owners without one, and for the platform; a new period counts at once."""

    async def period(owner_id: str, days: int) -> None:
        policy = policy_pb.OwnerPolicy(owner_id=owner_id, rotation_period=Duration(seconds=days * 86400))
        await running.admin.UpdateOwnerPolicy(policy=policy, update_mask={"paths": ["rotation_period"]})

    async with serving(database_url, clock, **_MAIL, default_rotation_period="60d") as running:
        for owner_id in ("acme", "globex", "initech", "authsvc"):
            await create(running, owner_id=owner_id)
        await period("globex", 30)
        await period("initech", 0)

        async def told() -> dict[str, list[str]]:
            await walk(running)
            owners = ("acme", "globex", "initech", "authsvc")
            found = {owner_id: await kinds(connection, owner_id=owner_id) for owner_id in owners}
            return {owner_id: each for owner_id, each in found.items() if each}

        clock.now += 30 * DAY
        assert await told() == {"globex": [ROTATION_DUE]}
        clock.now += 15 * DAY
        await period("acme", 40)
        assert await told() == {"acme": [ROTATION_DUE]}
        await period("acme", 50)  # longer than its age: it becomes due again
        assert await told() == {}
        clock.now += 5 * DAY
        assert await told() == {"acme": [ROTATION_DUE]}
        await period("acme", 45)
        assert await told() == {}
        clock.now += 10 * DAY
        assert await told() == {"authsvc": [ROTATION_DUE]}  # The administrator's own key has no contact.


async def test_keys_that_end_warn_nobody(service: Service, connection: Any, clock: Clock) -> None:
    """Rotated with a grace period, to be revoked, revoked, deleted; the successor is warned of."""
    life = 120 * DAY
    rotated, scheduled, revoked, deleted = [(await create(service, life)).key.key_id for _ in range(4)]
    grace = Duration(seconds=int(life.total_seconds()))
    successor = (await service.admin.RotateKey(key_id=rotated, grace_period=grace)).key.key_id
    await service.admin.RevokeKey(key_id=scheduled, revoke_in=Duration(seconds=200 * 86400))
    for key_id in (revoked, deleted):
        await service.admin.RevokeKey(key_id=key_id)
    await service.admin.DeleteKey(key_id=deleted)
    for days in (90, 29, 1):
        clock.now += days * DAY
        await walk(service)
        found = await warned(connection)
        assert {key_id for _, key_id in found} == {successor}
    assert (await connection.fetchval("SELECT count(DISTINCT key_id) FROM authsvc.key_warnings")) == 1


async def test_a_deleted_key_leaves_no_warnings(service: Service, connection: Any, clock: Clock) -> None:
    """The rows go with the key; what was told stays told."""
    made = await create(service, 10 * DAY)
    clock.now += 9 * DAY
    await walk(service)
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)
    assert await connection.fetchval("SELECT count(*) FROM authsvc.key_warnings") == 0
    assert await kinds(connection) == [EXPIRING]


async def test_a_key_string_that_nobody_has(service: Service, connection: Any, clock: Clock) -> None:
    """Its expiry concerns nobody. That it is unused does."""
    made = await create(service, 100 * DAY, request_id="r1")
    await service.app.keys.deliveries.flush()
    await connection.execute("UPDATE authsvc.key_uses SET answer = 'lost' WHERE key_id = $1", made.key.key_id)
    for days, told in ((71, []), (91, [UNUSED]), (99.5, []), (101, [])):
        clock.now = made.key.create_time.ToDatetime(tzinfo=clock.now.tzinfo) + days * DAY
        await walk(service)
        assert await kinds(connection) == told
    await connection.execute("UPDATE authsvc.key_uses SET answer = NULL")
    await walk(service)
    assert await kinds(connection) == [EXPIRED]


async def test_keys_that_are_switched_off(database_url: str, connection: Any, clock: Clock) -> None:  # rule 7
    """Their owner cannot use or rotate them; their expiry is told all the same."""
    async with serving(database_url, clock, **_MAIL) as service:
        await create(service, 100 * DAY)
        policy = policy_pb.OwnerPolicy(owner_id="acme", keys_enabled=False)
        await service.admin.UpdateOwnerPolicy(policy=policy, update_mask={"paths": ["keys_enabled"]})
        clock.now += 95 * DAY
        await walk(service)
        assert await kinds(connection) == [EXPIRING]
        policy.keys_enabled = True
        await service.admin.UpdateOwnerPolicy(policy=policy, update_mask={"paths": ["keys_enabled"]})
        await walk(service)
        assert sorted(await kinds(connection)) == [ROTATION_DUE, UNUSED]


async def test_where_nobody_could_be_told_there_is_no_walk(
    database_url: str, connection: Any, clock: Clock
) -> None:
    """Who sets up mail later is told of all that is due then, and of no expiry before that."""
    async with serving(database_url, clock, **_NO_ROTATION) as service:
        admin_key = service.admin_key
        for days in (10, 97):
            await create(service, days * DAY)
        due = (await create(service, 100 * DAY)).key.key_id
        clock.now += 95 * DAY
        jobs_before = await connection.fetch("SELECT job, next_time, position FROM authsvc.jobs")
        assert not await service.notifier.warnings.step()
        assert await connection.fetch("SELECT job, next_time, position FROM authsvc.jobs") == jobs_before
        assert await connection.fetchval("SELECT count(*) FROM authsvc.key_warnings") == 0
    clock.now += 3 * DAY
    async with serving(database_url, clock, **_MAIL, **_NO_ROTATION) as service:
        service.admin_key = admin_key
        await walk(service)
        assert sorted(await warned(connection)) == [(EXPIRING, due), (UNUSED, due)]
        clock.now += 2 * DAY
        await walk(service)
        assert await warned(connection) == [(EXPIRED, due)]


_WEBHOOK = (
    "INSERT INTO authsvc.webhooks (webhook_id, owner_id, url, description, event_types, technical_contacts,"
    " enabled, create_time, creator_id, update_time, version, secrets, line_time)"
    " VALUES ($1, $2, 'https://hooks.example.org', '', $3, '[]', $4, now(), '', now(), 1, '[]', now())"
)


async def test_only_what_somebody_would_be_told_of_is_due(
    database_url: str, connection: Any, clock: Clock
) -> None:
    """A key without contact is warned of when it gets one, or a webhook that listens."""
    async with serving(database_url, clock, **_MAIL, **_NO_ROTATION) as service:
        key_id = (await create(service, 365 * DAY, technical_contacts=[])).key.key_id
        await walk(service)
        clock.now += 360 * DAY
        await connection.execute(_WEBHOOK, "whk_1", "globex", [], True)
        await connection.execute(_WEBHOOK, "whk_2", "acme", [], False)
        await connection.execute(_WEBHOOK, "whk_3", "acme", ["key.created"], True)
        await walk(service)
        assert await kinds(connection) == []
        await connection.execute(_WEBHOOK, "whk_4", "acme", ["key.unused"], True)
        await walk(service)
        assert await kinds(connection) == [UNUSED]
        await service.admin.UpdateKey(
            key={"key_id": key_id, "technical_contacts": _CONTACTS},
            update_mask={"paths": ["technical_contacts"]},
        )
        await walk(service)
        assert await kinds(connection) == [EXPIRING]


@pytest.mark.parametrize("way", ["operator", "platform's webhook"])
async def test_whoever_is_told_of_all_keys(
    database_url: str, connection: Any, clock: Clock, way: str
) -> None:
    """The operator, and the webhooks of the platform. A webhook is enough, without mail."""
    mail = {**_MAIL, "mail_operator": "ops@example.org"} if way == "operator" else {}
    async with serving(database_url, clock, **mail, **_NO_ROTATION) as service:
        if way != "operator":
            await connection.execute(_WEBHOOK, "whk_1", "authsvc", [], True)
        await create(service, 10 * DAY, technical_contacts=[])
        await walk(service)
        clock.now += 9 * DAY
        await walk(service)
        assert await kinds(connection) == [EXPIRING]


async def test_an_expiry_that_nobody_was_told_of_is_no_news_later(
    service: Service, connection: Any, clock: Clock
) -> None:
    """A contact that is added to an expired key hears nothing of its expiry."""
    key_id = (await create(service, DAY, technical_contacts=[])).key.key_id
    clock.now += 2 * DAY
    await walk(service)
    await service.notifier.spread.work()  # It finds nobody.
    assert await kinds(connection) == []
    await service.admin.UpdateKey(
        key={"key_id": key_id, "technical_contacts": _CONTACTS}, update_mask={"paths": ["technical_contacts"]}
    )
    await walk(service)
    assert await kinds(connection) == []


async def expiring(service: Service, clock: Clock, count: int) -> list[str]:
    """Create keys that expire on the next day, in the order of their ids."""
    made = []
    for _ in range(count):
        clock.now += timedelta(seconds=1)
        made.append((await create(service, 10 * DAY)).key.key_id)
    clock.now += 9 * DAY
    return made


async def test_in_small_batches(
    service: Service, connection: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction looks at so many keys, and warns of so many; the walk ends behind the last key."""
    monkeypatch.setattr(key_warnings, "BATCH_KEYS", 3)
    monkeypatch.setattr(key_warnings, "MAX_WARNED_KEYS", 2)
    made = await expiring(service, clock, 5)
    first = await connection.fetchval("SELECT min(key_id) FROM authsvc.keys")
    assert first not in made  # that of the administrator
    async with service.app.database.transaction() as own:
        await jobs.put_back(own, "key_warnings", "", clock())
    step = service.notifier.warnings.step
    for told, more in ((made[:2], True), (made[2:4], True), (made[4:], False)):
        assert await step() is more
        assert await warned(connection) == [(EXPIRING, key_id) for key_id in told]
    clock.now += WALK_INTERVAL - TICK
    late = await connection.fetchval("SELECT next_time FROM authsvc.jobs WHERE job = 'key_warnings'")
    assert late == clock() + TICK
    await connection.execute("DELETE FROM authsvc.key_warnings")
    assert not await step()
    assert await warned(connection) == []
    clock.now += TICK
    assert await step()
    assert await warned(connection) == [(EXPIRING, key_id) for key_id in made[:2]]


@pytest.mark.parametrize("where", ["before the warnings", "after the warnings", "at the commit"])
async def test_a_crash_neither_loses_nor_doubles(
    service: Service, connection: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whatever step fails, nothing of its transaction is there; the next worker does it again, once."""
    made = await expiring(service, clock, 3)
    async with service.app.database.transaction() as own:
        await jobs.put_back(own, "key_warnings", "", clock())
    give, put_back = warning_store.give, jobs.put_back

    async def failing(*arguments: Any, **named: Any) -> Any:
        if where == "after the warnings":
            await give(*arguments, **named)
        if where == "at the commit":
            await put_back(*arguments, **named)
            await arguments[0].execute("SELECT pg_terminate_backend(pg_backend_pid())")
        raise ZeroDivisionError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(*((jobs, "put_back") if where == "at the commit" else (warning_store, "give")), failing)
        with pytest.raises(Exception):  # noqa: B017 - what it is depends on where
            await service.notifier.warnings.step()
    assert await kinds(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM authsvc.key_warnings") == 0
    assert sum(service.notifier.warnings.written.values()) == 0
    assert not await service.notifier.warnings.step()
    assert await warned(connection) == [(EXPIRING, key_id) for key_id in made]


def another(database: Database, clock: Clock) -> KeyWarnings:
    """Return the warnings of another worker."""
    return KeyWarnings(database, MailRecipients(enabled=True), OwnerPolicy(), clock)


async def test_one_worker_at_a_time(
    service: Service, database: Database, connection: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a worker has a batch the others do nothing; together they warn of each key once."""
    monkeypatch.setattr(key_warnings, "BATCH_KEYS", 2)
    made = await expiring(service, clock, 9)
    async with database.transaction() as held:
        assert await jobs.take(held, "key_warnings", clock()) == ""
        assert not await another(database, clock).step()
        assert await kinds(connection) == []
    workers = [another(database, clock) for _ in range(4)]
    while any(await asyncio.gather(*(worker.step() for worker in workers))):
        pass
    assert await warned(connection) == [(EXPIRING, key_id) for key_id in made]
    assert sum(worker.written[EXPIRING] for worker in workers) == len(made)


async def test_two_that_write_the_same_warning(
    service: Service, database: Database, connection: Any, clock: Clock
) -> None:
    """Even without the lock of the job: the row is unique, and the second writer tells nobody."""
    [key_id] = await expiring(service, clock, 1)
    terms = Terms(mailed=WARNINGS, has_operator=False, rotation_period=timedelta(0), keys_enabled=True)
    since = clock() - 100 * DAY
    async with database.transaction() as one, database.transaction() as other:
        found = []
        for each in (one, other):
            due = await warning_store.list_due(each, terms, clock(), since=since, after="", size=9, most=9)
            found.append([w for key, _ in due.keys for w in due_warnings(key, clock(), since=since)])
        assert found[0] == found[1] != []
        assert await warning_store.give(one, found[0], clock()) == [EXPIRING]
        second = asyncio.ensure_future(warning_store.give(other, found[1], clock()))
        waits = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with asyncio.timeout(10):
            while not await connection.fetchval(waits):
                pass
        await one.execute("COMMIT; BEGIN")
        assert await second == []
    assert await warned(connection) == [(EXPIRING, key_id)]


async def test_a_key_that_a_change_has_locked_waits_for_nobody(
    service: Service, database: Database, connection: Any, clock: Clock
) -> None:
    """The walk leaves it to the next one, and goes on."""
    locked, other = await expiring(service, clock, 2)
    async with database.transaction() as change:
        await change.execute("SELECT FROM authsvc.keys WHERE key_id = $1 FOR UPDATE", locked)
        await walk(service)
        assert await warned(connection) == [(EXPIRING, other)]
    await walk(service)
    assert await warned(connection) == [(EXPIRING, locked)]


async def test_a_key_that_ends_between_the_steps_is_not_warned_of(
    service: Service, connection: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found due, and is revoked or deleted before its warning is written."""
    revoked, deleted, other = await expiring(service, clock, 3)
    give = warning_store.give

    async def late(*arguments: Any) -> Any:
        for key_id in (revoked, deleted):
            await service.admin.RevokeKey(key_id=key_id)
        await service.admin.DeleteKey(key_id=deleted)
        return await give(*arguments)

    monkeypatch.setattr(warning_store, "give", late)
    await walk(service)
    assert await warned(connection) == [(EXPIRING, other)]


@pytest.mark.parametrize("what", ["notifications", "mails", "deliveries"])
async def test_it_does_not_run_far_ahead(
    service: Service, connection: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """With much to be sent already there is a batch every 30 seconds; without, one after the other."""
    monkeypatch.setattr(key_warnings, "MAX_BACKLOG", 3)
    monkeypatch.setattr(key_warnings, "BATCH_KEYS", 1)
    monkeypatch.setattr(key_warnings, "MAX_WARNED_KEYS", 1)
    await expiring(service, clock, 4)
    await service.notifier.spread.work()
    await connection.execute("UPDATE authsvc.mails SET state = 'sent'")
    waiting = await connection.fetch("SELECT notification_id FROM authsvc.notifications LIMIT 3")
    ids = [row["notification_id"] for row in waiting]
    if what == "notifications":
        await connection.execute(
            "UPDATE authsvc.notifications SET spread_time = NULL WHERE notification_id = ANY($1)", ids
        )
    elif what == "mails":
        await connection.execute(
            "UPDATE authsvc.mails SET state = 'pending', next_time = $2 WHERE notification_id = ANY($1)",
            ids,
            clock(),
        )
    else:
        await connection.execute(_WEBHOOK, "whk_1", "authsvc", ["key.created"], True)
        await connection.execute(
            "INSERT INTO authsvc.webhook_deliveries"
            " (delivery_id, webhook_id, notification_id, create_time, next_time)"
            " SELECT i, 'whk_1', i, $2, $2 FROM unnest($1::text[]) AS i",
            ids,
            clock(),
        )
    step = service.notifier.warnings.step
    await jobs.put_back(connection, "key_warnings", "", clock())
    assert await step()  # None was made for a long time.
    assert not await step()
    clock.now += timedelta(seconds=30) - TICK
    assert not await step()
    clock.now += TICK
    assert await step()
    assert not await step()
    await connection.execute("UPDATE authsvc.notifications SET spread_time = $1", clock())
    await connection.execute("UPDATE authsvc.mails SET next_time = $1", clock() + TICK)
    await connection.execute("UPDATE authsvc.webhooks SET failing_since = $1", clock())
    assert await step()
