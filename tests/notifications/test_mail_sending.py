"""Mails that are due reach the mail server: each once, or again, as it answers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from authsvc.config.mail import Sender
from authsvc.model.errors import Unavailable
from authsvc.notifications.mail.claims import CLAIM_TIME
from authsvc.notifications.mail.connection import Timeouts
from authsvc.store import mails as mail_store
from authsvc.store import sending
from authsvc.store.pool import Database
from tests.conftest import Clock
from tests.notifications.smtp import (
    DIE,
    HANG,
    IMPATIENT,
    PATIENT,
    StubServer,
    add,
    lines_server,
    mail_server,
    notification,
    rows,
    sender_of,
    server_at,
)

ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.org"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[StubServer]:
    async with mail_server() as stub:
        yield stub


_READ_MAILS = """
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
  FROM pg_stat_xact_user_tables WHERE relname = 'mails'
"""


async def states(database_url: str) -> dict[str, str]:
    return {row["address"]: row["state"] for row in await rows(database_url)}


async def test_a_mail_is_sent_once(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """It is noted, so another sender finds nothing to do."""
    await add(database, clock, [ANN], notification(1))
    sender = sender_of(database, clock, server_at(server.port))
    await sender.work()
    await sender_of(database, clock, server_at(server.port)).work()
    [arrived] = server.arrived
    assert (arrived.sender, arrived.recipient) == ("noreply@sender.example", ANN)
    assert arrived.message["Message-ID"].startswith("<evt_1.")
    [row] = await rows(database_url)
    assert (row["state"], row["attempt_count"], row["reply_code"], row["error"]) == ("sent", 1, 250, "")
    assert (sender.sent, sender.failed, sender.failed_attempts) == (1, 0, 0)


async def test_one_connection_for_a_batch(database: Database, clock: Clock, server: StubServer) -> None:
    """A recipient each, so that they do not see each other."""
    await add(database, clock, [ANN, BOB, EVE], notification(1))
    await sender_of(database, clock, server_at(server.port)).work()
    assert server.recipients == [ANN, BOB, EVE]
    assert server.connections == 1
    assert len({arrived.message["Message-ID"] for arrived in server.arrived}) == 3


@pytest.mark.parametrize("step", ["RCPT", "DATA"])
async def test_greylisting(
    database: Database, database_url: str, clock: Clock, server: StubServer, step: str
) -> None:
    """What is refused for now is tried again, later and later, under the same id."""
    await add(database, clock, [ANN], notification(1))
    server.answers[step] = ["450 4.2.0 greylisted, come back later", "451 4.7.1 not yet"]
    sender = sender_of(database, clock, server_at(server.port))
    await sender.work()
    [first] = await rows(database_url)
    assert (first["state"], first["reply_code"]) == ("pending", 450)
    assert first["error"] == "450 4.2.0 greylisted, come back later"
    clock.advance(seconds=59)
    await sender.work()
    assert server.answers[step] == ["451 4.7.1 not yet"]
    clock.advance(seconds=1)
    await sender.work()
    clock.advance(minutes=5)
    await sender.work()
    [row] = await rows(database_url)
    assert (row["state"], row["attempt_count"], row["error"]) == ("sent", 3, "")
    [arrived] = server.arrived
    assert arrived.message["Message-ID"] == f"<{first['message_id']}>"
    assert sender.failed_attempts == 2


@pytest.mark.parametrize("step", ["RCPT", "DATA"])
async def test_one_bad_recipient_stops_nobody(
    database: Database, database_url: str, clock: Clock, server: StubServer, step: str
) -> None:
    """A 5xx ends that mail at once, and the others arrive over the same connection."""
    await add(database, clock, [ANN, BOB], notification(1))
    server.answers[step] = ["550 5.1.1 no such user"]
    sender = sender_of(database, clock, server_at(server.port))
    await sender.work()
    clock.advance(days=1)
    await sender.work()
    assert server.recipients == [BOB]
    assert server.connections == 1
    assert await states(database_url) == {ANN: "failed", BOB: "sent"}
    [failed, _] = await rows(database_url)
    assert (failed["reply_code"], failed["error"]) == (550, "550 5.1.1 no such user")
    assert (sender.sent, sender.failed) == (1, 1)


async def test_it_is_given_up_after_five_days(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """Not before, and with the last answer."""
    await add(database, clock, [ANN], notification(1))
    server.to[ANN] = "451 4.3.0 mailbox busy"
    sender = sender_of(database, clock, server_at(server.port))
    begin, attempts = clock.now, 0
    while (await states(database_url))[ANN] == "pending":
        assert clock.now - begin < timedelta(days=6)
        await sender.work()
        attempts += 1
        [row] = await rows(database_url)
        clock.now = max(clock.now, row["next_time"])
    assert timedelta(days=5) <= clock.now - begin
    assert 20 < attempts < 50
    assert (row["state"], row["error"]) == ("failed", "451 4.3.0 mailbox busy")


async def test_a_server_out_of_reach_costs_no_attempt(
    database: Database, database_url: str, clock: Clock, server: StubServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Mail waits, with growing pauses; the problem is logged once. Everything is sent in the end."""
    await add(database, clock, [ANN, BOB], notification(1))
    async with lines_server() as port:
        pass  # Nothing listens there any more.
    sender = sender_of(database, clock, server_at(port))
    for _ in range(8):
        await sender.work()
        clock.advance(minutes=10)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        f"no mail can be sent; it waits: 127.0.0.1:{port} cannot be connected to: Connection refused"
    ]
    assert [(row["state"], row["attempt_count"], row["message_id"]) for row in await rows(database_url)] == [
        ("pending", 0, "")
    ] * 2
    await sender_of(database, clock, server_at(server.port)).work()
    assert server.recipients == [ANN, BOB]


