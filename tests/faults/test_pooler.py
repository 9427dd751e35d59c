"""Behind a pooler that assigns a connection for one transaction (pgbouncer): the feed is polled."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from authsvc.config.settings import ConfigError
from authsvc.process.devpg.account import unprivileged
from authsvc.process.devpg.child import spawn
from authsvc.store.migrate import migrate
from tests.conftest import Client, Service, serving
from tests.e2e.process import free_port

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (Debian: pgbouncer)"
)


@asynccontextmanager
async def pgbouncer(directory: Path, database_url: str, **settings: object) -> AsyncIterator[str]:
    """Run pgbouncer before a database; yield the URL that leads through it.

    It refuses to run as root, as PostgreSQL does.
    """
    assert PGBOUNCER is not None
    account = unprivileged() if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    await asyncio.to_thread(directory.mkdir)
    url, port = urlsplit(database_url), free_port()
    name = url.path[1:]
    values = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": directory / "users",
        "pool_mode": "transaction",
        # Fewer than there are clients, so that clients share them.
        "default_pool_size": 4,
        **settings,
    }
    lines = [f"{key} = {value}" for key, value in values.items()]
    database = f"{name} = host={url.hostname} port={url.port} dbname={name}"
    for file, text in {
        "users": f'"{url.username}" "{url.password}"\n',
        "ini": "\n".join(["[databases]", database, "[pgbouncer]", *lines, ""]),
        "log": "",
    }.items():
        (directory / file).write_text(text)
        (directory / file).chmod(0o600)
        os.chown(directory / file, *account)
    with (directory / "log").open("ab") as log:
        process = spawn([PGBOUNCER, str(directory / "ini")], account, log.fileno())
    try:
        async with asyncio.timeout(30):
            while True:
                assert process.poll() is None, (directory / "log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.transport.abort()
                    break
        yield f"postgresql://{url.username}:{url.password}@127.0.0.1:{port}/{name}?sslmode=disable"
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 10)
        shutil.rmtree(directory)


@pytest_asyncio.fixture(params=["directly", pytest.param("through pgbouncer", marks=needs_pgbouncer)])
async def polled_url(
    request: pytest.FixtureRequest, database_url: str, reachable_dir: Path, unique: str
) -> AsyncIterator[str]:
    """The URL of a database whose feed is polled."""
    if request.param == "directly":
        yield database_url
        return
    async with pgbouncer(reachable_dir / unique, database_url) as url:
        yield url


@asynccontextmanager
async def two(url: str, feed: str = "listen") -> AsyncIterator[tuple[Service, Client, Client]]:
    """Run two services; yield the first, and the administrator as a client of each."""
    async with serving(url, None, feed=feed) as one, serving(url, None, feed=feed) as other:
        yield one, one.admin, other.as_caller(one.admin_key)


async def story(one: Client, other: Client) -> None:
    """The life of keys, changed through one worker and verified on the other."""
    made = await one.CreateKey(owner_id="acme", display_name="Orders", scopes=["orders:read"])
    assert (await other.VerifyKey(key_string=made.key_string, required_scopes=["orders:read"])).valid
    await one.RevokeKey(key_id=made.key.key_id)
    assert not (await other.VerifyKey(key_string=made.key_string)).valid
    made = await other.CreateKey(owner_id="acme", display_name="Billing")
    assert (await one.VerifyKey(key_string=made.key_string)).valid
    rotated = await other.RotateKey(key_id=made.key.key_id)
    assert not (await one.VerifyKey(key_string=made.key_string)).valid
    assert (await one.VerifyKey(key_string=rotated.key_string)).valid
    page = await one.ListKeys(owner_id="acme", include_total_size=True)
    assert [key.display_name for key in page.keys].count("Orders") == 1
    assert page.total_size == len(page.keys) == 3
    await one.BatchRevokeKeys(owner_id="acme")
    assert not (await other.VerifyKey(key_string=rotated.key_string)).valid


async def test_the_whole_story_by_polling(polled_url: str) -> None:
    """Create, verify, revoke, rotate and list work; a revocation is effective elsewhere when it answers."""
    async with two(polled_url, feed="poll") as (service, one, other):
        assert not service.app.follower._store.hears
        await story(one, other)


async def test_nothing_is_mixed_up(polled_url: str) -> None:
    """Of clients that share a few connections, each gets the answers to its own requests."""

    async def client(number: int, here: Client, there: Client) -> None:
        owner, chance = f"owner-{number}", random.Random(number)  # noqa: S311 - no secret
        known: dict[str, str] = {}
        for step in range(12):
            made = await here.CreateKey(owner_id=owner, display_name=f"{number}-{step}")
            known[made.key.key_id] = made.key_string
            key_id = chance.choice(list(known))
            shown, found, verdict, page = await asyncio.gather(
                there.GetKey(key_id=key_id),
                here.LookupKey(key_string=known[key_id]),
                there.VerifyKey(key_string=known[key_id]),
                there.ListKeys(owner_id=owner, include_total_size=True),
            )
            assert shown.key_id == found.key_id == verdict.key_id == key_id
            assert shown.owner_id == found.owner_id == owner
            assert verdict.valid
            assert {key.key_id for key in page.keys} == set(known)
            assert page.total_size == len(known)
            if step % 3 == 2:
                await there.RevokeKey(key_id=key_id)
                assert not (await here.VerifyKey(key_string=known[key_id])).valid
                await here.DeleteKey(key_id=key_id)
                del known[key_id]

    async with two(polled_url, feed="poll") as (_, one, other), asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(client(number, *((one, other) if number % 2 else (other, one))))


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_pooler_that_refuses_how_we_connect(
    database_url: str, reachable_dir: Path, unique: str, mode: str
) -> None:
    """It does not know our settings, and the start is refused with a message that names them."""
    async with pgbouncer(reachable_dir / unique, database_url, pool_mode=mode) as url:
        with pytest.raises(ConfigError, match=r"AUTHSVC_.*jit"):
            async with serving(url, None):
                pass


@needs_pgbouncer
async def test_hints_through_a_pooler_that_lends_for_a_session(
    database_url: str, reachable_dir: Path, unique: str
) -> None:
    """With `ignore_startup_parameters = jit`, and enough connections, everything works as without it."""
    settings = {"pool_mode": "session", "ignore_startup_parameters": "jit", "default_pool_size": 25}
    async with (
        pgbouncer(reachable_dir / unique, database_url, **settings) as url,
        two(url) as (service, one, other),
    ):
        await story(one, other)
        assert service.app.follower._store.hears


@needs_pgbouncer
async def test_hints_through_a_pooler_that_lends_for_a_transaction(
    database_url: str, reachable_dir: Path, unique: str
) -> None:
    """A service that waits for hints there refuses to start, and says what to set."""
    async with pgbouncer(reachable_dir / unique, database_url, ignore_startup_parameters="jit") as url:
        with pytest.raises(ConfigError, match="AUTHSVC_FEED=poll"):
            async with two(url):
                pass


@needs_pgbouncer
async def test_migrations_through_a_pooler(empty_database_url: str, reachable_dir: Path, unique: str) -> None:
    """They run, run again in another process, and leave no lock that blocks others."""
    async with pgbouncer(reachable_dir / unique, empty_database_url) as url:
        command = [
            sys.executable,
            "-c",
            "import sys; from authsvc.cli import main; sys.exit(main())",
            "migrate",
        ]
        environment = {**os.environ, "AUTHSVC_DATABASE_URL": url, "AUTHSVC_FEED": "poll"}
        for _ in range(2):
            migrating = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            assert await asyncio.wait_for(migrating.wait(), 60) == 0
        assert await asyncio.wait_for(migrate(empty_database_url), 3) == 0
