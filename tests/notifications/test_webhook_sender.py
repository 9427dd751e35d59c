"""The deliveries of webhooks: each line by itself, in order, and until they are made or given up."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from authsvc.model.address import network
from authsvc.model.retry_schedule import MAX_ATTEMPTS
from authsvc.model.webhook import Attempt, Outcome, Webhook
from authsvc.notifications.webhooks import sender as sender_module
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.sender import FAILING_LINES, LEASE, LINES, OWNER_LINES, WebhookSender
from authsvc.store import webhook_deliveries
from authsvc.store.pool import Database
from authsvc.store.webhook_deliveries import DueDelivery, Line, claim_lines, next_delivery
from tests.conftest import Clock, eventually
from tests.notifications.receiver import answering, receiving
from tests.notifications.webhook_rows import KEYS, deliveries, insert_deliveries, insert_webhook, webhook

_OK = Attempt(204)
_BROKEN = Attempt(500, "answered 500", None, Outcome.ANSWERED)
_CONTACTS = [{"name": "Ann", "email": "ann@example.org"}]


@dataclass
class Calls:
    """Stands in for the network: what was called, and what became of it."""

    answer: Callable[[Webhook, str], Awaitable[Attempt]]
    made: list[tuple[str, str]] = field(default_factory=list)

    async def call(self, webhook: Webhook, message_id: str, body: bytes) -> Attempt:
        self.made.append((webhook.webhook_id, message_id))
        return await self.answer(webhook, message_id)

    @property
    def ids(self) -> list[str]:
        return [message_id for _, message_id in self.made]


def _always(attempt: Attempt) -> Calls:
    async def answer(_: Webhook, __: str) -> Attempt:
        return attempt

    return Calls(answer)


@dataclass
class World:
    """A database with webhooks, and senders of it."""

    database: Database
    connection: "asyncpg.Connection[asyncpg.Record]"
    clock: Clock

    def sender(self, calls: Any) -> WebhookSender:
        return WebhookSender(self.database, calls, self.clock, random=lambda: 0)

    async def step(self, sender: WebhookSender) -> None:
        """Make the deliveries that are due now."""
        await sender.look()
        await sender.settle()

    async def line_seconds(self, webhook_id: str = "whk_1") -> float:
        """Return in how many seconds the line is free."""
        row = await webhook(self.connection, webhook_id)
        free: datetime = row["held_until"] or row["line_time"]
        return (free - self.clock()).total_seconds()

    async def notifications(self, kind: str) -> list[dict[str, Any]]:
        rows = await self.connection.fetch("SELECT * FROM authsvc.notifications WHERE type = $1", kind)
        return [dict(row) for row in rows]


@pytest.fixture
def short_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that never end are cut off at once when a sender stops."""
    monkeypatch.setattr(sender_module, "_STOP_SECONDS", 0.01)


@pytest_asyncio.fixture
async def world(database_url: str, clock: Clock) -> AsyncIterator[World]:
    async with Database.open(database_url, size=4) as database:
        connection = await asyncpg.connect(database_url)
        try:
            yield World(database, connection, clock)
        finally:
            await connection.close()


async def test_in_the_order_of_creation(world: World) -> None:
    """Each is noted with its outcome, and the line is free afterwards."""
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 5)
    calls = _always(_OK)
    sender = world.sender(calls)
    await world.step(sender)
    assert calls.ids == ids
    for row in await deliveries(world.connection):
        assert (row["state"], row["attempt_count"], row["response_status"], row["error"]) == (
            *("delivered", 1, 204),
            "",
        )
        assert row["attempt_time"] == world.clock()
    assert await world.line_seconds() == 0
    assert sender.attempts == {"delivered": 5}
    await world.step(sender)
    assert calls.ids == ids


async def test_a_new_delivery_of_a_quiet_webhook_is_found(world: World) -> None:
    await insert_webhook(world.connection, world.clock())
    calls = _always(_OK)
    sender = world.sender(calls)
    await world.step(sender)
    world.clock.advance(days=3)
    ids = await insert_deliveries(world.connection, world.clock())
    await world.step(sender)
    assert calls.ids == ids


