"""TLS, certificates and plain text, for the service and for the command line."""

import asyncio
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests import environment_proxy
from tests.certificates import Authority, Pair
from tests.conftest import Client
from tests.e2e.process import Ended, Server, authsvc, eventually, running
from tests.e2e.test_start import refusal
from tests.e2e.test_workers import RETRYING

CALLERS = """
[[caller]]
spiffe_id = "spiffe://example.org/admin"
owner_id = "authsvc"
scopes = ["full_access"]
"""


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(directory: Path, authority: Authority) -> dict[str, object]:
    """Settings with valid files."""
    authority.issue("CN=server").write(directory / "tls.pem", directory / "tls.key")
    return {"tls_cert": directory / "tls.pem", "tls_key": directory / "tls.key"}


@pytest.fixture
def ca(directory: Path, authority: Authority) -> Path:
    """The file of the authority, which clients trust."""
    path = directory / "ca.pem"
    path.write_bytes(authority.cert)
    return path


@asynccontextmanager
async def calling(server: Server, authority: Authority) -> AsyncIterator[Client]:
    """Yield an administrator's client with a connection of its own."""
    credentials = grpc.ssl_channel_credentials(authority.cert)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", RETRYING)]
    async with grpc.aio.secure_channel(server.address, credentials, options) as channel:
        yield Client(channel, server.admin_key)


async def shown(server: Server) -> bytes:
    """Return the certificate that a new connection is shown."""
    host, _, port = server.address.rpartition(":")
    return (await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)), timeout=10)).encode()


async def test_each_worker_takes_a_rotation(
    directory: Path, database_url: str, authority: Authority, files: dict[str, object]
) -> None:
    """It is reloaded within seconds, and no call fails; neither does one in a rolling restart with TLS."""
    (directory / "data").mkdir()
    with running("dev", directory, database_url=database_url, **files | {"workers": 2}) as server:
        stop = False

        async def stay() -> None:
            async with calling(server, authority) as client:
                while not stop:
                    await client.VerifyKey(key_string="x")

        async def come_and_go() -> None:
            while not stop:
                async with calling(server, authority) as client:
                    await client.VerifyKey(key_string="x")

        async with asyncio.TaskGroup() as clients:
            for client in (stay, stay, come_and_go):
                clients.create_task(client())
            try:
                pair = authority.issue("CN=server")
                pair.write(directory / "tls.pem", directory / "tls.key")
                await eventually(lambda: server.stderr.count("reloaded AUTHSVC_") == 2)
                assert {await shown(server) for _ in range(10)} == {pair.cert}
                server.process.send_signal(signal.SIGHUP)
                await eventually(lambda: "the rolling restart is done" in server.stderr)
                assert {await shown(server) for _ in range(10)} == {pair.cert}
            finally:
                stop = True


def test_the_command_line_calls_by_tls(
    directory: Path, database_url: str, authority: Authority, files: dict[str, object], ca: Path
) -> None:
    """TLS is enabled by the authority or by https://; without the authority, the call fails."""
    (directory / "data").mkdir()
    with running("dev", directory, database_url=database_url, **files) as server:
        for address in (server.address, f"https://{server.address}", f"https://localhost:{_port(server)}"):
            done = server.run("keys", "list", "authsvc", "--json", address=address, call_tls_ca=ca)
            assert (done.code, len(done.stdout.splitlines())) == (0, 1), done.stderr
        assert server.run("status", call_tls_ca=ca).code == 0
        told = refusal(server.run("keys", "list", "authsvc", address=f"https://{server.address}"))
        assert "AUTHSVC_CALL_TLS_CA" in told
        told = refusal(server.run("keys", "list", "authsvc"))
        assert "https://host:port for TLS" in told