async def test_pauses_grow(database: Database, clock: Clock, server: StubServer) -> None:
    """Five seconds, ten, ... up to five minutes, and none after a success."""
    await add(database, clock, [ANN], notification(1))
    server.answers["EHLO"] = ["421 4.3.2 shutting down"] * 9
    sender = sender_of(database, clock, server_at(server.port))
    await sender.work()
    delays = []
    while server.answers["EHLO"]:
        left, begin = len(server.answers["EHLO"]), clock.now
        while len(server.answers["EHLO"]) == left:
            clock.advance(seconds=5)
            await sender.work()
        delays.append((clock.now - begin).total_seconds())
    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    clock.advance(minutes=5)
    await sender.work()
    await add(database, clock, [ANN], notification(2))
    await sender.work()
    assert server.recipients == [ANN, ANN]


async def test_mail_for_a_server_out_of_reach_is_given_up_after_five_days(
    database: Database, database_url: str, clock: Clock
) -> None:
    """From the first try on, and not from when it was written down."""
    await add(database, clock, [ANN], notification(1))
    clock.advance(days=6)
    sender = sender_of(database, clock, server_at(1))
    await sender.work()
    assert await states(database_url) == {ANN: "pending"}
    clock.advance(days=4)
    await sender.work()
    assert await states(database_url) == {ANN: "pending"}
    clock.advance(days=1)
    await sender.work()
    [row] = await rows(database_url)
    assert (row["state"], row["error"]) == (
        "failed",
        "127.0.0.1:1 cannot be connected to: Connection refused",
    )
    assert sender.failed == 1


