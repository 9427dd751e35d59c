"""What a child writes to standard error past the log: read by its parent, and logged as lines of ours."""

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from authsvc.process.child import Pipe
from authsvc.process.standard_error import StandardError
from authsvc.telemetry.line_limit import MAX_LINES, LineLimit

_CORE = (
    b"E1126 08:46:11.198229   10877 posix_engine_listener.cc:164] File descriptor limit reached. Retrying.\n"
)
_TLS = (
    b"I1126 08:46:04.601529   10354 ssl_transport_security.cc:2563] Handshake failed with error "
    b"SSL_ERROR_SSL: error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER: Invalid certificate\n"
)
_HEADER = b"E1126 08:47:32.112099   14747 hpack_parser.cc:1048] Error parsing 'x-hunter2' metadata: hunter2\n"


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def _logged(pipe: Pipe, caplog: pytest.LogCaptureFixture, *written: bytes) -> list[tuple[int, str]]:
    caplog.set_level(logging.INFO)
    error = StandardError(pipe.reader, {})
    for some in written:
        pipe.writer.write(some)
        error.log()
    pipe.writer.close()
    error.log()
    assert error.closed
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_lines_of_grpc(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    """The level, the fixed words and the place are kept, of TLS also the reason; values are not."""
    assert _logged(pipe, caplog, _CORE + _TLS + _HEADER) == [
        (logging.ERROR, "gRPC: File descriptor limit reached. Retrying. (posix_engine_listener.cc:164)"),
        (
            logging.INFO,
            "gRPC: Handshake failed with error SSL_ERROR_SSL, WRONG_VERSION_NUMBER "
            "(ssl_transport_security.cc:2563)",
        ),
        (logging.ERROR, "gRPC: Error parsing (hpack_parser.cc:1048)"),
    ]


def test_other_lines(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    """They are cut, also those that come in parts, are too long, are no text, or do not end."""
    told = _logged(
        pipe, caplog, b"free(): ", b"invalid pointer\n\n", b"x" * 5000, b"\nNo \xff text\n", b"end"
    )
    assert {level for level, _ in told} == {logging.WARNING}
    texts = [text.removeprefix("on standard error: ") for _, text in told]
    assert texts[0] == "free(): invalid pointer"
    assert len(texts[1]) <= 1000
    assert texts[2:] == ["No \N{REPLACEMENT CHARACTER} text", "end"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("malloc(): invalid size (unsorted)", "malloc(): invalid size (unsorted)"),
        ("malloc(): corrupted unsorted chunks 3", "malloc(): corrupted unsorted chunks 3"),
        ("double free or corruption (!prev)", "double free or corruption (!prev)"),
        ("*** stack smashing detected ***: terminated", "*** stack smashing detected ***: terminated"),
        ("Fatal Python error: Segmentation fault", "Fatal Python error: Segmentation fault"),
        ("Fatal Python error: Aborted hunter2", "Fatal Python error: Aborted"),
        ("free(): invalid pointer: hunter2", "free(): invalid pointer"),
        ("free(): hunter2", "free"),
        ("malloc(): invalid hunter2", "malloc"),
        ("Fatal Python error: hunter2", "Fatal Python error"),
        ("at free(): 'hunter2' free(): invalid pointer", "at free"),
        ("terminate called after throwing an instance of 'hunter2'", None),
    ],
)
def test_last_words(pipe: Pipe, caplog: pytest.LogCaptureFixture, line: str, told: str | None) -> None:
    """Phrases of the C library and the interpreter are kept whole, and nothing besides them."""
    [(_, text)] = _logged(pipe, caplog, f"{line}\n".encode())
    told = line.partition(" '")[0] if told is None else told
    assert text == f"on standard error: {told}"


def test_lines_are_limited_by_their_place(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    """A flood of one kind of lines leaves room for another one."""
    _logged(pipe, caplog, _HEADER * 50, _CORE)
    limit = LineLimit(lambda: 0.0)
    assert sum(limit.admits(record) for record in caplog.records) == MAX_LINES + 1


_UNREAD = """
import contextlib, os, signal, sys
from authsvc.process.children import Children

@contextlib.asynccontextmanager
async def writing(report):
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(2, b"x" * 4096)
    yield "written"

signal.alarm(30)
with Children() as children:
    child = children.fork(writing, "a child", max_stop_seconds=10)
    # Nobody reads what it writes.
    while ("ready", "written") not in list(child.reports()):
        pass
    child.stop()
    while not child.end():
        pass
print(child.end())
"""


def test_a_child_does_not_wait_for_its_reader() -> None:
    """A parent that is stopped, or busy, delays no worker; what does not fit into the pipe is lost."""
    done = subprocess.run([sys.executable, "-c", _UNREAD], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "exit code 0\n", "")
