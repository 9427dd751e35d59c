"""Connecting to the hosts of a database URL: side by side, and the others leave no trace."""

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio

from authsvc.model.errors import Unavailable
from authsvc.store import connect as connecting
from authsvc.store import hosts
from authsvc.store.connect import connect
from authsvc.store.connect_error import ConnectError
from authsvc.store.feed import FeedConnection
from authsvc.store.hosts import Host, InvalidUrlError, hosts_of
from authsvc.store.migrate import MigrationError, migrate
from authsvc.store.pool import Database
from tests.certificates import Authority
from tests.conftest import eventually
from tests.dead_hosts import UNKNOWN, accepted, at, behind, silent, swallowing

# Longer than a test may take, so nothing succeeds because a time has passed.
_LONG = 1000


@pytest_asyncio.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Every test ends without open sockets, unfinished tasks, and errors that nobody has seen."""
    loop = asyncio.get_running_loop()
    unseen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    before, tasks = _sockets(), asyncio.all_tasks()
    yield

    async def left() -> int:
        await asyncio.sleep(0)
        return len(_sockets() - before) + len(asyncio.all_tasks() - tasks - {asyncio.current_task()})

    await eventually(left, lambda count: count == 0)
    gc.collect()
    assert unseen == []


def _sockets() -> set[str]:
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        try:
            target = file.readlink()
        except FileNotFoundError:  # that of the listing
            continue
        if str(target).startswith("socket:"):
            found.add(str(target))
    return found


def resolves(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> None:
    """Have these names, with _ for a dot, resolve to these addresses."""

    async def look_up(_: object, name: str) -> list[Any]:
        found = names.get(name.replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in found]
        return [(family, 0, 0, "", (each, 0)) for family, each in zip(families, found, strict=True)]

    monkeypatch.setattr(hosts, "_look_up", look_up)


@pytest.fixture(
    params=["silent", "swallowing", "unknown", "refusing", "silent IPv6", "swallowing IPv6", "two"]
)
def url(request: pytest.FixtureRequest, database_url: str) -> Iterator[str]:
    """The URL of a database, with dead hosts before its own."""
    with silent() as quiet, swallowing() as full, silent("::1") as quiet6, swallowing("::1") as full6:
        dead = {
            "silent": [at(quiet)],
            "swallowing": [at(full)],
            "unknown": [UNKNOWN],
            "refusing": ["127.0.0.1:1"],
            "silent IPv6": [at(quiet6)],
            "swallowing IPv6": [at(full6)],
            "two": [at(quiet), at(full)],
        }
        yield behind(database_url, *dead[request.param])


async def test_the_pool_gets_past_dead_hosts(url: str) -> None:
    """The second host is reached while the first one is still silent."""
    async with Database.open(url, size=4) as database:

        async def ask() -> int:
            async with database.connection() as connection:
                return int(await connection.fetchval("SELECT 7"))

        assert await asyncio.gather(*(ask() for _ in range(4))) == [7] * 4


@pytest.mark.parametrize("lease", [30, 1])
async def test_the_feed_gets_past_dead_hosts(url: str, lease: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within a quarter of the shortest lease, when the pauses are shorter."""
    feed = FeedConnection(url, lease=lease, listen=True)
    monkeypatch.setattr(feed, "_timeout_seconds", feed._timeout_seconds * 10)  # for a busy machine
    worker_id = uuid4()
    entry = await feed.register(worker_id, lease)
    assert await feed.renew(worker_id, entry.place, 0, (), ()) is not None
    await feed.leave(worker_id)


async def test_migrations_get_past_dead_hosts(url: str) -> None:
    assert await migrate(url) == 0