def test_the_command_line_is_a_caller_by_certificate(
    directory: Path, database_url: str, authority: Authority, files: dict[str, object], ca: Path
) -> None:
    """The certificate authenticates a caller without a key; without a certificate, no connection is made."""
    (directory / "data").mkdir()
    (directory / "callers.toml").write_text(CALLERS)
    given = files | {"tls_client_ca": ca, "callers": directory / "callers.toml"}
    with running("dev", directory, database_url=database_url, **given) as server:

        def listed(pair: Pair) -> Ended:
            pair.write(directory / "client.pem", directory / "client.key")
            return server.run(
                *("keys", "list", "authsvc", "--json"),
                call_tls_ca=ca,
                call_tls_cert=directory / "client.pem",
                call_tls_key=directory / "client.key",
            )

        done = listed(authority.issue("CN=x", uris=("spiffe://example.org/admin",)))
        assert (done.code, json.loads(done.stdout)["creator_id"]) == (0, "bootstrap")
        told = refusal(listed(authority.issue("CN=x")))
        assert told.startswith("the certificate of CN=x is not listed; ")
        assert told.endswith("(UNAUTHENTICATED)")
        told = refusal(listed(Authority("Stranger").issue("CN=x")))
        assert "AUTHSVC_CALL_TLS_CERT" in told
        told = refusal(server.run("keys", "list", "authsvc", call_tls_ca=ca))
        assert "AUTHSVC_CALL_TLS_CERT" in told


@pytest.mark.parametrize("command", ["serve", "dev"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "authsvc.internal"])
def test_plain_text_beyond_loopback_stops_the_start(directory: Path, command: str, host: str) -> None:
    """It is refused before anything is created, with the settings to use instead."""
    told = refusal(authsvc(command, cwd=directory, listen=f"{host}:0"))
    assert told == (
        f"AUTHSVC_LISTEN: key strings would travel in plain text beyond loopback, at {host}:0; set "
        "AUTHSVC_TLS_CERT and AUTHSVC_TLS_KEY, or listen at 127.0.0.1. Where a lower layer encrypts, "
        "set AUTHSVC_INSECURE=plaintext-beyond-loopback"
    )
    assert list(directory.iterdir()) == []


def test_plain_text_over_http_stops_the_start(directory: Path) -> None:
    """The same goes for the RPCs over HTTP."""
    told = refusal(authsvc("serve", cwd=directory, web_listen="0.0.0.0:8080"))
    assert told.startswith(
        "AUTHSVC_WEB_LISTEN: key strings would travel in plain text beyond loopback, at 0.0.0.0:8080; set "
        "AUTHSVC_TLS_CERT and AUTHSVC_TLS_KEY, or listen at 127.0.0.1."
    )


def test_plain_text_in_so_many_words(directory: Path, database_url: str) -> None:
    """With the setting for it, it is allowed, with a warning."""
    listens = {"listen": "0.0.0.0:0", "http_listen": "[::]:0", "web_listen": "[::]:0"}
    given = {**listens, "insecure": "plaintext-beyond-loopback"}
    with running("serve", directory, database_url=database_url, **given) as server:
        for listen in listens.values():
            told = f"key strings are sent in plain text to {listen}: use it only on a private network"
            assert told in server.stderr
    told = refusal(authsvc("serve", cwd=directory, insecure="yes"))
    assert told == "AUTHSVC_INSECURE: Input should be '' or 'plaintext-beyond-loopback'"


def test_migrating_needs_no_tls(directory: Path, database_url: str) -> None:
    """A command that does not serve ignores the address to serve at."""
    done = authsvc("migrate", cwd=directory, database_url=database_url, listen="0.0.0.0:50051")
    assert done.code == 0


def test_a_key_does_not_leave_the_machine_in_plain_text(directory: Path) -> None:
    """The command line does not send one either."""
    told = refusal(authsvc("keys", "list", "a", cwd=directory, address="192.0.2.1:1", key="secret"))
    assert told == (
        "the key would be sent to 192.0.2.1:1 in plain text; set AUTHSVC_ADDRESS=https://192.0.2.1:1, "
        "or, if a lower layer encrypts the traffic, AUTHSVC_INSECURE=plaintext-beyond-loopback"
    )


