"""The lines of the log: how long they can get, and what is left of a key string at a cut."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from authsvc.model.key_string import KeyMint, redact
from authsvc.telemetry import LONGEST_TRACEBACK, LONGEST_VALUE, configure_logging, shortened

# Names, the time, the level, and what says how much was left out.
BESIDES = 500


@pytest.fixture(params=["json", "text"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # so that those of the test run are not closed
    stream = io.StringIO()
    configure_logging("info", request.param, redact, stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_a_long_text_is_shortened(log: io.StringIO) -> None:
    """Also one that a library logs, or a value of another type; JSON stays JSON."""
    text = "beginning " + "x y" * 20_000 + " end"
    logging.getLogger("some.library").error("said: %s", text)
    structlog.get_logger().error("said", value=text, values=[text, text])
    lines = log.getvalue().splitlines()
    assert len(lines) == 2
    for line, values in zip(lines, (1, 2), strict=True):
        assert len(line) < values * LONGEST_VALUE + BESIDES
        assert "beginning x y" in line
        assert re.search(r"\[\.\.\. \d+ characters left out \.\.\.\]", line)
        if line.startswith("{"):
            json.loads(line)


def test_a_long_traceback_is_shortened(log: io.StringIO) -> None:
    """Its beginning and its end are there, which say where it was and what."""
    try:
        raise ValueError("beginning " + "x " * 1_000_000 + "the end")
    except ValueError:
        logging.getLogger("x").exception("a fault")
    assert len(log.getvalue()) < LONGEST_TRACEBACK + BESIDES
    assert "Traceback" in log.getvalue()
    assert "ValueError: beginning" in log.getvalue()
    assert "the end" in log.getvalue()


def test_no_key_string_is_cut_so_that_it_is_not_known(log: io.StringIO) -> None:
    """Wherever the cut is in a key string, nothing of its secret is in the log."""
    key = KeyMint(b"k" * 32).mint("authsvc", "live")
    for place in range(len(key.text) + 1):
        for half in (LONGEST_VALUE // 2, LONGEST_VALUE):
            text = " " * (half - place) + key.text + " " * LONGEST_VALUE
            logging.getLogger("x").error("%s", text[: half - place + len(key.text)] + " " * (2 * half))
            logging.getLogger("x").error(
                "%s", " " * (2 * half) + text[half - place : half + LONGEST_VALUE // 2]
            )
    for length in range(4, len(key.secret)):
        assert key.secret[:length] not in log.getvalue()
        assert key.secret[-length:] not in log.getvalue()


@pytest.mark.parametrize("length", [0, 10, 11, 100, 1000])
def test_what_fits_is_left_as_it_is(length: int) -> None:
    """And what does not is shorter afterwards, but for what says so."""
    text = "é " * length
    assert (shortened(text, 20) == text) is (len(text) <= 20)
    assert len(shortened(text, 20)) < 20 + 40


def test_very_many_values_are_not_logged(log: io.StringIO) -> None:
    """A library that logs a table of a caller's making gets 32 of its values into the log."""
    structlog.get_logger().error("said", **{f"name{number}": "x" * 5000 for number in range(1000)})
    assert len(log.getvalue()) < 32 * (LONGEST_VALUE + 100)
