"""A worker that is killed while it sends mail: nothing is lost, and at most one message arrives twice.

SIGKILL ends a program at one step. Another one goes on, when what the first had claimed counts as lost.
"""

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from authsvc.store.pool import Database
from tests.conftest import Clock, eventually
from tests.e2e.process import Server, on_linux, processes_in, running
from tests.notifications.smtp import HANG, StubServer, add, mail_server, notification, rows

pytestmark = [pytest.mark.slow, on_linux]

ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.org"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[StubServer]:
    async with mail_server() as stub:
        yield stub


@pytest_asyncio.fixture
async def mails(database: Database, clock: Clock) -> None:
    """Three mails that are due. Their time is that of the database, like that of the programs."""
    async with database.connection() as connection:
        clock.now = await connection.fetchval("SELECT now()")
    await add(database, clock, [ANN, BOB, EVE], notification(1))


@contextmanager
def serving(directory: Path, database_url: str, server: StubServer) -> Iterator[Server]:
    place = Path(tempfile.mkdtemp(dir=directory))
    with running(
        "serve",
        place,
        database_url=database_url,
        smtp_url=f"smtp://127.0.0.1:{server.port}",
        mail_from="noreply@sender.example",
    ) as program:
        yield program


async def kill(program: Server) -> None:
    """End the worker and its supervisor at once, without any chance to release what they have claimed."""
    program.process.send_signal(signal.SIGSTOP)  # It would start another worker, or stop this one.
    for process in processes_in(program.directory):
        os.kill(process, signal.SIGKILL)
    await asyncio.to_thread(program.process.wait, 30)


async def all_sent(database_url: str) -> None:
    async def states() -> set[str]:
        await asyncio.sleep(0.01)
        return {row["state"] for row in await rows(database_url)}

    async with asyncio.timeout(30):
        while await states() != {"sent"}:
            pass


async def claims_run_out(database_url: str) -> None:
    """As if the time of the claims had passed."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE authsvc.mails SET next_time = now() WHERE state = 'pending'")
    await connection.close()


async def go_on(directory: Path, database_url: str, server: StubServer, twice: int) -> None:
    """Run another program; each mail arrives once, or `twice` of them twice, under the same id."""
    await claims_run_out(database_url)
    with serving(directory, database_url, server):
        await all_sent(database_url)
    assert set(server.recipients) == {ANN, BOB, EVE}
    assert len(server.arrived) == 3 + twice
    ids = Counter((each.recipient, each.message["Message-ID"]) for each in server.arrived)
    assert len(ids) == 3
    assert all(row["attempt_count"] <= 2 for row in await rows(database_url))


@pytest.mark.usefixtures("mails")
async def test_before_the_claim_is_committed(
    reachable_dir: Path, database_url: str, server: StubServer
) -> None:
    """It waits for a lock on the mails."""
    locker = await asyncpg.connect(database_url)
    async with locker.transaction():
        await locker.execute("SELECT FROM authsvc.mails FOR UPDATE")
        with serving(reachable_dir, database_url, server) as program:
            await _waits_for_a_lock(database_url, "SET message_id")
            await kill(program)
    await locker.close()
    assert server.arrived == []
    assert [row["attempt_count"] for row in await rows(database_url)] == [0, 0, 0]
    await go_on(reachable_dir, database_url, server, twice=0)


@pytest.mark.usefixtures("mails")
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
async def test_after_the_claim(reachable_dir: Path, database_url: str, server: StubServer, step: str) -> None:
    """At a step of the first message."""
    server.answers[step] = [HANG]
    with serving(reachable_dir, database_url, server) as program:
        await asyncio.wait_for(server.reached.wait(), 30)
        await kill(program)
    assert [row["attempt_count"] for row in await rows(database_url)] == [1, 1, 1]
    await go_on(reachable_dir, database_url, server, twice=0)


@pytest.mark.usefixtures("mails")
async def test_before_the_answer(reachable_dir: Path, database_url: str, server: StubServer) -> None:
    """The server has the message, and the worker does not know yet."""
    server.held = asyncio.Event()
    with serving(reachable_dir, database_url, server) as program:
        await asyncio.wait_for(server.reached.wait(), 30)
        await kill(program)
    server.held.set()
    await go_on(reachable_dir, database_url, server, twice=1)


@pytest.mark.usefixtures("mails")
async def test_before_it_is_noted(reachable_dir: Path, database_url: str, server: StubServer) -> None:
    """The worker knows that the message was sent, and waits for a lock to note it."""
    locker = await asyncpg.connect(database_url)
    server.held = asyncio.Event()
    with serving(reachable_dir, database_url, server) as program:
        await asyncio.wait_for(server.reached.wait(), 30)
        async with locker.transaction():
            await locker.execute("SELECT FROM authsvc.mails FOR UPDATE")
            server.held.set()
            await _waits_for_a_lock(database_url, "SET state = 'sent'")
            await kill(program)
            # PostgreSQL would carry out what waits, although nobody is there to be answered.
            await locker.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
    await locker.close()
    await go_on(reachable_dir, database_url, server, twice=1)


@pytest.mark.usefixtures("mails")
async def test_between_two_recipients(reachable_dir: Path, database_url: str, server: StubServer) -> None:
    """The first was noted, and the second is not sent yet."""
    server.answers["MAIL"] = ["", HANG]
    with serving(reachable_dir, database_url, server) as program:
        await asyncio.wait_for(server.reached.wait(), 30)
        await kill(program)
    assert [row["state"] for row in await rows(database_url)] == ["sent", "pending", "pending"]
    await go_on(reachable_dir, database_url, server, twice=0)


@pytest.mark.usefixtures("mails")
async def test_a_clean_stop(reachable_dir: Path, database_url: str, server: StubServer) -> None:
    """What was not sent is due at once: no claim has to run out, and nothing arrives twice."""
    server.answers["MAIL"] = ["", HANG]
    with serving(reachable_dir, database_url, server) as program:
        await asyncio.wait_for(server.reached.wait(), 30)
        assert await asyncio.to_thread(program.end) == 0
    assert server.recipients == [ANN]
    assert [row["attempt_count"] for row in await rows(database_url)] == [1, 0, 0]
    with serving(reachable_dir, database_url, server):
        await all_sent(database_url)
    assert server.recipients == [ANN, BOB, EVE]


async def _waits_for_a_lock(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'"
    )
    await eventually(lambda: connection.fetchval(query, statement), bool)
    await connection.close()
