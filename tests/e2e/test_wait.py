"""`serve --wait-for-database`: a start waits until the database can be served from."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from authsvc.process.devpg import DevPostgres
from tests.dead_hosts import at, silent
from tests.e2e import forks
from tests.e2e.process import authsvc, environment, eventually, reserve_port, until
from tests.e2e.test_start import refusal


class Starting:
    """A service that starts, and what it has logged."""

    def __init__(self, process: forks.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def waits_for(self) -> list[str]:
        """What it says that it waits for."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if "waiting up to" in line]
        return [line["event"].partition("for the database: ")[2] for line in lines]

    @property
    def serves(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return "serving at" in self._log.read_text()


@contextmanager
def starting(directory: Path, *arguments: str, **settings: object) -> Iterator[Starting]:
    given = {"listen": "127.0.0.1:0", "workers": 2, "log_format": "json", **settings}
    with (directory / "stderr").open("wb") as stderr:
        process = forks.start(
            "authsvc.cli",
            "serve",
            *arguments,
            cwd=directory,
            stdout=stderr,
            stderr=stderr,
            env=environment(**given),
        )
    try:
        yield Starting(process, directory / "stderr")
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


async def test_a_database_that_comes_up_later(directory: Path) -> None:
    """Each thing that it waits for is logged once, by one of the workers; then it serves."""
    reserve_port(directory / "postgres")
    postgres = DevPostgres(directory / "postgres")
    async with postgres:  # once, for its password
        url = postgres.url
    port = urlsplit(url).port
    with starting(directory, "--wait-for-database", "2m", database_url=url) as service:
        await eventually(lambda: service.waits_for)
        async with postgres:
            await eventually(lambda: len(service.waits_for) > 1 and "lacks" in service.waits_for[-1])
            assert not service.serves
            assert authsvc("migrate", cwd=directory, database_url=url).code == 0
            await eventually(lambda: service.serves)
    refused, *starts, lacks = service.waits_for
    assert refused == f"AUTHSVC_DATABASE_URL: cannot use the database: 127.0.0.1:{port}: Connection refused"
    assert lacks.startswith("the database lacks 0001 keys, ")
    assert len(set(service.waits_for)) == len(service.waits_for)
    assert all("starting up" in each for each in starts)


def test_a_wait_in_vain(directory: Path) -> None:
    """The error is that of a start without a wait, and says how long was waited."""
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    told = refusal(authsvc("serve", cwd=directory, database_url=url, wait_for_database="100ms"))
    assert told == (
        "AUTHSVC_DATABASE_URL: cannot use the database: 127.0.0.1:1: Connection refused "
        "(after a wait of 100ms: AUTHSVC_WAIT_FOR_DATABASE)"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait(directory: Path, number: signal.Signals) -> None:
    """Cleanly, also while a connection is being opened."""
    with silent() as quiet:
        url = f"postgresql://u@127.0.0.1:1,{at(quiet)}/d"
        with starting(directory, database_url=url, wait_for_database="1d") as service:
            until(lambda: service.waits_for)
            os.kill(service.process.pid, number)
            assert service.process.wait(30) == 0


async def test_what_no_wait_can_mend(directory: Path, postgres: DevPostgres, unique: str) -> None:
    """A URL that cannot be read and a database of the wrong encoding are refused at once."""
    connection = await asyncpg.connect(postgres.url_for("postgres"))
    await connection.execute(f"CREATE DATABASE {unique} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        for url, told in (
            ("postgresql://u:hunter2@127.0.0.1:1/d?sslmode=31337", "AUTHSVC_DATABASE_URL: "),
            (postgres.url_for(unique), f"the encoding of database {unique} is SQL_ASCII"),
        ):
            done = authsvc("serve", cwd=directory, database_url=url, wait_for_database="1d")
            assert refusal(done).startswith(told)
            assert "waiting" not in done.stderr
    finally:
        await connection.execute(f"DROP DATABASE {unique}")
        await connection.close()


@pytest.mark.parametrize("length", ["5", "soon", "2d"])
def test_a_length_that_is_wrong(directory: Path, length: str) -> None:
    """It is told, with what to write instead."""
    done = authsvc(
        "serve", f"--wait-for-database={length}", cwd=directory, database_url="postgresql://u@127.0.0.1:1/d"
    )
    assert done.code in (1, 2)
    assert "wait-for-database" in done.stderr.lower().replace("_", "-")
    assert "Traceback" not in done.stderr
