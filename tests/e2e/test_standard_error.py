"""No line of gRPC's core, or of the C library, reaches the log of a service as it was written."""

import json
import os
import re
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from authsvc.telemetry.line_limit import MAX_LINES
from tests.certificates import Authority
from tests.conftest import TRANSPORTS
from tests.e2e.process import eventually, free_port, on_linux, running_as
from tests.e2e.test_workers import pack

_LINE = b"E1126 08:47:32.112099   14747 hpack_parser.cc:1048] Error parsing 'x-hunter2' metadata: hunter2\n"
_PROGRAM = (
    "-c",
    # A worker writes what gRPC's core, or the C library before it ends the process, would write.
    "import os\n"
    "from authsvc.process import worker\n"
    "serving = worker.serving\n"
    "def talking(*given):\n"
    f"    os.write(2, {_LINE!r} * 100)\n"
    "    with __import__('contextlib').suppress(BlockingIOError):\n"
    "        os.write(2, b'y' * 10_000_000)\n"
    "    return serving(*given)\n"
    "worker.serving = talking\n"
    "from authsvc.cli import main; main()",
)


@on_linux
async def test_no_raw_text_reaches_the_log(directory: Path, database_url: str) -> None:
    """Every line of a service is one of ours, also when a worker is flooded with others, and crashes."""
    async with pack(directory, database_url, 1, program=_PROGRAM, log_format="json") as on:
        os.kill((await on.pids())[0], signal.SIGABRT)
        await on.tells("serves again")
        assert on.server.end() == 0
        written = on.server.stderr
    lines = [json.loads(line) for line in written.splitlines()]
    parsing = [line for line in lines if line["event"] == "gRPC: Error parsing (hpack_parser.cc:1048)"]
    assert len(parsing) == MAX_LINES
    assert {line["worker"] for line in parsing} == {0}
    assert "hunter2" not in written
    assert any(re.match(r"\d+ more lines of authsvc.process.standard_error", line["event"]) for line in lines)


@on_linux
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_why_a_client_cannot_connect(
    directory: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """The log says why TLS handshakes fail, in lines of ours: at level debug, or with GRPC_VERBOSITY=INFO."""
    monkeypatch.setenv("GRPC_VERBOSITY", "INFO")
    (directory / "data").mkdir()
    Authority().issue("CN=server").write(directory / "tls.pem", directory / "tls.key")
    port = free_port()
    given = {
        "database_url": database_url,
        "log_format": "json",
        "log_level": "debug" if transport == "lane" else "info",
        "transport": transport,
        "listen": f"127.0.0.1:{port}",
        "tls_cert": directory / "tls.pem",
        "tls_key": directory / "tls.key",
    }
    with running_as(("-m", "authsvc.cli"), "dev", directory, **given) as server:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(b"hello world\r\n\r\n")
            with suppress(OSError):
                client.recv(1)
        await eventually(lambda: "WRONG_VERSION_NUMBER" in server.stderr)
        assert server.end() == 0
    assert all(json.loads(line)["level"] for line in server.stderr.splitlines())
