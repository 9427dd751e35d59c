"""Several hosts in the URL of the database: a standby that stands first, and a primary that falls silent."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from authsvc.model.errors import Unavailable
from authsvc.store import pool
from authsvc.store.connect import connect
from authsvc.store.connect_error import ConnectError
from authsvc.store.migrate import Migration, known_migrations, migrate
from authsvc.store.pool import Database
from tests.conftest import Client
from tests.e2e.process import authsvc, processes_in, running
from tests.faults import replicated
from tests.faults.replicated import Pair, until
from tests.faults.test_pooler import needs_pgbouncer, pgbouncer

_NEW = Migration(9001, "new", "CREATE TABLE authsvc.new (n integer)")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def template(reachable_dir: Path) -> AsyncIterator[Path]:
    """A cluster to copy."""
    async with replicated.template(reachable_dir / "template-of-hosts") as cluster:
        yield cluster


@pytest_asyncio.fixture
async def pair(template: Path, reachable_dir: Path, unique: str) -> AsyncIterator[Pair]:
    """A primary and its synchronous standby."""
    async with replicated.pair(template, reachable_dir / unique) as both:
        yield both


def url_of(*ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://authsvc:standby@{hosts}/authsvc?sslmode=disable"


@contextmanager
def fallen_silent(directory: Path) -> Iterator[None]:
    """Stop all processes of a server, which then answers nothing, for as long as the block runs."""
    stopped = processes_in(directory)
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_a_standby_stands_first(pair: Pair, tmp_path: Path) -> None:
    """Migrations and commands go to the primary; where there is none, the standby is told as such."""
    url = url_of(pair.standby.port, pair.primary.port)
    assert await migrate(url, migrations=[*known_migrations(), _NEW]) == 1
    assert authsvc("bootstrap", cwd=tmp_path, database_url=url).code == 0
    with pytest.raises(ConnectError, match=rf"^127.0.0.1:{pair.standby.port}: is a standby$"):
        await connect(url_of(pair.standby.port), timeout=20)
    connection = await connect(url, timeout=20)
    try:
        assert not await connection.fetchval("SELECT pg_is_in_recovery()")
    finally:
        await connection.close()


@needs_pgbouncer
async def test_a_pooler_that_repeats_what_the_standby_was(
    pair: Pair, reachable_dir: Path, unique: str
) -> None:
    """What pgbouncer reports of its first server is not believed: it may have become the primary."""
    directory, settings = reachable_dir / f"{unique}-pooler", {"ignore_startup_parameters": "jit"}
    async with pgbouncer(directory, url_of(pair.standby.port), pool_mode="session", **settings) as url:
        with pytest.raises(ConnectError, match=r"is a standby$"):
            await connect(url, timeout=20)
        await pair.standby.fetch("SELECT pg_promote()")
        connection = await connect(url, timeout=20)
        await connection.close()


async def test_a_primary_that_falls_silent(pair: Pair, tmp_path: Path) -> None:
    """A service recovers at the host that takes over, and a restarted one starts there."""
    url = url_of(pair.primary.port, pair.standby.port)
    key_string = authsvc("bootstrap", cwd=tmp_path, database_url=url).stdout.strip()
    with running("serve", tmp_path, database_url=url, lease="2s") as server:
        async with server.client(key_string) as admin:
            made = await admin.CreateKey(owner_id="acme", display_name="Orders")
            assert (await admin.VerifyKey(key_string=made.key_string)).valid
            with fallen_silent(pair.primary.directory):
                await pair.standby.fetch("SELECT pg_promote()")

                async def changed() -> bool:
                    return await _is_done(admin, made.key.key_id)

                # The connections to the old primary are given up first.
                await until(changed, seconds=60)
                assert not (await admin.VerifyKey(key_string=made.key_string)).valid
                assert server.end() == 0
                with running("serve", tmp_path, database_url=url, lease="2s") as another:
                    async with another.client(key_string) as new:
                        assert not (await new.VerifyKey(key_string=made.key_string)).valid
                        await new.CreateKey(owner_id="acme", display_name="Billing")


async def test_a_commit_at_a_primary_that_was_replaced(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up when another host has become the primary, and does not keep its slot for long."""
    monkeypatch.setattr(pool, "_MAX_COMMIT_SECONDS", 3600.0)
    monkeypatch.setattr(pool, "_MAX_LEFT_COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(pool, "_COMMIT_LOOK_SECONDS", 0.01)
    begun, commit = asyncio.Event(), asyncio.Event()

    async def change(database: Database) -> None:
        async with database.transaction("acme") as connection:
            await connection.execute("CREATE TABLE lost ()")
            begun.set()
            await commit.wait()

    async with Database.open(url_of(pair.primary.port, pair.standby.port)) as database:
        changing = asyncio.ensure_future(change(database))
        await begun.wait()
        with fallen_silent(pair.primary.directory):
            commit.set()
            await pair.standby.fetch("SELECT pg_promote()")

            async def moved() -> bool:
                assert not changing.done()
                with contextlib.suppress(Unavailable):
                    async with database.connection() as connection:
                        await connection.fetchval("SELECT true")
                        return True
                return False

            await until(moved, seconds=60)
            with pytest.raises(Unavailable):
                await asyncio.wait_for(changing, 20)
        assert database.slots.changes.in_use == 0


async def _is_done(admin: Client, key_id: str) -> bool:
    """Revoke a key; return whether that was confirmed, now or before."""
    try:
        await admin.RevokeKey(key_id=key_id, timeout=20)
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return False
        return error.code() is grpc.StatusCode.FAILED_PRECONDITION
    return True