@pytest.mark.parametrize("step", ["EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", [HANG, DIE, "421 4.3.2 shutting down"])
async def test_a_server_that_hangs_or_dies(
    database: Database, database_url: str, clock: Clock, server: StubServer, step: str, answer: str
) -> None:
    """At each step. Nothing is lost, and the mail after it does not have to wait for its retry."""
    await add(database, clock, [ANN, BOB], notification(1))
    server.answers[step] = [answer]
    timeouts = PATIENT
    if answer == HANG:
        timeouts = Timeouts(data=1) if step == "DATA" else Timeouts(command=1)
    await sender_of(database, clock, server_at(server.port), timeouts=timeouts).work()
    assert server.arrived == []
    first, second = await rows(database_url)
    assert (first["attempt_count"], second["attempt_count"]) == (0 if step == "EHLO" else 1, 0)
    patient = sender_of(database, clock, server_at(server.port))
    await patient.work()
    assert server.recipients == ([ANN, BOB] if step == "EHLO" else [BOB])
    clock.advance(minutes=1)
    await patient.work()
    assert sorted(server.recipients) == [ANN, BOB]
    assert await states(database_url) == {ANN: "sent", BOB: "sent"}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "it did not answer in time"),
        ([b"421 4.3.2 too many connections\r\n"], "421 4.3.2 too many connections"),
        ([b"554 5.7.1 you are on a list\r\n"], "554 5.7.1 you are on a list"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "it did not answer by SMTP"),
        ([b"\xff\xfe\x00\r\n"], "it did not answer by SMTP"),
        ([b"2" * 100_000], "it did not answer by SMTP"),
        ([b"220 mx\r\n"], "it did not answer in time"),
    ],
)
async def test_a_greeting_that_is_none(
    database: Database, database_url: str, clock: Clock, lines: list[bytes], told: str
) -> None:
    """The mail waits, and the reason is there to read."""
    await add(database, clock, [ANN], notification(1))
    async with lines_server(*lines) as port:
        sender = sender_of(database, clock, server_at(port), timeouts=IMPATIENT)
        await sender.work()
    [row] = await rows(database_url)
    assert row["error"] == f"127.0.0.1:{port} cannot be connected to: {told}"
    assert (row["state"], row["attempt_count"]) == ("pending", 0)