async def test_every_address_of_a_name_is_tried(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 comes first and loses its packets; IPv4 is reached all the same, and is remembered."""
    place = urlsplit(database_url)
    assert place.port is not None
    resolves(monkeypatch, db_test=["::1", "127.0.0.1"])
    named = place._replace(netloc=place.netloc.replace("127.0.0.1", "db.test")).geturl()
    with swallowing("::1", place.port):
        (await connect(named, timeout=_LONG)).terminate()
        host = Host("db.test", place.port)
        assert connecting._primaries[host,] == (host, "127.0.0.1")


async def test_the_last_primary_is_tried_first(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a silent host that stands first delays one connection, and not each."""
    with silent() as quiet:
        url = behind(database_url, at(quiet))
        (await connect(url, timeout=_LONG)).terminate()
        assert accepted(quiet) == 1
        monkeypatch.setattr(connecting, "_MAX_STAGGER_SECONDS", _LONG)
        (await connect(url, timeout=4 * _LONG)).terminate()
        assert accepted(quiet) == 0


async def test_what_happened_at_each_host_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the URL, for each address, and without the password."""
    with silent() as quiet, swallowing() as full:
        resolves(monkeypatch, two_test=["::1", "127.0.0.1"])
        url = (
            f"postgresql://u:hunter2@{at(quiet)},{UNKNOWN},127.0.0.1:1,two.test:1,{at(full)}/d?host=/nowhere"
        )
        with pytest.raises(ConnectError) as told:
            await connect(url.partition("?")[0], timeout=0.2)
        assert str(told.value).split("; ") == [
            f"{at(quiet)}: no answer within 0.2 s",
            f"{UNKNOWN}:5432: its name does not resolve (Name or service not known)",
            "127.0.0.1:1: Connection refused",
            "two.test:1 (::1): Connection refused",
            "two.test:1 (127.0.0.1): Connection refused",
            f"{at(full)}: no answer within 0.2 s",
        ]
        with pytest.raises(ConnectError, match=r"^/nowhere/\.s\.PGSQL\.5432: No such file or directory$"):
            await connect("postgresql://u:hunter2@/d?host=/nowhere", timeout=1)


@pytest.mark.parametrize("name", ["a..b", "a" * 64])
async def test_a_name_that_no_host_can_have(name: str) -> None:
    """Python refuses to look it up."""
    with pytest.raises(ConnectError) as told:
        await connect(f"postgresql://u:hunter2@{name},127.0.0.1:1/d", timeout=5)
    assert (
        str(told.value) == f"{name}:5432: its name cannot be one of a host; 127.0.0.1:1: Connection refused"
    )


async def test_the_pool_says_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its caller gives up, so the cause is not just that a time has passed."""
    monkeypatch.setattr("authsvc.store.pool._MAX_CONNECT_SECONDS", 0.3)
    with silent() as quiet:
        url = f"postgresql://u:hunter2@{at(quiet)},127.0.0.1:1/d"
        told = rf"{at(quiet)}: no answer within \S+ s; 127.0.0.1:1: Connection refused$"
        async with Database.open(url) as database:
            with pytest.raises(Unavailable) as refused:
                async with database.connection():
                    pass
            assert refused.value.__cause__ is not None
            assert refused.match("out of reach|did not answer")
            with pytest.raises(ConnectError, match=told):
                raise refused.value.__cause__


async def test_a_server_that_is_full_is_not_out_of_reach() -> None:
    """What a server answered decides which error callers get, whatever happened at other hosts."""
    async with (
        stand_in(_error("FATAL", "53300", "sorry, too many clients already")) as full,
        Database.open(f"postgresql://u@127.0.0.1:1,{full}/d") as database,
    ):
        with pytest.raises(Unavailable, match="short of connections"):
            async with database.connection():
                pass


async def test_a_slow_resolver_is_asked_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look-up occupies a thread, so connections that wait for the same name share it."""
    asked: list[str] = []
    answer = asyncio.Event()

    async def look_up(_: object, name: str) -> list[Any]:
        asked.append(name)
        await answer.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(hosts, "_look_up", look_up)
    url = behind(database_url, UNKNOWN)
    for connection in await asyncio.gather(*(connect(url, timeout=_LONG) for _ in range(5))):
        connection.terminate()
    with pytest.raises(ConnectError, match=f"^{UNKNOWN}:5432: its name was not resolved in time$"):
        await connect(f"postgresql://u@{UNKNOWN}/d", timeout=0.1)
    assert asked == [UNKNOWN]
    answer.set()


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        (["::1", "::2", "10.0.0.1", "10.0.0.2"], ["::1", "10.0.0.1", "::2", "10.0.0.2"]),
        (["10.0.0.1", "::1", "::2"], ["10.0.0.1", "::1", "::2"]),
        (["10.0.0.1", "10.0.0.1"], ["10.0.0.1"]),
    ],
)
async def test_families_take_turns(
    found: list[str], tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first address comes one of the other family (RFC 8305, 4)."""
    resolves(monkeypatch, db_test=found)
    assert await Host("db.test", 5432).addresses() == tried


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("postgresql://a,b:6000,[::1]:7000/d", "a:5432 b:6000 [::1]:7000"),
        ("postgresql:///d?host=a,b:1&port=6000,6001", "a:6000 b:6001"),
        ("postgresql:///d?host=/run/pg,b", "/run/pg/.s.PGSQL.5432 b:5432"),
        ("postgresql://%2Frun%2Fpg/d", "/run/pg/.s.PGSQL.5432"),
        ("postgresql://a,a/d?sslmode=require&sslcert=/nowhere&sslnegotiation=direct", "a:5432"),
    ],
)
async def test_the_driver_reads_the_hosts(url: str, listed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All the ways to write them, in their order, each host once."""
    monkeypatch.delenv("PGPORT", raising=False)
    assert " ".join(map(str, await hosts_of(url))) == listed


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:one@hunter2@127.0.0.1/d",
        "postgresql://u:p@a,,b/d",
        "postgresql://u:p@127.0.0.1:1/d?sslmode=hunter2",
        "postgresql://u:p@/d?host=127.0.0.1&port=hunter2",
        "postgresql://u:p@127.0.0.1:1/d?hunter2",
    ],
)
async def test_a_url_that_cannot_be_read(url: str) -> None:
    """It is an error at once, which holds no part of the URL, for migrations, too."""
    with pytest.raises(InvalidUrlError) as told:
        await connect(url, timeout=_LONG)
    assert "hunter2" not in str(told.value)
    with pytest.raises(MigrationError, match="the URL of the database"):
        await migrate(url)


async def test_a_missing_file_of_tls_is_told() -> None:
    with pytest.raises(ConnectError, match="a file that the TLS options of its URL name does not exist"):
        await connect("postgresql://u@127.0.0.1:1/d?sslmode=require&sslcert=/nowhere", timeout=_LONG)


async def test_an_option_that_the_server_does_not_know(database_url: str) -> None:
    """As `connect_timeout`, which is usual elsewhere: the message says that it can come from the URL."""
    with pytest.raises(ConnectError, match=r'"connect_timeout" \(if it is in the URL, remove it there'):
        await connect(f"{database_url}?connect_timeout=5", timeout=_LONG)


async def test_a_port_that_does_not_exist() -> None:
    """It is refused before anything is tried, without a part of the URL."""
    with pytest.raises(InvalidUrlError, match=r"has a port above 65535$"):
        await connect("postgresql://u@127.0.0.1,h:99999/d", timeout=_LONG)


@pytest.mark.parametrize("listed", ["first only", "each its own"])
async def test_passwords_from_a_file(database_url: str, tmp_path: Path, listed: str) -> None:
    """A host has the password of its own line, or that of the first host that has one, as in the driver."""
    url = urlsplit(database_url)
    first = {"first only": url.password, "each its own": "wrong"}[listed]
    lines = [f"127.0.0.1:1:*:*:{first}"]
    if listed == "each its own":
        lines.append(f"127.0.0.1:{url.port}:*:*:{url.password}")
    file = tmp_path / "pgpass"
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    named = url._replace(netloc=f"{url.username}@127.0.0.1:1,127.0.0.1:{url.port}", query=f"passfile={file}")
    (await connect(named.geturl(), timeout=_LONG)).terminate()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"R\0\0\0\x08\0\0\0\x63"])
async def test_a_server_that_is_no_database(database_url: str, answer: bytes) -> None:
    """It is told as the failure of its host, and the next one is reached."""
    async with stand_in(answer) as other:
        (await connect(behind(database_url, other), timeout=_LONG)).terminate()
        with pytest.raises(ConnectError, match=f"^{other}: .*[a-z]"):
            await connect(f"postgresql://u@{other}/d", timeout=0.3)


@pytest.mark.parametrize("certified", ["db.test", "other.test"])
async def test_tls_is_for_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certified: str) -> None:
    """A certificate has to have the name in the URL, whichever address it leads to."""
    authority = Authority()
    (tmp_path / "ca").write_bytes(authority.cert)
    authority.issue(names=(certified,)).write(tmp_path / "cert", tmp_path / "key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    refused = _error("FATAL", "28P01", "this is the server")
    told = "this is the server" if certified == "db.test" else "CERTIFICATE_VERIFY_FAILED.*match.*db.test"
    resolves(monkeypatch, db_test=["::1", "127.0.0.1"])
    async with stand_in(refused, context) as address:
        port = address.partition(":")[2]
        options = f"sslmode=verify-full&sslrootcert={tmp_path / 'ca'}"
        with pytest.raises(ConnectError, match=rf"db.test:{port} \(127.0.0.1\): .*{told}"):
            await connect(f"postgresql://u@db.test:{port}/d?{options}", timeout=_LONG)


class _Fake:
    """A connection that notes that it was ended."""

    def __init__(self) -> None:
        self.ended = False

    def terminate(self) -> None:
        self.ended = True


async def test_of_two_at_the_same_instant_one_is_ended() -> None:
    """And a connection that arrives when nobody waits any more is ended, too."""
    both = asyncio.Event()

    def attempt(connection: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
        async def open_it() -> Any:
            await both.wait()
            return connection

        return open_it

    for cancelled in (False, True):
        both.clear()
        made: list[Any] = [_Fake(), _Fake()]
        search = asyncio.create_task(connecting._first([attempt(each) for each in made], 0.0))
        for _ in range(10):
            await asyncio.sleep(0)
        both.set()
        if cancelled:
            search.cancel()
        [result] = await asyncio.gather(search, return_exceptions=True)
        assert [each.ended for each in made] == [each is not result for each in made]
        assert isinstance(result, asyncio.CancelledError) is cancelled


async def test_a_caller_that_leaves_at_any_moment(database_url: str) -> None:
    """Nothing stays open: the fixture of all tests here looks."""
    with silent() as quiet:
        url = behind(database_url, at(quiet), "127.0.0.1:1")
        for passes in range(60):
            task = asyncio.create_task(connect(url, timeout=_LONG))
            for _ in range(passes):
                await asyncio.sleep(0)
            task.cancel()
            [result] = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(result, BaseException):
                result.terminate()


def _error(severity: str, code: str, message: str) -> bytes:
    fields = f"S{severity}\0V{severity}\0C{code}\0M{message}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4) + fields


class stand_in:  # noqa: N801 - used like a function
    """A server that answers the first message with some bytes, over TLS if it has a context, and closes."""

    def __init__(self, answer: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return "{}:{}".format(*self._server.sockets[0].getsockname())

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if await reader.read(1000) == b"\0\0\0\x08\x04\xd2\x16\x2f":
                writer.write(b"N" if self._tls is None else b"S")
                if self._tls is not None:
                    await writer.start_tls(self._tls)
                await reader.read(1000)
            writer.write(self._answer)
        writer.close()