async def test_a_failure_ends_the_line(world: World) -> None:
    """A dead webhook costs one attempt at a time, however much there is to tell it."""
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 3)
    calls = _always(_BROKEN)
    sender = world.sender(calls)
    await world.step(sender)
    assert calls.ids == ids[:1]
    first, second, _ = await deliveries(world.connection)
    assert (first["state"], first["attempt_count"], first["response_status"]) == ("pending", 1, 500)
    assert first["error"] == "answered 500"
    assert first["next_time"] == world.clock() + timedelta(seconds=5)
    assert second["attempt_count"] == 0
    assert await world.line_seconds() == 5
    assert (await webhook(world.connection))["failing_since"] == world.clock()
    world.clock.advance(seconds=4.9)
    await world.step(sender)
    assert len(calls.ids) == 1
    world.clock.advance(seconds=0.1)
    await world.step(sender)
    assert calls.ids == [ids[0], ids[0]]
    # What is due next goes on, so that one delivery that is always refused does not hold up the others.
    world.clock.advance(seconds=5)
    await world.step(sender)
    assert calls.ids == [ids[0], ids[0], ids[1]]


async def test_a_delivery_that_is_always_refused_holds_up_no_other(world: World) -> None:
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 3)

    async def answer(_: Webhook, message_id: str) -> Attempt:
        return _BROKEN if message_id == ids[0] else _OK

    calls = Calls(answer)
    sender = world.sender(calls)
    for _ in range(3):
        await world.step(sender)
        world.clock.advance(seconds=5)
    assert calls.ids == [ids[0], ids[0], ids[1], ids[2]]
    assert (await webhook(world.connection))["failing_since"] is None


async def test_ten_attempts_and_no_more(world: World) -> None:
    """The last of them is made after three days. It can be delivered again by hand."""
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock())
    calls = _always(_BROKEN)
    sender = world.sender(calls)
    waits = []
    for _ in range(MAX_ATTEMPTS):
        await world.step(sender)
        [row] = await deliveries(world.connection)
        if row["state"] == "pending":
            waits.append((row["next_time"] - world.clock()).total_seconds())
            world.clock.now = row["next_time"]
    hours = 3600
    assert waits == [5, 300, 1800, 2 * hours, 5 * hours, 10 * hours, 14 * hours, 20 * hours, 24 * hours]
    assert (row["state"], row["attempt_count"], len(calls.made)) == ("failed", 10, 10)
    world.clock.advance(days=2)
    await world.step(sender)
    assert len(calls.made) == 10
    await world.connection.execute(
        "UPDATE authsvc.webhook_deliveries SET state = 'pending', attempt_count = 0, next_time = $1",
        world.clock(),
    )
    await world.step(sender)
    assert len(calls.made) == 11


async def test_retry_after(world: World) -> None:
    """It puts off the whole line, and not for longer than a day."""
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock(), 2)
    calls = _always(Attempt(429, "answered 429", timedelta(days=9), Outcome.ANSWERED))
    await world.step(world.sender(calls))
    first, _ = await deliveries(world.connection)
    assert first["next_time"] == world.clock() + timedelta(days=1)
    assert await world.line_seconds() == 86400


async def test_410_disables_at_once(world: World) -> None:
    """The owner is told, and what waited is given up."""
    await insert_webhook(
        world.connection,
        world.clock(),
        contacts=_CONTACTS,
        url="https://hooks.example.com/secret?token=secret",
    )
    await insert_deliveries(world.connection, world.clock(), 3)
    sender = world.sender(_always(Attempt(410, "answered 410", None, Outcome.ANSWERED)))
    await world.step(sender)
    row = await webhook(world.connection)
    assert (row["enabled"], row["disable_reason"], row["version"]) == (False, "gone", 2)
    assert row["update_time"] == world.clock()
    assert [
        (each["state"], each["attempt_count"], each["error"]) for each in await deliveries(world.connection)
    ] == [
        ("failed", 1, "the webhook answered 410 and was disabled"),
        ("failed", 0, "the webhook answered 410 and was disabled"),
        ("failed", 0, "the webhook answered 410 and was disabled"),
    ]
    [told] = await world.notifications("webhook.disabled")
    assert (told["owner_id"], told["target_id"], told["position"]) == ("acme", "whk_1", None)
    assert json.loads(told["contacts"]) == _CONTACTS
    subject = json.loads(told["subject"])
    assert subject["url"] == "https://hooks.example.com"
    assert (subject["webhook_id"], subject["disable_reason"]) == ("whk_1", "gone")
    assert subject["last_error"] == "answered 410"
    assert sender.disabled == 1