async def test_a_sender_that_is_refused_stops_all(
    database: Database, database_url: str, clock: Clock, server: StubServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no recipient's fault, so nothing fails."""
    await add(database, clock, [ANN, BOB], notification(1))
    server.answers["MAIL"] = ["553 5.7.1 not your domain"]
    sender = sender_of(database, clock, server_at(server.port))
    await sender.work()
    assert await states(database_url) == {ANN: "pending", BOB: "pending"}
    assert (
        f"127.0.0.1:{server.port} refuses the address of AUTHSVC_MAIL_FROM: 553 5.7.1 not your domain"
        in caplog.text
    )
    clock.advance(minutes=1)
    await sender.work()
    assert sorted(server.recipients) == [ANN, BOB]


async def test_a_message_that_kills_the_server_does_not_stop_others(
    database: Database, clock: Clock, server: StubServer
) -> None:
    """It is tried again after the others."""
    await add(database, clock, [ANN, BOB], notification(1))
    sender = sender_of(database, clock, server_at(server.port))
    for _ in range(3):
        server.answers["DATA"] = [DIE]
        await sender.work()
        clock.advance(seconds=5)
        server.answers["DATA"] = []
        if server.arrived:
            break
        await sender.work()
    assert server.recipients == [BOB]


async def test_no_smtputf8(database: Database, database_url: str, clock: Clock) -> None:
    """An international address fails with the reason. An international domain needs no SMTPUTF8."""
    await add(database, clock, ["zoë@example.org", "bob@exämple.org"], notification(1))
    async with mail_server(smtputf8=False) as server:
        await sender_of(database, clock, server_at(server.port)).work()
        assert server.recipients == ["bob@xn--exmple-cua.org"]
    failed = (await rows(database_url))[0]
    assert failed["state"] == "failed"
    assert failed["error"] == (
        "the mail server does not take addresses with letters beyond ASCII before the @ (SMTPUTF8)"
    )


async def test_smtputf8(database: Database, clock: Clock, server: StubServer) -> None:
    await add(database, clock, ["用户@例子.公司"], notification(1))
    await sender_of(database, clock, server_at(server.port)).work()
    [arrived] = server.arrived
    assert arrived.recipient == "用户@xn--fsqu00a.xn--55qx5d"
    assert "SMTPUTF8" in arrived.options
    assert arrived.message["To"].addresses[0].username == "用户"


async def test_an_address_that_there_cannot_be(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """It fails, and the others do not."""
    await add(database, clock, ["ann@💩.example", BOB], notification(1))
    await sender_of(database, clock, server_at(server.port)).work()
    assert await states(database_url) == {"ann@💩.example": "failed", BOB: "sent"}
    assert (await rows(database_url))[0]["error"] == "'💩.example' cannot be a domain"


async def test_an_outcome_that_cannot_be_written_is_kept(
    database: Database, database_url: str, clock: Clock, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away after a message was sent. It is not sent again, and the rest of the batch is."""
    await add(database, clock, [ANN, BOB], notification(1))
    sender = sender_of(database, clock, server_at(server.port))
    note_sent = mail_store.note_sent

    async def fail(*_: object) -> None:
        raise Unavailable("the database is out of reach", reason="DATABASE_UNAVAILABLE", retry_after=1)

    monkeypatch.setattr(mail_store, "note_sent", fail)
    with pytest.raises(Unavailable):
        await sender.work()
    with pytest.raises(Unavailable):
        await sender.work()
    assert server.recipients == [ANN]
    # Nobody else sends it: it was not given back.
    first, second = await rows(database_url)
    assert (first["next_time"], second["next_time"]) == (clock.now + CLAIM_TIME, clock.now)
    monkeypatch.setattr(mail_store, "note_sent", note_sent)
    await sender.work()
    assert server.recipients == [ANN, BOB]
    assert await states(database_url) == {ANN: "sent", BOB: "sent"}


async def test_a_stop_finishes_one_and_gives_the_others_back(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """Another worker sends them at once, and none twice."""
    await add(database, clock, [ANN, BOB], notification(1))
    server.held = asyncio.Event()
    sending = asyncio.create_task(sender_of(database, clock, server_at(server.port)).work())
    await server.reached.wait()
    sending.cancel()
    server.held.set()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert server.recipients == [ANN]
    sent, waiting = await rows(database_url)
    assert sent["state"] == "sent"
    assert (waiting["state"], waiting["attempt_count"], waiting["next_time"]) == ("pending", 0, clock.now)
    await sender_of(database, clock, server_at(server.port)).work()
    assert server.recipients == [ANN, BOB]


async def test_a_stop_that_cannot_give_back_the_others_ends(
    database: Database, clock: Clock, server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their claims run out. The fault does not stand in for the cancellation."""

    async def release(*_: object) -> None:
        raise LookupError("no such column")

    monkeypatch.setattr(mail_store, "release", release)
    await add(database, clock, [ANN, BOB], notification(1))
    server.held = asyncio.Event()
    sending = asyncio.create_task(sender_of(database, clock, server_at(server.port)).work())
    await server.reached.wait()
    sending.cancel()
    server.held.set()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert server.recipients == [ANN]


async def test_a_stop_does_not_wait_for_a_server_that_hangs(
    database: Database,
    database_url: str,
    clock: Clock,
    server: StubServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("authsvc.notifications.mail.sender._STOP_SECONDS", 0.01)
    await add(database, clock, [ANN], notification(1))
    server.answers["MAIL"] = [HANG]
    sending = asyncio.create_task(sender_of(database, clock, server_at(server.port)).work())
    await server.reached.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    [row] = await rows(database_url)
    assert (row["state"], row["attempt_count"], row["next_time"]) == ("pending", 0, clock.now)


async def test_the_id_stays_when_the_sender_changes(
    database: Database, clock: Clock, server: StubServer
) -> None:
    """The server may have the message that an earlier version or setting has sent."""
    server.answers["DATA"] = [DIE]
    await add(database, clock, [ANN], notification(1))
    await sender_of(database, clock, server_at(server.port)).work()
    clock.advance(minutes=1)
    by = Sender("", "noreply@new.example")
    await sender_of(database, clock, server_at(server.port), sender=by).work()
    [arrived] = server.arrived
    assert arrived.sender == "noreply@new.example"
    assert arrived.message["Message-ID"].endswith("@sender.example>")


async def test_what_has_failed_is_sent_again_when_an_operator_says_so(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """As a new message, with five days of its own."""
    await add(database, clock, [ANN], notification(1))
    server.answers["RCPT"] = ["550 5.1.1 no such user", "450 4.2.0 greylisted"]
    sender = sender_of(database, clock, server_at(server.port))
    await sender.work()
    clock.advance(days=9)
    async with database.transaction() as connection:
        assert await sending.retry(connection, "", clock(), size=10) == 1
    await sender.work()
    assert await states(database_url) == {ANN: "pending"}
    clock.advance(minutes=1)
    await sender.work()
    assert await states(database_url) == {ANN: "sent"}


async def test_a_claim_that_was_left_runs_out(
    database: Database, database_url: str, clock: Clock, server: StubServer
) -> None:
    """Not before its time, and the id stays the same."""
    await add(database, clock, [ANN], notification(1))
    sender = sender_of(database, clock, server_at(server.port))
    [claimed] = await sender._claims.claim() or []
    clock.advance(seconds=CLAIM_TIME.total_seconds() - 1)
    await sender.work()
    assert server.arrived == []
    clock.advance(seconds=1)
    await sender.work()
    [arrived] = server.arrived
    assert arrived.message["Message-ID"] == f"<{claimed}>"


async def test_an_outcome_reads_the_mails_of_its_message_only(clock: Clock, database_url: str) -> None:
    """However many others wait, with the plans of an empty table."""
    notifications = [notification(number) for number in range(1000)]
    async with Database.open(database_url, size=1) as database:

        async def note() -> int:
            """Read a message, and note that it was sent; return how many rows that reads."""
            async with database.transaction() as connection:
                # As outside of a transaction, where outcomes are noted.
                await connection.execute("SET LOCAL enable_seqscan = on")
                already = int(await connection.fetchval(_READ_MAILS))
                await mail_store.read_message(connection, "evt_1@sender.example", size=50)
                await mail_store.note_retry(connection, "evt_1@sender.example", 450, "busy", clock())
                await mail_store.note_sent(connection, "evt_1@sender.example", 250)
                return int(await connection.fetchval(_READ_MAILS)) - already

        for _ in range(7):  # A plan is kept from the sixth time on.
            await note()
        await add(database, clock, [ANN], *notifications)
        async with database.transaction() as connection:
            await mail_store.claim(
                connection,
                await mail_store.list_due(connection, clock(), size=1),
                "evt_1@sender.example",
                now=clock(),
                until=clock() + CLAIM_TIME,
            )
        assert 0 < await note() < 20


async def test_many_that_failed_are_retried_in_batches(database: Database, clock: Clock) -> None:
    """Each once: what fails again meanwhile is left as it is, so that there is an end."""
    await add(database, clock, [ANN, BOB, EVE], notification(1))
    async with mail_server() as server:
        server.to[ANN] = server.to[BOB] = server.to[EVE] = "550 5.1.1 no such user"
        sender = sender_of(database, clock, server_at(server.port))
        await sender.work()
        clock.advance(minutes=1)
        at, retried = clock(), list[int]()
        while not retried or retried[-1]:
            async with database.transaction() as connection:
                retried.append(await sending.retry(connection, "", at, size=2))
            clock.advance(seconds=1)
            await sender.work()
    assert retried == [2, 1, 0]
    assert sender.failed == 6
