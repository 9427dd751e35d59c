"""Durations: how they are parsed, and how they are displayed."""

from datetime import timedelta

import pytest

from authsvc.config.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(days=14)),
        ("1y", timedelta(days=365)),
        ("1h30m", timedelta(minutes=90)),
        ("1d12h5m2s3ms", timedelta(days=1, hours=12, minutes=5, seconds=2, milliseconds=3)),
        ("1.5h", timedelta(minutes=90)),
        ("30", timedelta(seconds=30)),
        ("0.1", timedelta(milliseconds=100)),
        (".5", timedelta(milliseconds=500)),
        ("5.", timedelta(seconds=5)),
        ("0", timedelta(0)),
        ("0d", timedelta(0)),
        ("-1d", timedelta(days=-1)),
        (" 5m ", timedelta(minutes=5)),
        ("9" * 20 + "d", timedelta.max),
        ("9" * 400, timedelta.max),
        ("-" + "9" * 400, timedelta.min),
    ],
)
def test_a_length_is_read(text: str, length: timedelta) -> None:
    """Numbers with units, which are added; a number without a unit is in seconds."""
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "d", "soon", "5 m", "5M", "5min", "5m30", "1e3", "nan", "inf", "--5m", "P1D", "5m-30s", "٣s"]
)
def test_what_is_not_a_length_is_refused(text: str) -> None:
    """The remedy shows the units."""
    with pytest.raises(
        ValueError, match=r"^use a number and its unit, for instance 500ms, 30s, 5m, 12h or 30d"
    ):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "1ms", "100ms", "30s", "90s", "5m", "90m", "12h", "36h", "7d", "400d"])
def test_a_length_is_shown_as_it_is_written(text: str) -> None:
    """In the largest unit that gives a whole number."""
    assert format_duration(parse_duration(text)) == text


def test_a_length_below_a_millisecond_is_shown_in_seconds() -> None:
    """The displayed form can be parsed again."""
    assert format_duration(timedelta(microseconds=1500)) == "0.0015s"