async def test_410_of_a_url_that_was_replaced_meanwhile(world: World) -> None:
    """It says nothing about the new URL, which is called as usual."""
    await insert_webhook(world.connection, world.clock(), url="https://old.example.com/")
    await insert_deliveries(world.connection, world.clock(), 2)
    urls = []

    async def answer(webhook: Webhook, _: str) -> Attempt:
        urls.append(webhook.url)
        if "old" not in webhook.url:
            return _OK
        await world.connection.execute("UPDATE authsvc.webhooks SET url = 'https://new.example.com/'")
        return Attempt(410, "answered 410", None, Outcome.ANSWERED)

    sender = world.sender(Calls(answer))
    await world.step(sender)
    row = await webhook(world.connection)
    assert (row["enabled"], row["failing_since"], sender.disabled) == (True, None, 0)
    world.clock.advance(seconds=6)
    await world.step(sender)
    assert urls == ["https://old.example.com/", *["https://new.example.com/"] * 2]
    assert {each["state"] for each in await deliveries(world.connection)} == {"delivered"}


async def test_five_days_of_failures(world: World) -> None:
    """Warned after three, once; disabled after five."""
    start = world.clock()
    await insert_webhook(world.connection, start, contacts=_CONTACTS)
    sender = world.sender(_always(_BROKEN))
    for hour in range(5 * 24 + 1):
        world.clock.now = start + timedelta(hours=hour)
        await insert_deliveries(world.connection, world.clock(), start=hour + 1)
        await world.step(sender)
        assert len(await world.notifications("webhook.failing")) == (hour >= 72)
        assert (await webhook(world.connection))["enabled"] is (hour < 120)
    [warned] = await world.notifications("webhook.failing")
    assert warned["event_time"] == start + timedelta(days=3)
    assert json.loads(warned["subject"])["failing_since"] == start.isoformat().replace("+00:00", "Z")
    assert json.loads(warned["contacts"]) == _CONTACTS
    [disabled] = await world.notifications("webhook.disabled")
    assert disabled["event_time"] == start + timedelta(days=5)
    row = await webhook(world.connection)
    assert (row["disable_reason"], row["failing_since"]) == ("failing", start)
    assert {each["state"] for each in await deliveries(world.connection)} == {"failed"}


async def test_a_success_ends_the_failures(world: World) -> None:
    start = world.clock()
    await insert_webhook(world.connection, start)
    calls = _always(_BROKEN)
    sender = world.sender(calls)
    for hour in range(100):
        world.clock.now = start + timedelta(hours=hour)
        await insert_deliveries(world.connection, world.clock(), start=hour + 1)
        await world.step(sender)
    assert (await webhook(world.connection))["warn_time"] is not None

    async def answer(_: Webhook, __: str) -> Attempt:
        return _OK

    calls.answer = answer
    world.clock.advance(hours=1)
    await world.step(sender)
    row = await webhook(world.connection)
    assert (row["failing_since"], row["warn_time"], row["enabled"]) == (None, None, True)


async def test_a_warning_and_its_mark_are_one_transaction(world: World) -> None:
    """If the warning cannot be written, the attempt is made again, and the warning too."""
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock())
    await world.connection.execute(
        "UPDATE authsvc.webhooks SET failing_since = $1", world.clock() - timedelta(days=4)
    )
    await world.connection.execute("ALTER TABLE authsvc.notifications ADD CHECK (type <> 'webhook.failing')")
    calls = _always(_BROKEN)
    sender = world.sender(calls)
    await sender.look()
    await sender.settle()
    assert (await webhook(world.connection))["warn_time"] is None
    [row] = await deliveries(world.connection)
    assert row["attempt_count"] == 0
    # Not at once: an error that stays would have the receiver called again and again.
    await world.step(sender)
    assert len(calls.made) == 1
    world.clock.advance(seconds=LEASE.total_seconds() + 1)
    await world.connection.execute(
        "ALTER TABLE authsvc.notifications DROP CONSTRAINT notifications_type_check"
    )
    await world.step(sender)
    assert len(await world.notifications("webhook.failing")) == 1
    assert len(calls.made) == 2


