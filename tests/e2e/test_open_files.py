"""A service with few open files, whose ports are full of connections that say nothing.

Whatever strangers hold, the service keeps files for itself: for the database, metrics, reloaded files and new
workers.
"""

import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.certificates import Authority, replace
from tests.e2e.process import Ended, environment, eventually, free_port, on_linux, run
from tests.e2e.test_transport import calling
from tests.e2e.test_workers import Pack, pack

_FILES, _WORKERS = 256, 2
_CONNECTIONS = 600
_HELLO_BEGUN = b"\x16\x03\x01\x02\x00"
_HEAD_BEGUN = b"GET /check HTTP/1.1\r\n"
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def _program(files: int) -> tuple[str, str]:
    """Return arguments of Python that run authsvc with this limit of open files."""
    return (
        "-c",
        "import resource; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files})); "
        "from authsvc.cli import main; main()",
    )


def _started(directory: Path, files: int, **settings: object) -> Ended:
    return run(sys.executable, *_program(files), "serve", cwd=directory, env=environment(**settings))


@contextmanager
def _crowd(port: int, begun: bytes, context: ssl.SSLContext | None = None) -> Iterator[None]:
    """Hold very many connections to a port, each of which has sent something; with a context, over TLS."""
    with ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            with suppress(OSError):  # it was refused, or closed to make room
                if context is not None:
                    held = stack.enter_context(context.wrap_socket(held))
                held.sendall(begun)
        yield


def _open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """The crowd is in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def _everything_works(on: Pack, authority: Authority, rotated: Path) -> None:
    """Check what has to work beside the crowd."""
    lease = "authsvc_lease_seconds"
    async with calling(on.server, authority) as admin:
        made = await admin.CreateKey(owner_id="acme", display_name="Orders")
        # Each connection to the database ends, that of the feed included.
        await on.database.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await eventually(lambda: all(on.server.metric(lease, worker) < 2.9 for worker in range(_WORKERS)))
        await eventually(lambda: all(on.server.metric(lease, worker) > 2.9 for worker in range(_WORKERS)))
        await admin.RevokeKey(key_id=made.key.key_id)
        assert not (await admin.VerifyKey(key_string=made.key_string)).valid
    replace(rotated, b"no certificate")
    await eventually(lambda: on.server.metric("authsvc_stale_files") == 1)
    assert on.told("AUTHSVC_TLS_CERT") > 0


async def _workers_start(on: Pack, authority: Authority) -> None:
    os.kill((await on.pids())[0], signal.SIGKILL)
    await on.tells("serves again")
    for _ in range(4):
        async with calling(on.server, authority) as admin:
            await admin.ListKeys(owner_id="acme")


@on_linux
@pytest.mark.parametrize(
    ("port", "begun", "tls"),
    [
        ("listen", b"", False),
        ("listen", _HELLO_BEGUN, False),
        ("listen", _HTTP2, True),
        ("http_listen", b"", False),
        ("http_listen", _HEAD_BEGUN, False),
        ("admin_listen", b"", False),
    ],
    ids=["grpc-silent", "grpc-half-open", "grpc-idle", "http-silent", "http-begun", "admin-silent"],
)
async def test_a_crowd_of_strangers_takes_no_file_of_ours(
    directory: Path, database_url: str, port: str, begun: bytes, tls: bool
) -> None:
    """Metrics, the lease, the pool, reloaded files and the start of a worker all go on."""
    authority = Authority()
    pair = authority.issue("CN=server")
    pair.write(directory / "tls.pem", directory / "tls.key")
    given = {
        "listen": f"127.0.0.1:{free_port()}",
        "http_listen": f"127.0.0.1:{free_port()}",
        "admin_listen": f"127.0.0.1:{free_port()}",
        "tls_cert": directory / "tls.pem",
        "tls_key": directory / "tls.key",
        "lease": "3s",
    }
    context = ssl.create_default_context(cadata=authority.cert.decode()) if tls else None
    if context is not None:
        context.check_hostname = False
    async with pack(directory, database_url, _WORKERS, program=_program(_FILES), **given) as on:
        with _crowd(int(str(given[port]).rpartition(":")[2]), begun, context):
            await _everything_works(on, authority, directory / "tls.pem")
            for pid in await on.pids():
                assert _open_files(pid) < _FILES - 32
            pair.write(directory / "tls.pem", directory / "tls.key")
            await _workers_start(on, authority)
        assert on.told("Too many open files") == 0
        assert on.server.end() == 0


def test_too_few_files_stop_the_start(directory: Path, database_url: str) -> None:
    """The error has the limit, what is needed, and how to raise it; before anything listens or connects."""
    for files, told in (
        (100, "the limit of open files is 100, and a worker with 14 connections to the database"),
        (40, "the limit of open files is 40, and a supervisor of 2 workers (AUTHSVC_WORKERS) needs"),
    ):
        done = _started(directory, files, database_url=database_url, workers=2, listen="127.0.0.1:0")
        assert (done.code, done.stdout) == (1, "")
        assert done.stderr.startswith(f"authsvc: {told}")
        assert "raise it (ulimit -n, LimitNOFILE= of systemd)" in done.stderr
        assert done.stderr.count("\n") == 1
