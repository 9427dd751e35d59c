"""Mails an hour: to one address, and about one owner. What is over a limit waits, and is combined."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from authsvc.model.key import TechnicalContact
from authsvc.notifications.mail.claims import BATCH, MAX_COMBINED, MAX_DUE, MailLimits
from authsvc.notifications.recipients import MailRecipients
from authsvc.store import purge as jobs
from authsvc.store.pool import Database
from tests.conftest import Clock
from tests.notifications.smtp import StubServer, add, mail_server, notification, rows, sender_of, server_at

ANN, BOB = "ann@example.org", "bob@example.org"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[StubServer]:
    async with mail_server() as stub:
        yield stub


async def test_what_is_due_for_one_address_is_one_message(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """Of several owners, too; and it stays one message when it is tried again."""
    server.answers["DATA"] = ["451 later"]
    await add(database, clock, [ANN], notification(1), notification(2, owner_id="other"))
    sender = sender_of(database, clock, server_at(server.port))
    await sender.work()
    await add(database, clock, [ANN], notification(3))
    await sender.work()
    clock.advance(minutes=1)
    await sender.work()
    assert [arrived.message["Subject"] for arrived in server.arrived] == [
        'API key "job 3" was created',
        "2 notifications about API keys",
    ]
    first, second, third = await rows(database_url)
    assert first["message_id"] == second["message_id"] != third["message_id"]
    assert first["message_id"].startswith("evt_1.")


async def test_the_limit_of_an_address(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    sender = sender_of(database, clock, server_at(server.port), limits=MailLimits(3, 100))
    for number in range(10):
        await add(database, clock, [ANN, BOB] if number == 9 else [ANN], notification(number))
        await sender.work()
        clock.advance(minutes=1)
    assert server.recipients == [ANN, ANN, ANN, BOB]
    clock.advance(minutes=49)  # 59 minutes after the first
    await sender.work()
    assert len(server.arrived) == 4
    clock.advance(minutes=2)
    await sender.work()
    assert server.arrived[4].message["Subject"] == "7 notifications about acme"
    assert {row["state"] for row in await rows(database_url)} == {"sent"}
    assert server.connections == 5


async def test_one_person_has_one_limit(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """However the address is written, by however many owners."""
    recipients = MailRecipients(enabled=True)
    sender = sender_of(database, clock, server_at(server.port), limits=MailLimits(3, 100))
    spellings = ["ann@example.org", "ANN@Example.org", "Ann+1@example.org", "ann+2@\uff45xample.org"]
    for number, address in enumerate([*spellings, "aNN@ex\u24d0mple.org"]):
        told = notification(number, owner_id=f"owner_{number}")
        [mail] = recipients.mails(told, [TechnicalContact("Ann", address)])
        await add(database, clock, [mail.address], told)
        await sender.work()
    assert [recipient.lower() for recipient in server.recipients] == [ANN, ANN, "ann+1@example.org"]
    await add(database, clock, ["ann@example.net"], notification(9))
    await sender.work()
    assert server.recipients[3:] == ["ann@example.net"]
    assert [row["state"] for row in await rows(database_url)].count("pending") == 2


async def test_the_limit_of_an_owner(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """Others' mail to the same address goes out, without it."""
    sender = sender_of(database, clock, server_at(server.port), limits=MailLimits(100, 3))
    addresses = [f"c{number}@example.org" for number in range(5)]
    await add(database, clock, addresses, notification(1))
    await add(database, clock, addresses[:1], notification(2, owner_id="other"))
    await add(database, clock, addresses[4:], notification(3, owner_id="other"))
    await sender.work()
    assert server.recipients == [addresses[0], addresses[1], addresses[2], addresses[4]]
    assert server.arrived[0].message["Subject"] == "2 notifications about API keys"
    assert server.arrived[3].message["Subject"] == 'API key "job 3" was created'
    clock.advance(minutes=61)
    await sender.work()
    assert server.recipients[4:] == [addresses[3], addresses[4]]
    assert {row["state"] for row in await rows(database_url)} == {"sent"}


