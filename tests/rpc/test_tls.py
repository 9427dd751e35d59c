"""TLS on the port with real certificates: rotation, removed authorities, broken files."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.config.settings import ConfigError
from authsvc.rpc.tls import Tls
from tests.certificates import Authority, Pair, replace
from tests.rpc.secure import Files, Secure

# The first bytes of an HTTP/2 client: the preface, and empty settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@asynccontextmanager
async def load(secure: Secure, roots: bytes, pair: Pair | None = None) -> AsyncIterator[Callable[[], int]]:
    """Call continuously, over lasting and over new connections; fail when one call fails.

    Yields the number of answers over new connections.
    """
    fresh = 0
    stop = False

    async def stay() -> None:
        async with secure.channel(pair, roots=roots) as channel:
            while not stop:
                await secure.verify(channel)

    async def come_and_go() -> None:
        nonlocal fresh
        while not stop:
            await secure.verify_anew(pair, roots=roots)
            fresh += 1

    async with asyncio.TaskGroup() as clients:
        for _ in range(3):
            clients.create_task(stay())
            clients.create_task(come_and_go())
        try:
            yield lambda: fresh
        finally:
            stop = True


def stale(secure: Secure) -> float:
    """Return the number of broken files, from the metrics."""
    value = secure.service.app.metrics.registry.get_sample_value("authsvc_stale_files")
    assert value is not None
    return value


async def more(count: Callable[[], int], by: int) -> None:
    """Wait until the count has grown by this number."""
    start = count()
    async with asyncio.timeout(60):
        while count() < start + by:  # noqa: ASYNC110 - a load is counted, not announced
            await asyncio.sleep(0)


async def test_a_rotation_fails_no_call(secure: Secure) -> None:
    """Alternating certificates of two authorities, under load: each is used at once, and no call fails."""
    other = Authority("Other CA")
    roots = secure.authority.cert + other.cert
    async with load(secure, roots) as fresh:
        for authority in (other, secure.authority) * 4:
            pair = authority.issue("CN=server")
            secure.files.write(pair)
            await secure.tls.look()
            assert await secure.shown() == pair.cert
            await more(fresh, 6)


async def test_rotating_the_authority_of_clients_fails_no_call(mutual: Secure) -> None:
    """First both are trusted, then clients get new certificates, then the old one is removed."""
    other = Authority("Other CA")
    old, new = mutual.authority.issue("CN=a"), other.issue("CN=a")
    async with load(mutual, mutual.authority.cert, old) as by_old:
        replace(mutual.files.client_ca, mutual.authority.cert + other.cert)
        await mutual.tls.look()
        await more(by_old, 6)
        async with load(mutual, mutual.authority.cert, new) as by_new:
            await more(by_new, 6)
    async with load(mutual, mutual.authority.cert, new) as by_new:
        replace(mutual.files.client_ca, other.cert)
        await mutual.tls.look()
        await more(by_new, 6)


async def test_an_authority_that_is_gone_opens_no_connection(mutual: Secure) -> None:
    """Its certificates are refused from the change on; an open connection stays until its maximum age."""
    other = Authority("Other CA")
    gone, kept = other.issue("CN=gone"), mutual.authority.issue("CN=kept")
    replace(mutual.files.client_ca, mutual.authority.cert + other.cert)
    await mutual.tls.look()
    async with mutual.channel(gone) as before:
        await mutual.verify(before)
        replace(mutual.files.client_ca, mutual.authority.cert)
        await mutual.tls.look()
        await mutual.verify(before)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await mutual.verify_anew(gone)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    await mutual.verify_anew(kept)


@pytest.mark.parametrize("shows", ["none", "a stranger's"])
async def test_clients_have_to_show_a_certificate(mutual: Secure, shows: str) -> None:
    """Without a certificate, or with one of an unknown authority, no connection opens, whatever the key."""
    pair = Authority("Stranger").issue("CN=admin") if shows != "none" else None
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await mutual.verify_anew(pair)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_ticket_of_before_opens_nothing(mutual: Secure, tmp_path: Path) -> None:
    """A resumed session shows no certificate, so no session can be resumed after a change of authorities."""
    other = Authority("Other CA")
    pair = other.issue("CN=gone")
    pair.write(tmp_path / "client.pem", tmp_path / "client.key")
    replace(mutual.files.client_ca, mutual.authority.cert + other.cert)
    await mutual.tls.look()
    context = ssl.create_default_context(cadata=mutual.authority.cert.decode())
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")

    def connect(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        """Return whether the session was resumed, and the session for the next connection."""
        host, _, port = mutual.service.address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
        ):
            connection.sendall(_HELLO)
            if not connection.recv(1):
                raise ConnectionError("closed")
            return bool(connection.session_reused), connection.session

    _, session = await asyncio.to_thread(connect, None)
    resumed, session = await asyncio.to_thread(connect, session)
    assert resumed
    replace(mutual.files.client_ca, mutual.authority.cert)
    await mutual.tls.look()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.to_thread(connect, session)


async def test_plain_text_is_not_answered(secure: Secure) -> None:
    """A client that does not use TLS gets no answer."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await secure.service.admin.VerifyKey(key_string="x")
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


