"""The content of log lines from all sources, and the limit on similar lines."""

import asyncio
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from authsvc.model.errors import NotFound
from authsvc.model.key_string import redact
from authsvc.telemetry import configure_logging, log_lines_dropped
from authsvc.telemetry.current_call import CurrentCall, answering
from authsvc.telemetry.line_limit import MAX_LINES, WINDOW_SECONDS, LineLimit
from authsvc.telemetry.logs import LogHandler
from authsvc.telemetry.wording import cut

# Not as one word in a line of code, since tracebacks contain these.
_SECRET = "hunter" + "2"
_KEY = "authsvc_live_" + "A1b2C3d4E5f6" + "s" * 51


class Log:
    """The log of this process, as it would be written."""

    handler: LogHandler

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.now = 0.0
        self.calls: list[Callable[[], None]] = []

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and run the callbacks that are due."""
        self.now += seconds
        calls, self.calls = self.calls, []
        for call in calls:
            call()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """All loggers write there, as in the service, with a clock that the test controls."""
    root, log = logging.getLogger(), Log()
    before = root.handlers[:], root.level
    for module, name in ((warnings, "showwarning"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    root.handlers = []
    configure_logging("debug", "json", redact, log.stream)
    assert isinstance(root.handlers[0], LogHandler)
    log.handler = root.handlers[0]
    log.handler.limit = LineLimit(lambda: log.now)
    monkeypatch.setattr(log.handler, "_later", lambda _, call: log.calls.append(call))
    yield log
    root.handlers, root.level = before


def test_a_librarys_line_has_no_values(log: Log) -> None:
    """Neither its arguments nor the message of an exception are logged; the place of the exception is."""
    try:
        (b"\xff" + _SECRET.encode()).decode()
    except UnicodeDecodeError as error:
        logging.getLogger("grpc._cython.cygrpc").exception("Invalid encoding on %s", error.object)
    [line] = log.lines
    assert line["event"] == "Invalid encoding on %s"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "test_a_librarys_line_has_no_values" in line["exception"]
    assert line["exception"].endswith("\nUnicodeDecodeError")
    assert _SECRET not in log.text


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Task exception was never retrieved\nfuture: <Task coro=<f('hunter2')>>",
            "Task exception was never retrieved",
        ),
        ("Exception in callback f(b'hunter2')()", "Exception in callback f"),
        ("header authorization: hunter2", "header authorization"),
        ('bad value "hunter2"', "bad value"),
        ("'hunter2' is bad", "a message"),
        ("socket.send() raised exception", "socket.send"),
    ],
)
def test_a_line_that_was_filled_before(log: Log, message: str, told: str) -> None:
    """Of a message that a library has formatted itself, only the first words are logged."""
    logging.getLogger("some.library").error(message)
    assert [line["event"] for line in log.lines] == [told]


async def test_a_task_that_nobody_asked(log: Log) -> None:
    """Asyncio reports its end, without its arguments or the message of its exception."""

    class Request:
        def __repr__(self) -> str:
            return "Request(password='hunter2')"

    async def serve(request: Request) -> None:
        raise ValueError(f"cannot serve {request!r}")

    task = asyncio.ensure_future(serve(Request()))
    await asyncio.wait([task])
    del task
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"Fatal error on {Request()!r}", "exception": ValueError(_SECRET)}
    )
    told = [line["event"] for line in log.lines if line["logger"] == "asyncio" and line["level"] == "error"]
    assert told == ["Task exception was never retrieved", "Fatal error on Request"]
    assert _SECRET not in log.text


async def test_a_fault_with_rows_in_it(log: Log, database_url: str) -> None:
    """What asyncpg and PostgreSQL say about arguments and rows is removed; the code is kept."""
    ours = logging.getLogger("authsvc.store.pool")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE TEMPORARY TABLE t (secret text PRIMARY KEY)")
        await connection.execute("INSERT INTO t VALUES ('hunter2')")
        for statement, argument in (
            ("INSERT INTO t VALUES ($1)", "hunter2"),
            ("SELECT $1::int", "hunter2"),
            ("SELECT $1::text::uuid", "hunter2"),
        ):
            try:
                await connection.execute(statement, argument)
            except asyncpg.PostgresError as error:
                ours.exception("a fault in writing")
                ours.warning("a connection was given up: %s", error)
            except asyncpg.InterfaceError:
                ours.exception("a fault in writing")
    finally:
        await connection.close()
    assert "UniqueViolationError (SQLSTATE 23505)" in log.text
    assert "asyncpg.exceptions.DataError" in log.text
    assert "InvalidTextRepresentationError (SQLSTATE 22P02)" in log.text
    assert _SECRET not in log.text


def test_exceptions_behind_an_exception(log: Log) -> None:
    """Each is logged with its traceback and without values; only ours and the system's have their message."""
    try:
        try:
            try:
                raise KeyError(_SECRET)
            except KeyError as error:
                raise FileNotFoundError(2, "No such file or directory", "tls.pem") from error
        except OSError as error:
            raise ExceptionGroup(
                _SECRET, [NotFound("no key_1 here", reason="X"), ValueError(_SECRET)]
            ) from error
    except ExceptionGroup:
        logging.getLogger("authsvc.rpc.endpoint").exception("a fault in %s", "GetKey")
    [line] = log.lines
    assert line["event"] == "a fault in GetKey"
    for told in (
        "\nKeyError\n",
        "FileNotFoundError: [Errno 2] No such file",
        "authsvc.model.errors.NotFound: no key_1 here",
    ):
        assert told in line["exception"], line["exception"]
    assert line["exception"].count("Traceback") == 5
    assert _SECRET not in log.text


