"""`authsvc probe`: what it says of servers that do not answer as authsvc does, and what it costs."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from authsvc.cli import probe
from authsvc.cli.commands import app
from authsvc.config.settings import Settings
from authsvc.net.listen_address import ListenAddress
from tests.certificates import Authority

# Each takes longer to load than the rest of a probe.
HEAVY = {"grpc", "pydantic", "pydantic_settings", "cyclopts", "asyncpg", "google.protobuf", "asyncio"}
Says = Callable[..., tuple[int, str]]
REMEDY = "use host:port, for instance 127.0.0.1:50051 or [::1]:50051"
HTTP_404 = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("AUTHSVC_"):
            monkeypatch.delenv(name)


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """Return a function that probes, and returns the exit code and the one line that is printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = probe.main(arguments)
        printed = capsys.readouterr()
        (line,) = (printed.out + printed.err).splitlines()
        assert (printed.err == "") == (code == 0)
        return code, line.removeprefix("authsvc probe: ")

    return run


class Answering:
    """A server that answers each connection with some bytes, or, with None, does not answer."""

    def __init__(self, answer: bytes | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._answer = answer
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self._answer is None:
                self._held.append(connection)
                continue
            with connection:
                connection.recv(65536)
                connection.sendall(self._answer)

    def __enter__(self) -> str:
        self._thread.start()
        return self.address

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for connection in self._held:
            connection.close()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_nobody_listens(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1, by whichever setting the address is given."""
    address = free_address()
    told = (1, f"not ready: no answer of {address}: Connection refused")
    assert says("--address", address) == told
    monkeypatch.setenv("AUTHSVC_LISTEN", address)
    assert says() == told
    monkeypatch.setenv("AUTHSVC_ADMIN_LISTEN", address)
    monkeypatch.setenv("AUTHSVC_LISTEN", "127.0.0.1:1")
    assert says() == says("--live") == told


def test_no_answer_in_time(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe ends by itself, over gRPC and over HTTP."""
    with Answering(None) as address:
        code, line = says("--address", address, "--timeout", "50ms")
        assert code == 1
        assert line.startswith(f"not ready: no answer of {address}: timed out")
        monkeypatch.setenv("AUTHSVC_ADMIN_LISTEN", address)
        assert says("--timeout", "50ms") == (1, f"not ready: no answer of {address}: timed out")


def test_an_answer_that_takes_too_long_in_all(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though each part of it comes in time."""
    drips = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not drips.wait(0.02):
                    connection.sendall(b"a: b\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("AUTHSVC_ADMIN_LISTEN", address)
        try:
            assert says("--timeout", "200ms") == (1, f"not ready: no answer of {address}: timed out")
        finally:
            drips.set()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the connection was closed before an answer"),
        # Without its length, which HTTP/2 would not understand, it waits for more.
        (HTTP_404, "the connection was closed before an answer"),
        # SETTINGS, then GOAWAY: a server of HTTP/2 that does not want us.
        (bytes([0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0] + 8 * [0]), "the answer is not gRPC"),
    ],
)
def test_another_server(says: Says, answer: bytes, told: str) -> None:
    """What listens there is not authsvc, or serves TLS."""
    with Answering(answer) as address:
        remedy = f"a service with a certificate is asked by https://{address}"
        assert says("--address", address) == (1, f"not ready: no answer of {address}: {told}; {remedy}")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (HTTP_404, "HTTP status 404"),
        (b"HTTP/1.1 503 x\r\ncontent-length: 5\r\n\r\na\n\x1b\nb", "a; ?; b"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no answer: the answer is not HTTP"),
        (b"", "no answer: the answer is not HTTP"),
    ],
)
def test_another_page(says: Says, monkeypatch: pytest.MonkeyPatch, answer: bytes, told: str) -> None:
    """What the admin listener's address answers is told in one line, without control characters."""
    with Answering(answer) as address:
        monkeypatch.setenv("AUTHSVC_ADMIN_LISTEN", address)
        expected = (
            told.replace("no answer", f"no answer of {address}")
            if "no answer" in told
            else f"{address}: {told}"
        )
        assert says() == (1, f"not ready: {expected}")


def test_tls_with_a_server_that_has_none(says: Says) -> None:
    """The error of TLS is shown as it is."""
    with Answering(HTTP_404) as address:
        code, line = says("--address", f"https://{address}")
    assert code == 1
    assert line.startswith(f"not ready: no answer of {address}: [SSL")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "LISTEN",
            "everywhere",
            f"AUTHSVC_LISTEN: {REMEDY}",
        ),
        (
            "ADMIN_LISTEN",
            "9090",
            f"AUTHSVC_ADMIN_LISTEN: {REMEDY}",
        ),
        ("LISTEN", "127.0.0.1:0", "AUTHSVC_LISTEN: has port 0, so the port is not known; use --address"),
        # Whoever looks these names up fails.
        *(
            ("ADMIN_LISTEN", f"{host}:1", f"AUTHSVC_ADMIN_LISTEN: {REMEDY}")
            for host in ("a..b", ".a", "a" * 64)
        ),
    ],
)
def test_a_wrong_setting(
    says: Says, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """Status 2: nothing is known of the service."""
    monkeypatch.setenv(f"AUTHSVC_{name}", value)
    assert says() == (2, told)


def test_wrong_files(says: Says, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the setting and the file."""
    file = tmp_path / "x.pem"
    monkeypatch.setenv("AUTHSVC_CALL_TLS_CA", str(file))
    address = "https://127.0.0.1:1"
    assert says("--address", address) == (
        2,
        f"AUTHSVC_CALL_TLS_CA: cannot use {file}: No such file or directory",
    )
    file.write_text("x")
    code, line = says("--address", address)
    assert code == 2
    assert line.startswith(f"AUTHSVC_CALL_TLS_CA: cannot use {file}: ")
    monkeypatch.delenv("AUTHSVC_CALL_TLS_CA")
    monkeypatch.setenv("AUTHSVC_CALL_TLS_CERT", str(file))
    assert says("--address", address) == (
        2,
        "set both AUTHSVC_CALL_TLS_CERT and AUTHSVC_CALL_TLS_KEY, or neither",
    )
    monkeypatch.setenv("AUTHSVC_CALL_TLS_KEY", str(file))
    code, line = says("--address", address)
    assert code == 2
    assert line.startswith(f"AUTHSVC_CALL_TLS_CERT, AUTHSVC_CALL_TLS_KEY: cannot use {file} with {file}: ")


def test_a_key_with_a_passphrase(says: Says, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenSSL would ask for it on the terminal."""
    pair = Authority().issue("CN=probe")
    (tmp_path / "cert.pem").write_bytes(pair.cert)
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-out", key], input=pair.key, check=True
    )
    monkeypatch.setenv("AUTHSVC_CALL_TLS_CERT", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("AUTHSVC_CALL_TLS_KEY", str(key))
    assert says("--address", "https://127.0.0.1:1")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--address", "x"), "use host:port, or https://host:port for TLS"),
        (("--address", "ftp://x:1"), "use host:port, or https://host:port for TLS"),
        (("--timeout", "3"), "use a number with a unit, for instance 500ms or 3s, up to 60m"),
        (("--timeout", "0s"), "use a number with a unit, for instance 500ms or 3s, up to 60m"),
        (("here",), "unrecognized arguments: here"),
    ],
)
def test_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    """Status 2, as with all commands."""
    with pytest.raises(SystemExit) as ended:
        probe.main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_it_knows_the_default() -> None:
    """The one setting whose default the probe repeats."""
    assert Settings.model_fields["listen"].default.reachable == ListenAddress.parse(probe.LISTEN)


def test_it_is_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`authsvc --help` has it beside the other commands."""
    monkeypatch.setenv("COLUMNS", "160")
    app.help_print([])
    assert "probe" in capsys.readouterr().out.split()


def test_it_loads_little() -> None:
    """Neither over gRPC nor over HTTP is anything loaded that takes longer than the rest of a probe."""
    program = """
import sys
from authsvc.cli import main
sys.argv = ["authsvc", "probe"]
try:
    main()
except SystemExit as ended:
    print(ended.code, *sorted(sys.modules))
"""
    for setting in ("LISTEN", "ADMIN_LISTEN"):
        environment = {**os.environ, f"AUTHSVC_{setting}": "127.0.0.1:1"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        code, *modules = done.stdout.split()
        assert code == "1"
        assert HEAVY & set(modules) == set()