BROKEN: dict[str, tuple[Callable[[Files], None], str]] = {
    "certificate of another pair": (
        lambda files: replace(files.cert, Authority().issue("CN=other").cert),
        "AUTHSVC_TLS_KEY: {0.key} is not the key of the certificate in {0.cert}; "
        "use a certificate and a key that belong together",
    ),
    "half a certificate": (
        lambda files: replace(files.cert, files.cert.read_bytes()[:300]),
        "AUTHSVC_TLS_CERT: {0.cert} contains no valid certificate; use PEM, with its chain",
    ),
    "empty certificate": (
        lambda files: replace(files.cert, b""),
        "AUTHSVC_TLS_CERT: {0.cert} contains no valid certificate; use PEM, with its chain",
    ),
    "not even text": (
        lambda files: replace(files.cert, b"\xff\x00"),
        "AUTHSVC_TLS_CERT: {0.cert} contains no valid certificate; use PEM, with its chain",
    ),
    "half a key": (
        lambda files: replace(files.key, files.key.read_bytes()[:100]),
        "AUTHSVC_TLS_KEY: {0.key} contains no readable private key; use PEM, without a password",
    ),
    "no key": (
        lambda files: files.key.unlink(),
        "AUTHSVC_TLS_KEY: there is no file {0.key}; check the setting",
    ),
    "expired": (
        lambda files: files.write(Authority().issue("CN=server", begins=-timedelta(days=61))),
        "AUTHSVC_TLS_CERT: clients would refuse {0.cert}: certificate has expired; issue a new certificate",
    ),
    "not valid yet": (
        lambda files: files.write(Authority().issue("CN=server", begins=timedelta(days=1))),
        "AUTHSVC_TLS_CERT: clients would refuse {0.cert}: certificate is not yet valid; "
        "issue a new certificate",
    ),
    "a key of a kind that nobody takes": (
        lambda files: files.write(Authority().issue("CN=server", curve=ec.SECP256K1())),
        "AUTHSVC_TLS_CERT: clients would refuse {0.cert} (NO_SHARED_CIPHER); "
        "issue one with an RSA, P-256 or P-384 key",
    ),
    "rubbish for authorities": (
        lambda files: replace(files.client_ca, b"rubbish"),
        "AUTHSVC_TLS_CLIENT_CA: {0.client_ca} contains no valid certificate; use PEM, with its chain",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_rotation_keeps_what_was(
    mutual: Secure, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The old files stay in use, the log says once what is wrong, and fixed files are loaded."""
    breaks, told = BROKEN[name]
    breaks(mutual.files)
    with caplog.at_level(logging.ERROR):
        await mutual.tls.look()
        await mutual.tls.look()
    [line] = caplog.messages
    assert line == f"{told.format(mutual.files)}; until this is corrected, the previous version is used"
    assert stale(mutual)
    client = mutual.authority.issue("CN=a")
    await mutual.verify_anew(client)
    pair = mutual.authority.issue("CN=server")
    mutual.files.write(pair)
    replace(mutual.files.client_ca, mutual.authority.cert)
    await mutual.tls.look()
    assert not stale(mutual)
    await mutual.verify_anew(client)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_stop_the_start(files: Files, name: str) -> None:
    """The error has the setting, the file and the remedy."""
    breaks, told = BROKEN[name]
    breaks(files)
    with pytest.raises(ConfigError) as refused:
        Tls(files.cert, files.key, files.client_ca)
    assert str(refused.value) == told.format(files)


async def test_the_metrics_tell_when_it_expires(secure: Secure) -> None:
    """For the certificate in use."""
    read = secure.service.app.metrics.registry.get_sample_value
    days = timedelta(days=1).total_seconds()
    assert 29.9 * days < (read("authsvc_certificate_seconds") or 0) <= 30 * days
    secure.files.write(secure.authority.issue("CN=server", begins=timedelta(days=-50)))
    await secure.tls.look()
    assert 9.9 * days < (read("authsvc_certificate_seconds") or 0) <= 10 * days


async def test_a_rotation_by_symbolic_links(secure: Secure, tmp_path: Path) -> None:
    """As in Kubernetes: both files are behind one symbolic link, which changes atomically."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = secure.authority.issue("CN=one"), secure.authority.issue("CN=two")
    first.write(tmp_path / "one/tls.pem", tmp_path / "one/tls.key")
    second.write(tmp_path / "two/tls.pem", tmp_path / "two/tls.key")
    (tmp_path / "now").symlink_to("one")
    secure.files.cert.unlink()
    secure.files.key.unlink()
    secure.files.cert.symlink_to("now/tls.pem")
    secure.files.key.symlink_to("now/tls.key")
    await secure.tls.look()
    assert await secure.shown() == first.cert
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "now")
    await secure.tls.look()
    assert await secure.shown() == second.cert


async def test_a_key_with_a_password_is_refused(files: Files) -> None:
    """There is nobody to enter the password."""
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    replace(
        files.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ),
    )
    with pytest.raises(ConfigError, match=r"AUTHSVC_TLS_KEY: .* without a password"):
        Tls(files.cert, files.key)


async def test_one_pair_may_lie_in_one_file(files: Files, authority: Authority) -> None:
    """Some tools write certificate, chain and key into one file; both settings then name it."""
    pair = authority.issue("CN=server")
    replace(files.cert, pair.key + pair.cert + authority.cert)
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", Tls(files.cert, files.cert).credentials())
    await server.start()
    try:
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10)
    finally:
        await server.stop(0)
    assert pem.encode() == pair.cert