@pytest.mark.slow
def test_a_line_has_an_end(log: Log) -> None:
    """The text of a tenant, the message of an exception, its chain and its traceback are all limited."""
    ours = logging.getLogger("authsvc.rpc.endpoint")
    ours.warning("a route for %s and %s", "x" * 1_000_000, ["y" * 1_000_000])
    ours.warning("z" * 1_000_000)
    logging.getLogger("some.library").warning("w" * 1_000_000)

    def fall(depth: int) -> None:
        if depth:
            try:
                fall(depth - 1)
            except NotFound as error:
                raise NotFound("v" * 1_000_000, reason="X") from error
        raise NotFound("v" * 1_000_000, reason="X")

    try:
        fall(200)
    except NotFound:
        ours.exception("a fault")
    assert len(log.lines) == 4
    assert max(map(len, log.text.splitlines())) < 50_000
    assert "(999128 more characters)" in log.text


def test_a_tenants_text_stays_in_its_line(log: Log) -> None:
    """Text from others cannot start a new line or colour a terminal."""
    logging.getLogger("authsvc.gateway").error(
        "no route for %r, %s", "a", "b\n2026 authsvc: all is well\x1b[2J\u2028"
    )
    [line] = log.lines
    assert line["event"] == r"no route for 'a', b\n2026 authsvc: all is well\x1b[2J\u2028"


def test_key_strings_are_cut(log: Log) -> None:  # rule 1
    """Wherever they are in our own lines."""
    logging.getLogger("authsvc.x").error("of %s", _KEY)
    assert log.lines[0]["event"] == "of authsvc_live_A1b2C3d4E5f6…"