async def test_a_key_that_the_operator_no_longer_has(world: World) -> None:
    """It is no fault of the webhook's, which is not warned about or disabled."""
    await insert_webhook(world.connection, world.clock(), key_id="0123456789abcdef")
    await insert_deliveries(world.connection, world.clock())
    sender = world.sender(WebhookCaller(KEYS, AddressRules(), world.clock))
    await world.step(sender)
    [row] = await deliveries(world.connection)
    assert (row["state"], row["attempt_count"]) == ("pending", 1)
    assert "AUTHSVC_WEBHOOK_KEYS" in row["error"]
    assert (await webhook(world.connection))["failing_since"] is None
    assert sender.attempts == {"unsigned": 1}


async def test_a_fault_of_ours_holds_up_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 2)

    async def answer(_: Webhook, message_id: str) -> Attempt:
        if message_id == ids[0]:
            raise ZeroDivisionError
        return _OK

    calls = Calls(answer)
    sender = world.sender(calls)
    await world.step(sender)
    world.clock.advance(minutes=1)
    await world.step(sender)
    world.clock.advance(minutes=1)
    await world.step(sender)
    assert calls.ids == [ids[0], ids[0], ids[1]]
    assert "unexpected error in delivery" in caplog.text
    assert (await webhook(world.connection))["failing_since"] is None


async def test_changes_of_a_webhook_in_the_middle_of_its_line(world: World) -> None:
    """The next call is by the row as it is then; none of a webhook that was disabled or deleted."""
    urls = []
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 4)
    changes = iter(
        (
            "UPDATE authsvc.webhooks SET url = 'https://new.example.com/'",
            "UPDATE authsvc.webhooks SET enabled = false",
            "DELETE FROM authsvc.webhooks",
        )
    )

    async def answer(webhook: Webhook, _: str) -> Attempt:
        urls.append(webhook.url)
        await world.connection.execute(next(changes))
        return _OK

    calls = Calls(answer)
    sender = world.sender(calls)
    await world.step(sender)
    assert urls == ["https://hooks.example.com/", "https://new.example.com/"]
    await world.step(sender)
    assert calls.ids == ids[:2]
    await world.connection.execute("UPDATE authsvc.webhooks SET enabled = true")
    await world.step(sender)
    assert calls.ids == ids[:3]
    assert await deliveries(world.connection) == []


async def test_deliveries_of_a_webhook_that_its_owner_has_disabled(world: World) -> None:
    """They wait for five days."""
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock(), 2)
    await world.connection.execute("UPDATE authsvc.webhooks SET enabled = false")
    sender = world.sender(_always(_OK))
    world.clock.advance(days=5)
    await sender.tidy()
    assert {row["state"] for row in await deliveries(world.connection)} == {"pending"}
    world.clock.advance(seconds=1)
    await sender.tidy()
    assert {(row["state"], row["error"]) for row in await deliveries(world.connection)} == {
        ("failed", "the webhook is disabled")
    }