@pytest.mark.parametrize("insecure", ["", "plaintext-beyond-loopback"])
@pytest.mark.parametrize("address", ["192.0.2.1:1", "https://192.0.2.1:1", "https://authsvc.internal:1"])
def test_the_key_of_dev_is_not_sent_elsewhere(directory: Path, address: str, insecure: str) -> None:
    """The key of `authsvc dev` is for this machine; for another service, a key must be set."""
    (directory / "admin.key").write_text("secret")
    given = {"address": address, "data_dir": directory, "insecure": insecure}
    told = refusal(authsvc("keys", "list", "a", cwd=directory, **given))
    assert told == (
        f"set AUTHSVC_KEY to a key string of the service at {address.removeprefix('https://')}; "
        f"the one in {directory}/admin.key is for `authsvc dev` on this machine and is not sent to another "
        "machine"
    )


async def test_no_proxy_of_the_environment(
    directory: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`http_proxy` and similar variables are ignored, so a proxy does not get the administrator's key."""
    (directory / "data").mkdir()
    with running("dev", directory, database_url=database_url) as server:
        async with environment_proxy.named(monkeypatch) as proxy:
            async with grpc.aio.insecure_channel(server.address) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await Client(channel, "x").ListKeys(owner_id="a")
            assert proxy.heard, "this environment is not one that gRPC heeds"
            proxy.heard.clear()
            for address, code in ((server.address, 0), (f"https://{server.address}", 1)):
                ended = await asyncio.to_thread(server.run, "keys", "list", "a", address=address)
                assert ended.code == code, ended.stderr
            assert proxy.heard == []


def test_half_of_a_pair_is_told(directory: Path) -> None:
    """A certificate without its key does not lead to plain text either."""
    told = refusal(authsvc("status", cwd=directory, address="127.0.0.1:1", call_tls_cert="x"))
    assert told == "set both AUTHSVC_CALL_TLS_CERT and AUTHSVC_CALL_TLS_KEY, or neither"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tls_key": ""}, "AUTHSVC_TLS_KEY: a certificate and its key are set together, or neither"),
        ({"tls_cert": ""}, "AUTHSVC_TLS_CERT: a certificate and its key are set together, or neither"),
        ({"tls_cert": "/none"}, "AUTHSVC_TLS_CERT: there is no file /none; check the setting"),
        ({"tls_client_ca": "/none"}, "AUTHSVC_TLS_CLIENT_CA: there is no file /none; check the setting"),
        (
            {"callers": "/none"},
            "AUTHSVC_CALLERS: without AUTHSVC_TLS_CLIENT_CA no caller shows a certificate; set it",
        ),
        (
            {"tls_cert": "", "tls_key": "", "tls_client_ca": "/none"},
            "AUTHSVC_TLS_CLIENT_CA: clients show certificates over TLS only; "
            "set AUTHSVC_TLS_CERT and AUTHSVC_TLS_KEY",
        ),
    ],
)
def test_what_does_not_fit_together_stops_the_start(
    directory: Path, files: dict[str, object], changes: dict[str, object], told: str
) -> None:
    """The error has the setting and the remedy, before anything is created."""
    before = sorted(directory.iterdir())
    assert refusal(authsvc("dev", cwd=directory, **files | changes)) == told
    assert sorted(directory.iterdir()) == before


def test_callers_without_credentials_are_announced(directory: Path, database_url: str) -> None:
    """The log says what they may do, once for any number of workers."""
    given = {"anonymous_scopes": "keys:verify,keys:read", "workers": 2}
    with running("serve", directory, database_url=database_url, **given) as server:
        pass
    assert re.findall(r"callers of \S+ without a credential.*?keys:\w+, keys:\w+", server.stderr) == [
        "callers of 127.0.0.1:0 without a credential act on every owner, with keys:read, keys:verify"
    ]


def _port(server: Server) -> str:
    return server.address.rpartition(":")[2]
