"""The server of ASGI applications on real sockets, on both event loops: TLS, and clients that leave."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from authsvc.net.asgi_server import AsgiServer
from authsvc.net.asgi_transport import is_unread
from authsvc.net.listen_address import ListenAddress
from tests.certificates import Authority
from tests.net.asgi import LAST, QUESTION, Application, exchange, too_late

Run = Callable[[Coroutine[Any, Any, None]], None]

on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])

_AUTHORITY = Authority()


class Certificates:
    """The context of the server, with the certificate that was issued last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.given = 0
        self.rotate("CN=first")

    def rotate(self, subject: str) -> None:
        _AUTHORITY.issue(subject).write(self.directory / "cert.pem", self.directory / "key.pem")

    def __call__(self) -> ssl.SSLContext:
        self.given += 1
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.directory / "cert.pem", self.directory / "key.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=_AUTHORITY.cert.decode())
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@asynccontextmanager
async def _serving(**given: Any) -> AsyncIterator[tuple[AsgiServer, Application, int]]:
    application = Application()
    server = AsgiServer(application, **given)
    port = await server.start(ListenAddress("127.0.0.1", 0))
    try:
        yield server, application, port
    finally:
        await server.stop(0)


def _client(certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=_AUTHORITY.cert.decode())
    if certificate:
        context.load_cert_chain(*certificate)
    return context


async def _ask(port: int, context: ssl.SSLContext) -> str:
    """Return the subject of the server's certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(LAST)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    subject: str = writer.get_extra_info("peercert")["subject"][0][0][1]
    writer.close()
    return subject


async def _until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)


@on_both_loops
def test_each_connection_gets_the_latest_certificate(run: Run, certificates: Certificates) -> None:
    """The context is asked for once for each."""

    async def played() -> None:
        async with _serving(tls=certificates) as (_, _, port):
            for subject in ("first", "second"):
                certificates.rotate(f"CN={subject}")
                assert await _ask(port, _client()) == subject
            assert certificates.given == 2

    run(played())


@on_both_loops
def test_an_application_sees_the_certificate_of_its_client(run: Run, certificates: Certificates) -> None:
    """By the object of TLS in the scope."""
    files = certificates.directory / "client.pem", certificates.directory / "client.key"
    _AUTHORITY.issue("CN=client").write(*files)

    async def played() -> None:
        async with _serving(tls=certificates) as (_, application, port):
            for context, subject in ((_client(files), "client"), (_client(), None)):
                await _ask(port, context)
                scope = application.scopes[-1]
                assert (scope["scheme"], scope["server"][1]) == ("https", port)
                found = scope["extensions"]["tls"]["authsvc.ssl_object"].getpeercert()
                assert (found and found["subject"][0][0][1]) == subject

    run(played())


@on_both_loops
@pytest.mark.parametrize(
    "said",
    [b"", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"GET / HTTP/1.1\r\n\r\n"],
    ids=["nothing", "part of a record", "part of a hello", "plain text"],
)
def test_a_handshake_that_does_not_end(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Its connection is counted and closed; before a whole record has come, it has no part of TLS."""
    waits = len(said) <= 5
    if not waits:
        monkeypatch.setattr("authsvc.net.asgi_server._HANDSHAKE_SECONDS", 0.05)

    async def played() -> None:
        async with _serving(tls=certificates) as (server, _, port):
            with too_late(monkeypatch, *(["HEAD"] if waits else [])):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                with suppress(ConnectionError):
                    writer.write(said)
                    await reader.read()
            await _until(lambda: not server.connections)
            assert certificates.given == (not waits)
            writer.close()

    run(played())


@on_both_loops
def test_handshakes_make_room(run: Run, certificates: Certificates) -> None:
    """A connection that is silent before its handshake is replaced by a new one."""

    async def played() -> None:
        async with _serving(tls=certificates, max_connections=2) as (server, _, port):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            for reader, _ in silent[:3]:
                assert await reader.read() == b""
            assert len(server.connections) == 2
            await _ask(port, _client())
            assert server.closed == {"room": 4, "full": 0}
            for _, writer in silent:
                writer.close()

    run(played())