async def test_messages_that_are_tried_again_count(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """Otherwise a server that takes all of them at last would pass them on within an hour."""
    server.to[ANN] = "451 later"
    sender = sender_of(database, clock, server_at(server.port), limits=MailLimits(2, 100))
    for number in range(6):
        await add(database, clock, [ANN], notification(number))
        await sender.work()
        clock.advance(minutes=31)
    server.to.clear()
    times = []
    for _ in range(40):
        before = len(server.arrived)
        await sender.work()
        times += [clock.now] * (len(server.arrived) - before)
        clock.advance(minutes=10)
    assert {row["state"] for row in await rows(database_url)} == {"sent"}
    assert len(times) > 2
    assert all((third - first).total_seconds() > 3600 for first, third in zip(times, times[2:], strict=False))


async def test_two_senders_share_the_limits(database: Database, clock: Clock, server: StubServer) -> None:
    """They claim one after the other."""
    senders = [
        sender_of(database, clock, server_at(server.port), limits=MailLimits(2, 100)) for _ in range(2)
    ]
    for number in range(4):
        await add(database, clock, [ANN], notification(number))
        await senders[number % 2].work()
    assert len(server.arrived) == 2


async def test_another_worker_is_claiming(database: Database, clock: Clock, server: StubServer) -> None:
    """The row of the job is locked: this worker leaves it to that one."""
    await add(database, clock, [ANN], notification(1))
    sender = sender_of(database, clock, server_at(server.port))
    async with database.transaction() as connection:
        assert await jobs.take(connection, "mails", clock()) is not None
        await sender.work()
        assert await sender._claims.claim() is None
    assert server.arrived == []
    await sender.work()
    assert server.recipients == [ANN]


async def test_an_owner_over_the_limit_holds_up_nobody(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """However many mails about it are due, to however many addresses."""
    sender = sender_of(database, clock, server_at(server.port), limits=MailLimits(10, 2))
    await add(
        database, clock, [f"c{number}@example.org" for number in range(2 * MAX_DUE + 2)], notification(1)
    )
    clock.advance(seconds=1)
    await add(database, clock, [ANN], notification(2, owner_id="other"))
    await sender.work()
    assert server.recipients == ["c0@example.org", "c1@example.org", ANN]
    waiting = [row for row in await rows(database_url) if row["state"] == "pending"]
    assert len(waiting) == 2 * MAX_DUE
    assert {row["attempt_count"] for row in waiting} == {0}
    clock.advance(minutes=61)
    await sender.work()
    assert len(server.recipients) == 5


async def test_of_very_many_mails_few_are_looked_at_again(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """Each waits for its turn, in the order of its address; others are looked at when there is room."""
    sender = sender_of(database, clock, server_at(server.port), limits=MailLimits(10, 10))
    addresses = [f"c{number:04}@example.org" for number in range(100)]
    await add(database, clock, addresses, notification(1))
    await sender.work()
    assert server.recipients == addresses[:10]
    await add(database, clock, addresses[98:], notification(2))  # Part of the messages that wait.
    await sender.work()
    start, turns = (
        clock(),
        [row["next_time"] for row in await rows(database_url) if row["state"] == "pending"],
    )
    waits = [int((turn - start).total_seconds() / 3600) for turn in turns]
    assert waits == [hour for hour in range(1, 10) for _ in range(10)] + [9, 9]
    for hour in range(1, 10):
        clock.now = start + timedelta(hours=hour, minutes=1)
        await sender.work()
        assert server.recipients == addresses[: 10 * (hour + 1)]
    assert server.arrived[-1].message["Subject"] == "2 notifications about acme"
    assert {row["state"] for row in await rows(database_url)} == {"sent"}


@pytest.mark.parametrize("count", [MAX_COMBINED + 5])
async def test_a_flood(
    database: Database, database_url: str, clock: Clock, server: StubServer, count: int
) -> None:
    """Bounded batches, and messages of a bounded size; other addresses are not held up."""
    flood = [notification(number, "key.expiring") for number in range(count)]
    await add(database, clock, [ANN], *flood)
    await add(database, clock, [f"c{number}@example.org" for number in range(BATCH + 1)], notification(count))
    sender = sender_of(database, clock, server_at(server.port), limits=MailLimits(1, 100))
    await sender.work()
    assert len(server.arrived) == 1 + BATCH + 1
    assert server.arrived[0].message["Subject"] == f"{MAX_COMBINED} notifications about acme"
    assert len(server.arrived[0].content) < 60_000
    assert server.connections == 3
    clock.advance(minutes=61)
    await sender.work()
    assert server.arrived[-1].message["Subject"] == "5 notifications about acme"
    assert {row["state"] for row in await rows(database_url)} == {"sent"}
