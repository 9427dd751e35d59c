"""When webhooks are called again, and when their owners are told that they fail."""

from datetime import UTC, datetime, timedelta

import pytest

from authsvc.model.retry_schedule import (
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER,
    failing,
    next_delay,
    retry_after_of,
)

_NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_SECOND, _MINUTE, _HOUR, _DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)


def test_the_schedule() -> None:
    """Ten attempts, and then no more."""
    delays = [next_delay(attempts, None, lambda: 0) for attempts in range(1, MAX_ATTEMPTS + 1)]
    assert delays == [
        5 * _SECOND,
        5 * _MINUTE,
        30 * _MINUTE,
        *(hours * _HOUR for hours in (2, 5, 10, 14, 20, 24)),
        None,
    ]


def test_jitter_is_a_tenth() -> None:
    assert next_delay(4, None, lambda: 0.5) == 2 * _HOUR + 6 * _MINUTE
    assert next_delay(4, None, lambda: 1) == 2 * _HOUR + 12 * _MINUTE


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        (_SECOND, 5 * _MINUTE),  # Never earlier than the schedule.
        (timedelta(), 5 * _MINUTE),
        (6 * _MINUTE, 6 * _MINUTE),
        (_DAY, _DAY),
        (300 * _DAY, MAX_RETRY_AFTER),
    ],
)
def test_retry_after_puts_off(retry_after: timedelta, expected: timedelta) -> None:
    assert next_delay(2, retry_after, lambda: 0) == expected
    assert next_delay(MAX_ATTEMPTS, retry_after, lambda: 0) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120 * _SECOND),
        (" 0 ", timedelta()),
        ("Sat, 21 Nov 2026 12:10:00 GMT", 10 * _MINUTE),
        ("Sat, 21 Nov 2026 11:00:00 GMT", timedelta()),
        ("Sat, 21 Nov 2026 12:10:00 -0000", 10 * _MINUTE),
        ("Saturday, 21-Nov-26 12:10:00 GMT", 10 * _MINUTE),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 400, None),
        ("Sat, 99 Nov 2026 12:10:00 GMT", None),
        ("Sat, 21 Nov 9999999999 12:10:00 GMT", None),
    ],
)
def test_retry_after(text: str, expected: timedelta | None) -> None:
    assert retry_after_of(text, _NOW) == expected


def _failing(**values: object) -> object:
    return failing(
        _NOW,
        **{"since": None, "warn_time": None, "idle_since": _NOW, "retry_after": None, **values},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("values", "since", "is_warned", "is_disabled"),
    [
        ({}, _NOW, False, False),
        ({"since": _NOW - 3 * _DAY + _SECOND}, _NOW - 3 * _DAY + _SECOND, False, False),
        ({"since": _NOW - 3 * _DAY}, _NOW - 3 * _DAY, True, False),
        ({"since": _NOW - 4 * _DAY, "warn_time": _NOW - _DAY}, _NOW - 4 * _DAY, False, False),
        ({"since": _NOW - 5 * _DAY, "warn_time": _NOW - _DAY}, _NOW - 5 * _DAY, False, True),
        ({"since": _NOW - 6 * _DAY}, _NOW - 6 * _DAY, False, True),
        # It failed long ago, and had nothing to do since.
        ({"since": _NOW - 90 * _DAY, "idle_since": _NOW - 86 * _DAY}, _NOW, False, False),
        ({"since": _NOW - 5 * _DAY, "idle_since": _NOW - 2 * _DAY}, _NOW - 5 * _DAY, False, True),
    ],
)
def test_failing_for_days(
    values: dict[str, object], since: datetime, is_warned: bool, is_disabled: bool
) -> None:
    found = _failing(**values)
    assert found[:3] == (since, is_warned, is_disabled)  # type: ignore[index]


@pytest.mark.parametrize(
    ("values", "pause"),
    [
        ({}, 5 * _SECOND),
        ({"since": _NOW - 5 * _SECOND}, 5 * _SECOND),
        ({"since": _NOW - 10 * _MINUTE}, _MINUTE),
        ({"since": _NOW - _DAY}, 5 * _MINUTE),
        ({"retry_after": _HOUR}, _HOUR),
        ({"retry_after": 2 * _DAY}, _DAY),
        ({"retry_after": _SECOND}, 5 * _SECOND),
    ],
)
def test_pauses(values: dict[str, object], pause: timedelta) -> None:
    """They are no longer than the schedule of a single delivery."""
    assert _failing(**values)[3] == pause  # type: ignore[index]
