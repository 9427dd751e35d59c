"""Log lines that unknown callers cause: without values, and limited in number."""

import json
import re
from pathlib import Path

import pytest

from authsvc.telemetry.line_limit import MAX_LINES
from tests.e2e.process import Server, free_port, running
from tests.gateway.client import Headers, ask_http2

_EMPTY = b"\0\0\0\0\0"
_REQUESTS = 60


def _request(*more: tuple[str, str | bytes]) -> Headers:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "authsvc.test"),
        (":path", "/authsvc.v1.KeyService/ListKeys"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]


async def _flooded(server: Server) -> None:
    """Send metadata that is not text, with credentials in it, and metadata that gRPC's core refuses."""
    port = int(server.address.rpartition(":")[2])
    key_string, padding = server.admin_key.encode(), b"p" * 4000
    for _ in range(_REQUESTS):
        answer = await ask_http2(
            port,
            _request(
                ("authorization", b"Bearer " + key_string + b"\xff"),
                ("x-api-key", b"\xff" + key_string),
                ("cookie", b"sid=hunter2; note=\xfe\xff" + padding),
            ),
            data=_EMPTY,
        )
        # UNAUTHENTICATED, and RESOURCE_EXHAUSTED after too many failures.
        assert answer.headers["grpc-status"] in ("16", "8")
    for more in ("grpc-timeout", "hunter2"), ("x-made-up-bin", "hunter2!"):
        assert (await ask_http2(port, _request(more), data=_EMPTY)).headers["grpc-status"] == "13"


@pytest.mark.parametrize("style", ["json", "text"])
async def test_metadata_that_is_no_text(directory: Path, database_url: str, style: str) -> None:
    """Grpcio logs each value; its lines are written without the value, limited in number, and counted."""
    (directory / "data").mkdir()
    listen = f"127.0.0.1:{free_port()}"
    given = {"database_url": database_url, "log_format": style, "admin_listen": listen, "transport": "grpcio"}
    with running("dev", directory, **given) as server:
        secret = server.admin_key[-51:]
        before = len(server.stderr)
        await _flooded(server)
        metric = 'authsvc_log_lines_dropped_total{logger="grpc._cython.cygrpc"}'
        dropped = server.metric(metric)
        written = server.stderr[before:]
        complaints = written.count("Invalid encoding on %s")
        # From each of the places that parse metadata.
        assert complaints in (MAX_LINES, 2 * MAX_LINES)
        assert complaints + dropped >= 2 * _REQUESTS
        for hidden in ("hunter2", secret[:12], secret[-20:-8], "pppp"):
            assert hidden not in written
        assert len(written) < 1000 * (complaints + 2)
        server.end()
        # The number of dropped lines is logged at the end, if the minute is not over before.
        told = re.findall(r"(\d+) more lines of grpc._cython.cygrpc", server.stderr)
        assert sum(map(int, told)) == dropped
    if style == "json":
        assert all(json.loads(line)["level"] for line in server.stderr[before:].splitlines())
    assert re.search(r"^[EWI]\d{4} ", server.stderr, re.MULTILINE) is None, (
        "gRPC's core has written by itself"
    )