async def test_many_deliveries_of_a_webhook_that_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are given up in batches, also what was written down at the same time, or by a worker that died."""
    monkeypatch.setattr(sender_module, "_BATCH", 4)
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock(), 10)
    sender = world.sender(_always(Attempt(410, "answered 410", None, Outcome.ANSWERED)))
    await world.step(sender)
    assert {row["state"] for row in await deliveries(world.connection)} == {"failed"}
    await insert_deliveries(world.connection, world.clock(), 3, start=11)
    await world.sender(_always(_OK)).tidy()
    assert {row["state"] for row in await deliveries(world.connection)} == {"failed"}


@pytest.mark.usefixtures("short_stops")
async def test_a_dead_webhook_beside_50_healthy_ones(world: World) -> None:
    """They get theirs while the call of the dead one is under way: it never ends in this test."""
    hanging = asyncio.Event()

    async def hang(*_: object) -> None:
        hanging.set()
        await asyncio.Event().wait()

    async with receiving(hang) as dead, receiving() as healthy:
        await insert_webhook(world.connection, world.clock(), "whk_00", url=f"http://127.0.0.1:{dead.port}/")
        await insert_deliveries(world.connection, world.clock(), 5, "whk_00")
        expected = []
        for number in range(1, 51):
            name = f"whk_{number:02}"
            await insert_webhook(
                world.connection, world.clock(), name, url=f"http://127.0.0.1:{healthy.port}/{name}"
            )
            expected += await insert_deliveries(world.connection, world.clock(), 2, name)
        caller = WebhookCaller(KEYS, AddressRules([network("127.0.0.0/8")]), world.clock)
        sender = world.sender(caller)
        await sender.look()
        await hanging.wait()

        async def delivered() -> list[str]:
            await sender.due(0.01)
            await sender.look()
            return healthy.ids

        await eventually(delivered, lambda ids: len(ids) == len(expected))
        assert sorted(healthy.ids) == sorted(expected)
        for number in range(1, 51):
            mine = [request for request in healthy.requests if f"/whk_{number:02} " in request.line]
            assert [request.headers["webhook-id"][-1] for request in mine] == ["1", "2"]

        async def lines() -> int:
            await sender.due(0.01)
            return sender.lines

        await eventually(lines, lambda count: count == 1)
        assert (dead.connections, dead.open) == (1, 1)
        await sender.stop()


@pytest.mark.usefixtures("short_stops")
async def test_failing_webhooks_use_half_of_the_lines(world: World) -> None:
    """However many they are, and however long they have waited."""
    for number in range(2 * LINES):
        await insert_webhook(
            world.connection,
            world.clock() - timedelta(hours=1),
            f"whk_dead_{number:03}",
            owner_id=f"owner_{number}",
        )
        await insert_deliveries(world.connection, world.clock(), 1, f"whk_dead_{number:03}")
    await world.connection.execute("UPDATE authsvc.webhooks SET failing_since = create_time")
    for number in range(2 * LINES):
        await insert_webhook(world.connection, world.clock(), f"whk_well_{number:03}")
        await insert_deliveries(world.connection, world.clock(), 1, f"whk_well_{number:03}")

    async def answer(webhook: Webhook, _: str) -> Attempt:
        if "dead" in webhook.webhook_id:
            await asyncio.Event().wait()
        return _OK

    calls = Calls(answer)
    sender = world.sender(calls)

    async def counts() -> Counter[str]:
        await sender.look()
        assert sender.lines <= LINES
        await sender.due(0.01)
        return Counter(webhook_id[:8] for webhook_id, _ in calls.made)

    await eventually(counts, lambda found: found["whk_well"] == 2 * LINES)
    assert (await counts())["whk_dead"] == FAILING_LINES
    await sender.stop()


@pytest.mark.usefixtures("short_stops")
async def test_slow_receivers_of_one_owner_leave_room(world: World) -> None:
    """Also where several workers look, and beside failing ones of the same owner."""
    for number in range(LINES):
        for kind in ("slow", "dead"):
            await insert_webhook(
                world.connection, world.clock() - timedelta(hours=1), f"whk_{kind}_{number:02}"
            )
            await insert_deliveries(world.connection, world.clock(), 1, f"whk_{kind}_{number:02}")
    await world.connection.execute(
        "UPDATE authsvc.webhooks SET failing_since = create_time WHERE webhook_id LIKE 'whk_dead%'"
    )
    await insert_webhook(world.connection, world.clock(), "whk_other", owner_id="other")
    await insert_deliveries(world.connection, world.clock(), 1, "whk_other")

    async def answer(webhook: Webhook, _: str) -> Attempt:
        if webhook.owner_id == "acme":
            await asyncio.Event().wait()
        return _OK

    calls = Calls(answer)
    senders = [world.sender(calls) for _ in range(2)]

    async def counts() -> Counter[str]:
        for sender in senders:
            await sender.look()
        return Counter(webhook_id.split("_")[1] for webhook_id, _ in calls.made)

    await eventually(counts, lambda found: found["other"] == 1)
    for _ in range(3):
        assert await counts() == {"slow": OWNER_LINES, "dead": OWNER_LINES, "other": 1}
    for sender in senders:
        await sender.stop()


async def test_claimed_in_the_order_in_which_they_have_waited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that got its turn goes to the end of the queue."""
    monkeypatch.setattr(sender_module, "LINES", 1)
    monkeypatch.setattr(sender_module, "TURN_DELIVERIES", 2)
    for name in ("whk_b", "whk_a"):
        await insert_webhook(world.connection, world.clock(), name)
        await insert_deliveries(world.connection, world.clock(), 4, name)
        world.clock.advance(seconds=1)
    calls = _always(_OK)
    sender = world.sender(calls)
    for _ in range(4):
        await world.step(sender)
        world.clock.advance(seconds=1)
    assert [webhook_id for webhook_id, _ in calls.made] == ["whk_b"] * 2 + ["whk_a"] * 2 + ["whk_b"] * 2 + [
        "whk_a"
    ] * 2