def test_a_line_that_cannot_be_put_together(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where it comes from, without its arguments."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [log.handler])  # pytest's own handler would raise
    logging.getLogger("authsvc.x").error("%d keys", _SECRET)
    assert log.text.startswith("a log line of authsvc.x cannot be written: ")
    assert _SECRET not in log.text


def test_what_python_would_write_itself(log: Log) -> None:
    """Warnings, and exceptions in destructors and threads, are logged like other lines."""

    class Broken:
        def __del__(self) -> None:
            raise ValueError(_SECRET)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkey = warnings.showwarning
        monkey(_SECRET, RuntimeWarning, "some.py", 7)
    broken = Broken()
    del broken
    thread = threading.Thread(target=lambda: int(_SECRET), name="metrics")
    thread.start()
    thread.join()
    told = [line["event"] for line in log.lines]
    assert told[0] == "RuntimeWarning at some.py:7"
    assert told[1].startswith("an unraisable exception in ")
    assert told[1].endswith("__del__")
    assert told[2] == "the thread metrics ended with an exception"
    assert _SECRET not in log.text


def _flood(number: int, logger: str = "grpc._cython.cygrpc") -> None:
    for _ in range(number):
        logging.getLogger(logger).error("Invalid encoding on %s", b"x")


def test_a_flood_is_counted(log: Log) -> None:
    """A limited number of lines of a kind is written per minute, then the number of dropped ones."""
    _flood(MAX_LINES + 1000)
    assert len(log.lines) == MAX_LINES
    assert log_lines_dropped() == {"grpc._cython.cygrpc": 1000}
    log.pass_time(WINDOW_SECONDS)
    assert log.lines[-1]["event"].startswith("1000 more lines of grpc._cython.cygrpc from test_logs.py:")
    assert (len(log.lines), log.lines[-1]["level"]) == (MAX_LINES + 1, "error")
    _flood(MAX_LINES + 7)
    assert len(log.lines) == MAX_LINES + 1 + MAX_LINES
    assert log_lines_dropped() == {"grpc._cython.cygrpc": 1007}


def test_a_count_comes_with_the_next_line_and_at_the_end(log: Log) -> None:
    """Also if no timer fires, and if the process ends before the minute is over."""
    _flood(MAX_LINES + 3)
    log.now += WINDOW_SECONDS
    with answering(CurrentCall("another call")):
        logging.getLogger("authsvc.x").info("hello")
    assert [line["event"][:12] for line in log.lines[MAX_LINES:]] == ["3 more lines", "hello"]
    assert [line.get("request_id") for line in log.lines[MAX_LINES:]] == [None, "another call"]
    _flood(MAX_LINES + 4)
    log.handler.close()
    assert log.lines[-1]["event"].startswith("4 more lines")


def test_a_flood_of_one_kind_hides_no_other(log: Log) -> None:
    """Another logger, level, place or exception is another kind; our lines below WARNING are not limited."""
    _flood(MAX_LINES + 10)
    ours = logging.getLogger("authsvc.process.supervisor")
    for number in range(3 * MAX_LINES):
        ours.info("worker %d serves", number)
    for level in (logging.WARNING, logging.ERROR):
        ours.log(level, "worker %d has ended", 1)
    for error in (ValueError(), KeyError()):
        for _ in range(MAX_LINES + 1):
            ours.error("a fault", exc_info=error)
    told = [line["event"] for line in log.lines]
    assert told.count("Invalid encoding on %s") == MAX_LINES
    assert sum(each.endswith("serves") for each in told) == 3 * MAX_LINES
    assert told.count("worker 1 has ended") == 2
    assert told.count("a fault") == 2 * MAX_LINES


def test_the_number_of_kinds_is_bounded(log: Log) -> None:
    """Beyond a limit, new kinds share one, so that neither memory nor the log grows with them."""
    for number in range(3000):
        logging.getLogger("library").handle(
            logging.LogRecord("library", logging.ERROR, "generated.py", number, "m", (), None)
        )
    assert len(log.lines) == 1000 + MAX_LINES
    assert len(log.handler.limit._windows) == 1001


def test_drops_that_are_not_due_are_told_later(log: Log) -> None:
    """A kind whose minute is not over when the timer fires is reported by the next one."""
    _flood(MAX_LINES + 1)
    log.now += WINDOW_SECONDS / 2
    for _ in range(MAX_LINES + 2):
        logging.getLogger("other").error("m %s", 1)
    log.pass_time(WINDOW_SECONDS / 2)
    assert [line["event"][:12] for line in log.lines if "more" in line["event"]] == ["1 more lines"]
    log.pass_time(WINDOW_SECONDS / 2)
    assert [line["event"][:12] for line in log.lines if "more" in line["event"]] == [
        "1 more lines",
        "2 more lines",
    ]


@pytest.mark.parametrize("longest", [1000, 4000])
def test_no_key_string_is_cut_so_that_it_is_not_known(longest: int) -> None:
    """Wherever a text is truncated in a key string, no part of its secret is logged."""
    for place in range(len(_KEY) + 1):
        told = redact(cut(" " * (longest - place) + _KEY + " " * longest, longest))
        assert "ssss" not in told
        assert "A1b2C3d4E5f6s" not in told


@pytest.mark.parametrize("on_terminal", [True, False])
def test_colours_are_for_terminals(log: Log, monkeypatch: pytest.MonkeyPatch, on_terminal: bool) -> None:
    """A file of text lines has no control sequences."""
    monkeypatch.setattr(log.stream, "isatty", lambda: on_terminal)
    configure_logging("info", "text", redact, log.stream)
    logging.getLogger("authsvc.test").warning("a line")
    assert "a line" in log.text
    assert ("\x1b[" in log.text) == on_terminal
