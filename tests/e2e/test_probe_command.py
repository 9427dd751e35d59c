"""`authsvc probe` with a running service: over gRPC, by TLS, and at the admin listener."""

import signal
import socket
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.e2e.process import Ended, Server, authsvc, free_port, running, until


def probe(server: Server, *arguments: str, **settings: object) -> Ended:
    """Probe with the settings of the service, as in its container."""
    return authsvc("probe", *arguments, cwd=server.directory, **{**server.settings, **settings})


@pytest.mark.slow
def test_ready_and_stopping(tmp_path: Path) -> None:
    """Over gRPC and at the admin listener, which answers for all workers; both name the reason."""
    listen, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with running("dev", tmp_path, listen=listen, admin_listen=admin, drain_delay="1h") as server:
        assert server.admin("/readyz")[0] == 200
        assert probe(server) == Ended(0, f"authsvc probe: ready: {admin}\n", "")
        ready = Ended(0, f"authsvc probe: ready: {listen}\n", "")
        assert probe(server, admin_listen="") == probe(server, "--address", listen) == ready
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.admin("/readyz")[0] == 503)
        told = f"authsvc probe: not ready: {admin}: worker 0: not ready: this worker is stopping\n"
        assert probe(server) == Ended(1, "", told)
        assert probe(server, "--live") == Ended(0, f"authsvc probe: alive: {admin}\n", "")
        told = f"authsvc probe: not ready: {listen}: this worker is stopping\n"
        assert probe(server, "--address", listen) == Ended(1, "", told)
        alive = Ended(0, f"authsvc probe: alive: {listen}\n", "")
        assert probe(server, "--address", listen, "--live") == alive
        assert server.end() == 0
        assert probe(server, "--live").code == 1


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["lane", "grpcio"])
def test_tls(tmp_path: Path, transport: str) -> None:
    """The own certificate bears a name that is not that of loopback; another service's is checked."""
    authority = Authority()
    pair = authority.issue(names=("authsvc.example",), addresses=())
    for name, pem in (("cert", pair.cert), ("key", pair.key), ("ca", authority.cert)):
        (tmp_path / f"{name}.pem").write_bytes(pem)
    listen = f"127.0.0.1:{free_port()}"
    settings = {
        "listen": listen,
        "transport": transport,
        "tls_cert": tmp_path / "cert.pem",
        "tls_key": tmp_path / "key.pem",
        "tls_client_ca": tmp_path / "ca.pem",
    }
    own = {"call_tls_cert": tmp_path / "cert.pem", "call_tls_key": tmp_path / "key.pem"}
    with running("dev", tmp_path, **settings) as server:
        assert probe(server, **own) == Ended(0, f"authsvc probe: ready: {listen}\n", "")
        without = probe(server)
        assert without.code == 1
        if transport == "lane":
            assert "set AUTHSVC_CALL_TLS_CERT and AUTHSVC_CALL_TLS_KEY" in without.stderr
        own["call_tls_ca"] = tmp_path / "ca.pem"
        wrong = probe(server, "--address", f"https://{listen}", **own)
        assert wrong.code == 1
        assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in wrong.stderr
        # In plain text nothing is answered, and the remedy is named.
        plain = probe(server, "--address", listen, "--timeout", "5s")
        assert plain.code == 1
        assert f"is asked by https://{listen}" in plain.stderr


@pytest.mark.slow
def test_all_addresses(tmp_path: Path) -> None:
    """A service that listens on all addresses, as in a container, is asked on this machine."""
    port = free_port()
    given = {"listen": f"0.0.0.0:{port}", "insecure": "plaintext-beyond-loopback"}
    with running("dev", tmp_path, **given) as server:
        assert probe(server) == Ended(0, f"authsvc probe: ready: 127.0.0.1:{port}\n", "")


def test_a_backlog_that_nobody_serves(tmp_path: Path) -> None:
    """The supervisor holds the port before a worker serves: the connection is made, and nothing answers."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        ended = authsvc("probe", "--timeout", "100ms", cwd=tmp_path, listen=address)
    assert ended == Ended(1, "", f"authsvc probe: not ready: no answer of {address}: timed out\n")
