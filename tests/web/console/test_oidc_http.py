"""Calls of an OpenID provider: TLS is verified, and nothing comes between."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from authsvc.web.console.oidc.failure import ProviderUnavailable
from authsvc.web.console.oidc.http_client import HttpClient, is_allowed
from tests.certificates import Authority
from tests.environment_proxy import named

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"


@asynccontextmanager
async def _server(
    tls: ssl.SSLContext | None = None, answer: bytes = _ANSWER
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Yield the port of a server that answers whatever it is asked, and what it was asked."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def _contexts(directory: Path, authority: Authority, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the context of a server, and that of a client that trusts its authority."""
    cert, key = directory / "cert", directory / "key.pem"
    authority.issue(names=(name,), addresses=()).write(cert, key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cadata=authority.cert.decode())


async def test_a_certificate_of_a_trusted_authority(tmp_path: Path) -> None:
    server, client = _contexts(tmp_path, Authority(), "localhost")
    async with _server(server) as (port, heard):
        answer = await HttpClient(client).get(
            f"https://localhost:{port}/a?b=c", {"authorization": "Bearer x"}
        )
        assert answer == (200, b"{}")
    [head] = heard
    assert head.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert f"host: localhost:{port}\r\n".encode() in head
    assert b"authorization: Bearer x\r\n" in head


@pytest.mark.parametrize("name", ["localhost", "idp.example"])
async def test_a_certificate_that_is_not_to_be_trusted(tmp_path: Path, name: str) -> None:
    """Of an authority that the system does not know, or for another name."""
    authority = Authority()
    server, client = _contexts(tmp_path, authority, name)
    async with _server(server) as (port, heard):
        with pytest.raises(ProviderUnavailable, match="localhost cannot be called"):
            await HttpClient(client if name != "localhost" else None).get(f"https://localhost:{port}/")
    assert heard == []


async def test_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with named(monkeypatch) as proxy, _server() as (port, heard):
        await HttpClient().post(f"http://localhost:{port}", {}, b"x=y")
        assert proxy.heard == []
    assert heard[0].startswith(b"POST / HTTP/1.1\r\n")
    assert b"content-length: 3\r\n" in heard[0]


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", b"x" * 100_000]
)
async def test_an_answer_that_is_not_http(answer: bytes) -> None:
    async with _server(answer=answer) as (port, _):
        with pytest.raises(ProviderUnavailable):
            await HttpClient().get(f"http://localhost:{port}/")


async def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(ProviderUnavailable, match=r"idp\.invalid"):
        await HttpClient().get("https://idp.invalid/")


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://idp.example", True),
        ("https://idp.example:8443/x?y", True),
        ("http://localhost:1/", True),
        ("http://127.0.0.1/", True),
        ("http://[::1]:1/", True),
        ("http://idp.example/", False),
        ("http://localhost.example/", False),
        ("https://user@idp.example/", False),
        ("https://idp.example:x/", False),
        ("https:///x", False),
        ("https://idp.example/\r\nx: y", False),
        ("https://idp.example/a b", False),
        ("https://ïdp.example/", False),
        ("//idp.example/", False),
        ("", False),
    ],
)
def test_which_addresses_are_called(url: str, allowed: bool) -> None:
    assert is_allowed(url) == allowed