async def test_a_turn_ends_after_its_time(world: World) -> None:
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 5)

    async def answer(_: Webhook, __: str) -> Attempt:
        world.clock.advance(seconds=4)
        return _OK

    calls = Calls(answer)
    await world.step(world.sender(calls))
    assert calls.ids == ids[:3]
    assert await world.line_seconds() == 0


async def test_several_workers_never_share_a_line(world: World, database_url: str) -> None:
    """Two of one replica and one of another: each delivery is made once, one at a time of a webhook."""
    expected = []
    for number in range(20):
        await insert_webhook(world.connection, world.clock(), f"whk_{number:02}")
        expected += await insert_deliveries(world.connection, world.clock(), 8, f"whk_{number:02}")
    under_way = Counter[str]()

    async def answer(webhook: Webhook, _: str) -> Attempt:
        under_way[webhook.webhook_id] += 1
        assert under_way[webhook.webhook_id] == 1
        await asyncio.sleep(0)
        under_way[webhook.webhook_id] -= 1
        return _OK

    calls = Calls(answer)
    async with Database.open(database_url, size=4) as other:
        senders = [world.sender(calls), world.sender(calls), WebhookSender(other, calls, world.clock)]  # type: ignore[arg-type]

        async def work() -> list[str]:
            await asyncio.gather(*(sender.look() for sender in senders))
            await asyncio.gather(*(sender.due(0.01) for sender in senders))
            return calls.ids

        await eventually(work, lambda ids: len(ids) >= len(expected))
        await asyncio.gather(*(sender.settle() for sender in senders))
    assert sorted(calls.ids) == sorted(expected)
    assert {row["state"] for row in await deliveries(world.connection)} == {"delivered"}


async def test_a_worker_that_has_lost_its_line(world: World) -> None:
    """It was stopped for longer than its lease. Its call counts; it makes no other one of that line."""
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 3)
    called, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Webhook, __: str) -> Attempt:
        called.set()
        await go_on.wait()
        return _OK

    stopped, other = Calls(slow), _always(_BROKEN)
    first, second = world.sender(stopped), world.sender(other)
    await first.look()
    await called.wait()
    world.clock.advance(seconds=LEASE.total_seconds() - 1)
    await world.step(second)
    assert other.ids == []
    world.clock.advance(seconds=2)
    await world.step(second)
    assert other.ids == ids[:1]
    held = await world.line_seconds()
    go_on.set()
    await first.settle()
    assert stopped.ids == ids[:1]
    assert (await deliveries(world.connection))[0]["state"] == "delivered"
    assert await world.line_seconds() == held