@on_both_loops
def test_a_stop_ends_handshakes(run: Run, certificates: Certificates) -> None:
    """Nobody waits for them."""

    async def played() -> None:
        async with _serving(tls=certificates, idle_grace=0) as (server, _, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await _until(lambda: bool(server.connections))
            async with asyncio.timeout(30):
                await server.stop(60)
                assert await reader.read() == b""
            writer.close()

    run(played())


@on_both_loops
@pytest.mark.parametrize("by_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_client_that_leaves(run: Run, certificates: Certificates, by_tls: bool, end: str) -> None:
    """The application is cancelled as soon as that is noticed, though nothing was sent to the client."""

    async def played() -> None:
        async with _serving(tls=certificates if by_tls else None) as (_, application, port):
            application.may_answer.clear()
            context = _client() if by_tls else None
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(QUESTION)
            await application.asked.wait()
            writer.close() if end == "close" else writer.transport.abort()
            await _until(lambda: bool(application.ends))
            assert application.ends == ["cancelled"]

    run(played())


@on_both_loops
@pytest.mark.parametrize("by_tls", [False, True], ids=["plain", "TLS"])
def test_a_client_that_does_not_read(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, by_tls: bool
) -> None:
    """It is cut off, and the application knows that its answer was not taken. One that reads gets all."""

    async def played() -> None:
        async with _serving(tls=certificates if by_tls else None) as (server, application, port):
            application.size = 20_000_000
            context = _client() if by_tls else None
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=2**26)
            writer.write(LAST)
            assert len((await reader.read()).partition(b"\r\n\r\n")[2]) == application.size
            assert application.ends == ["sent"]
            writer.close()
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            cast("asyncio.Transport", writer.transport).pause_reading()
            with too_late(monkeypatch, "READ"):
                writer.write(QUESTION)
                await _until(lambda: len(application.ends) == 2)
            assert application.ends[1] in ("gone", "cancelled")
            await _until(lambda: not server.connections)
            writer.close()

    run(played())


async def _answered_client(port: int, request: bytes) -> ssl.SSLSocket:
    """Return a client of TLS that has read its answer, and reads no further."""

    def asked() -> ssl.SSLSocket:
        connected = socket.create_connection(("127.0.0.1", port))
        client = _client().wrap_socket(connected, server_hostname="localhost")
        client.sendall(request)
        assert client.recv(1024).startswith(b"HTTP/1.1 ")
        return client

    return await asyncio.to_thread(asked)


@on_both_loops
@pytest.mark.parametrize("request_", [LAST, b"BAD\r\n\r\n"], ids=["answered", "refused"])
def test_a_client_that_does_not_end_tls(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    """Its connection is not kept long after the last answer, so that another client can have its place."""

    async def played() -> None:
        async with _serving(tls=certificates, max_connections=1) as (server, _, port):
            with too_late(monkeypatch, "CLOSE"):
                client = await _answered_client(port, request_)
                await _until(lambda: not server.connections, seconds=5)
            await _ask(port, _client())
            client.close()

    run(played())


@on_both_loops
def test_a_stop_does_not_wait_for_the_end_of_tls(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle connection is closed, whether its client takes part or not."""

    async def played() -> None:
        async with _serving(tls=certificates, idle_grace=0) as (server, _, port):
            client = await _answered_client(port, QUESTION)
            await _until(lambda: bool(server.idle))
            with too_late(monkeypatch, "CLOSE"):
                async with asyncio.timeout(5):
                    await server.stop(60)
            client.close()

    run(played())


@on_both_loops
@pytest.mark.parametrize("by_tls", [False, True], ids=["plain", "TLS"])
def test_a_client_that_reads_slowly_after_the_last_answer(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, by_tls: bool
) -> None:
    """It gets all of it, though the server has closed the connection."""

    async def played() -> None:
        async with _serving(tls=certificates if by_tls else None) as (server, application, port):
            application.size = 20_000_000
            context = _client() if by_tls else None
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            looks: list[bool] = []

            def noted(transport: asyncio.Transport) -> bool:
                looks.append(is_unread(transport))
                return looks[-1]

            monkeypatch.setattr("authsvc.net.asgi_connection.is_unread", noted)
            monkeypatch.setattr("authsvc.net.asgi_connection._CLOSE_SECONDS", 0.02)
            writer.write(LAST)
            answer = bytearray()
            while not application.ends:
                answer += await reader.read(2**16)
            await _until(lambda: len(looks) > 10 or not server.connections)
            answer += await reader.read()
            assert len(answer.partition(b"\r\n\r\n")[2]) == application.size
            assert application.ends == ["sent"]
            assert not by_tls or looks[:10] == [True] * 10
            writer.close()

    run(played())


@on_both_loops
def test_a_flood_of_connections(run: Run) -> None:
    """Some are closed, as many as are allowed stay, and those that ask are answered."""

    async def played() -> None:
        async with _serving(max_connections=20) as (server, application, port):
            application.reads = False
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
            assert all(
                told.startswith(b"HTTP/1.1 200")
                for told in await asyncio.gather(*(exchange(port, LAST) for _ in range(10)))
            )
            assert len(server.connections) <= 20
            assert server.closed["full"] == 0
            for _, writer in silent:
                writer.close()

    run(played())
