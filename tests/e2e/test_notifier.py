"""The notifier of a replica: a process that workers do without, and that stops with them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from authsvc.store.pool import Database
from tests.conftest import Clock, eventually
from tests.e2e.process import Server, authsvc, free_port, on_linux, running, until
from tests.e2e.test_workers import alive, children
from tests.notifications.smtp import HANG, StubServer, add, mail_server, notification, rows

pytestmark = on_linux

ANN = "ann@example.org"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[StubServer]:
    async with mail_server() as stub:
        yield stub


@pytest_asyncio.fixture
async def mail(database_url: str, clock: Clock) -> None:
    """A mail that is due by the time of the database."""
    async with Database.open(database_url) as database:
        async with database.connection() as connection:
            clock.now = await connection.fetchval("SELECT now()")
        await add(database, clock, [ANN], notification(1))


@contextmanager
def serving(directory: Path, database_url: str, port: int) -> Iterator[Server]:
    with running(
        "serve",
        directory,
        database_url=database_url,
        smtp_url=f"smtp://127.0.0.1:{port}",
        mail_from="noreply@sender.example",
        admin_listen=f"127.0.0.1:{free_port()}",
    ) as program:
        yield program


def notifier_of(program: Server) -> int:
    """Return the process id of the notifier: the process with the lowest priority."""
    return max(children(program.process.pid), key=lambda pid: os.getpriority(os.PRIO_PROCESS, pid))


@pytest.mark.usefixtures("mail")
async def test_one_that_is_killed_is_started_again(
    directory: Path, database_url: str, server: StubServer
) -> None:
    """The next one sends what is due. No worker ends, and the page of metrics has both."""
    server.answers["MAIL"] = [HANG]
    with serving(directory, database_url, server.port) as program:
        await asyncio.wait_for(server.reached.wait(), 30)
        first = notifier_of(program)
        usual = os.getpriority(os.PRIO_PROCESS, program.process.pid)
        assert os.getpriority(os.PRIO_PROCESS, first) == min(usual + 10, 19)
        workers = set(children(program.process.pid)) - {first}
        os.kill(first, signal.SIGKILL)
        # As if the claim of the first had run out.
        connection = await asyncpg.connect(database_url)
        await connection.execute("UPDATE authsvc.mails SET next_time = now() WHERE state = 'pending'")
        await connection.close()
        await eventually(lambda: rows(database_url), lambda found: found[0]["state"] == "sent")
        sent = 'authsvc_notification_attempts_total{outcome="mail_sent",worker="notifier"} 1.0'
        await asyncio.to_thread(until, lambda: sent in program.admin("/metrics")[1])
        assert program.admin("/readyz") == (200, "worker 0: ready\n")
        assert notifier_of(program) != first
        assert set(alive(workers)) == workers
        assert await asyncio.to_thread(program.end) == 0
    assert "the notifier has ended: SIGKILL; it is started again" in program.stderr
    assert server.recipients == [ANN]


@pytest.mark.usefixtures("mail")
async def test_one_that_hangs_at_a_stop(directory: Path, database_url: str, server: StubServer) -> None:
    """The workers stop as usual, and it is killed when its time is over."""
    server.answers["MAIL"] = [HANG]
    with serving(directory, database_url, server.port) as program:
        await asyncio.wait_for(server.reached.wait(), 30)
        os.kill(notifier_of(program), signal.SIGSTOP)
        assert await asyncio.to_thread(program.end) == 0
    assert "the notifier has not ended in time and is killed" in program.stderr


async def test_it_outlives_neither_the_supervisor_nor_the_workers(directory: Path, database_url: str) -> None:
    with serving(directory, database_url, free_port()) as program:
        notifier = notifier_of(program)
        program.process.kill()
        program.process.wait()
        await asyncio.to_thread(until, lambda: not alive([notifier]))


def test_a_setting_that_it_cannot_use_stops_the_start(directory: Path, database_url: str) -> None:
    """It is told once, and nothing was announced."""
    templates = directory / "templates"
    templates.mkdir()
    (templates / "key.created.txt").write_text("{% if %}", "utf-8")
    ended = authsvc(
        "serve",
        cwd=directory,
        database_url=database_url,
        smtp_url="smtp://127.0.0.1:1",
        mail_from="noreply@sender.example",
        mail_templates=templates,
        listen="127.0.0.1:0",
        workers=2,
    )
    assert ended.code == 1
    assert ended.stderr.count("key.created.txt") == 1
    assert "AUTHSVC_MAIL_TEMPLATES" in ended.stderr
    assert "serving at" not in ended.stderr