async def test_a_worker_that_loses_its_line_before_its_first_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for the database for longer than its lease, and another worker is in the middle of it."""
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock(), 2)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def late(*arguments: Any) -> DueDelivery | None:
        asked.set()
        await go_on.wait()
        return await next_delivery(*arguments)

    monkeypatch.setattr(webhook_deliveries, "next_delivery", late)
    calls, others = _always(_OK), []
    first = world.sender(calls)
    await first.look()
    await asked.wait()
    monkeypatch.undo()
    world.clock.advance(seconds=LEASE.total_seconds() + 1)

    async def answer(_: Webhook, message_id: str) -> Attempt:
        others.append(message_id)
        go_on.set()
        await first.settle()
        return _OK

    await world.step(world.sender(Calls(answer)))
    assert (len(calls.made), len(others)) == (0, 2)


async def test_a_failure_that_another_worker_has_noted_is_not_counted_twice(world: World) -> None:
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock())
    called, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Webhook, __: str) -> Attempt:
        called.set()
        await go_on.wait()
        return _BROKEN

    first = world.sender(Calls(slow))
    await first.look()
    await called.wait()
    world.clock.advance(seconds=LEASE.total_seconds() + 1)
    await world.step(world.sender(_always(_BROKEN)))
    go_on.set()
    await first.settle()
    [row] = await deliveries(world.connection)
    assert row["attempt_count"] == 1


async def test_a_stop_lets_the_call_under_way_end(world: World) -> None:
    """No other one begins, and the line is free for another worker at once."""
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 3)
    called, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Webhook, __: str) -> Attempt:
        called.set()
        await go_on.wait()
        return _OK

    calls = Calls(slow)
    sender = world.sender(calls)
    await sender.look()
    await called.wait()
    stopping = asyncio.create_task(sender.stop())
    await asyncio.sleep(0)  # It has begun.
    go_on.set()
    await stopping
    assert calls.ids == ids[:1]
    assert [row["state"] for row in await deliveries(world.connection)] == ["delivered", "pending", "pending"]
    assert await world.line_seconds() == 0
    assert await sender.look() == 0
    other = _always(_OK)
    await world.step(world.sender(other))
    assert other.ids == ids[1:]


@pytest.mark.usefixtures("short_stops")
async def test_a_stop_cuts_off_a_call_that_does_not_end(world: World) -> None:
    await insert_webhook(world.connection, world.clock())
    ids = await insert_deliveries(world.connection, world.clock(), 2)
    called = asyncio.Event()

    async def hang(_: Webhook, __: str) -> Attempt:
        called.set()
        await asyncio.Event().wait()
        return _OK

    sender = world.sender(Calls(hang))
    await sender.look()
    await called.wait()
    await sender.stop()
    assert await world.line_seconds() == 0
    assert [row["attempt_count"] for row in await deliveries(world.connection)] == [0, 0]
    other = _always(_OK)
    await world.step(world.sender(other))
    assert other.ids == ids


async def test_a_stop_in_the_middle_of_a_look_leaves_no_line_claimed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the line is claimed, and the transaction is about to commit."""
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock())
    claimed = asyncio.Event()

    async def claim(*arguments: Any, **options: Any) -> list[Line]:
        lines = await claim_lines(*arguments, **options)
        claimed.set()
        return lines

    monkeypatch.setattr(webhook_deliveries, "claim_lines", claim)
    sender = world.sender(_always(_OK))
    look = asyncio.create_task(sender.look())
    await claimed.wait()
    look.cancel()
    await asyncio.gather(look, return_exceptions=True)
    await sender.stop()
    assert await world.line_seconds() == 0


async def test_a_redelivery_while_the_line_is_held(world: World) -> None:
    """It moves `line_time`, which ends a pause, and never lets a second worker in."""
    await insert_webhook(world.connection, world.clock())
    await insert_deliveries(world.connection, world.clock(), 2)
    called, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Webhook, __: str) -> Attempt:
        called.set()
        await go_on.wait()
        return _OK

    calls, other = Calls(slow), _always(_OK)
    sender = world.sender(calls)
    await sender.look()
    await called.wait()
    await world.connection.execute(
        "UPDATE authsvc.webhooks SET line_time = least(line_time, $1)", world.clock() - timedelta(seconds=1)
    )
    await world.step(world.sender(other))
    go_on.set()
    await sender.settle()
    assert (len(calls.made), len(other.made)) == (2, 0)


async def test_statuses_of_a_real_receiver(world: World) -> None:
    """A receiver that is busy, then answers, then is gone."""
    answers = iter(
        (
            answering(503, "Retry-After: 60\r\n"),
            answering(301, "Location: /x\r\n"),
            answering(200),
            answering(410),
        )
    )
    async with receiving(lambda request, writer: next(answers)(request, writer)) as receiver:
        await insert_webhook(world.connection, world.clock(), url=f"http://127.0.0.1:{receiver.port}/")
        await insert_deliveries(world.connection, world.clock(), 2)
        sender = world.sender(WebhookCaller(KEYS, AddressRules([network("127.0.0.0/8")]), world.clock))
        noted = []
        for _ in range(3):
            await world.step(sender)
            rows = await deliveries(world.connection)
            noted.append([(row["state"], row["response_status"], row["error"]) for row in rows])
            world.clock.advance(minutes=10)
    assert noted == [
        [("pending", 503, "answered 503"), ("pending", 0, "")],
        [("pending", 301, "answered 301; redirects are not followed"), ("pending", 0, "")],
        [("delivered", 200, ""), ("failed", 410, "the webhook answered 410 and was disabled")],
    ]
