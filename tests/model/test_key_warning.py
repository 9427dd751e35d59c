"""Which warnings are due for a key, and that none is skipped or given twice."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.key_warning import (
    DAY,
    EXPIRY_THRESHOLDS,
    UNUSED_PERIOD,
    WARNINGS,
    GivenWarning,
    KeyWarning,
    WatchedKey,
    due_warnings,
)
from authsvc.model.notification import NotificationType
from tests.model.samples import HOUR, NOW, TICK

EXPIRING, EXPIRED, UNUSED, ROTATION_DUE = WARNINGS
_LONG_AGO = NOW - 10_000 * DAY


def a_key(**fields: Any) -> WatchedKey:
    """Return a key that was created now, with the given fields replaced."""
    return WatchedKey(**{"key_id": "key_1", "create_time": NOW, **fields})


def look(key: WatchedKey, now: datetime, since: datetime = _LONG_AGO) -> tuple[WatchedKey, list[KeyWarning]]:
    """Give all warnings that are due; return the key with them, and the warnings."""
    warnings = due_warnings(key, now, since=since)
    given_before = {(each.kind, each.threshold_days): each for each in key.given}
    for each in warnings:
        row = GivenWarning(each.kind, each.threshold_days, each.about_time)
        given_before[(each.kind, each.threshold_days)] = row
    return replace(key, given=tuple(given_before.values())), warnings


def shown(warnings: list[KeyWarning]) -> list[tuple[str, int]]:
    return [(each.kind, each.threshold_days) for each in warnings]


def of_kind(key: WatchedKey, now: datetime, kind: NotificationType) -> list[KeyWarning]:
    return [each for each in due_warnings(key, now, since=_LONG_AGO) if each.kind == kind]


@pytest.mark.parametrize("days", EXPIRY_THRESHOLDS)
def test_a_threshold_to_the_instant(days: int) -> None:
    """Due with exactly as many days left, and not a microsecond before."""
    expire_time = NOW + 365 * DAY
    key = a_key(expire_time=expire_time)
    at = expire_time - days * DAY
    [due] = of_kind(key, at, EXPIRING)
    assert (due.threshold_days, due.about_time) == (days, expire_time)
    assert due.details == {"remaining_days": str(days), "threshold_days": str(days)}
    before = [each.threshold_days for each in of_kind(key, at - TICK, EXPIRING)]
    assert days not in before


@pytest.mark.parametrize(
    ("remaining", "days"), [(TICK, "1"), (DAY, "1"), (DAY + TICK, "2"), (6 * DAY + HOUR, "7"), (7 * DAY, "7")]
)
def test_days_are_rounded_up(remaining: timedelta, days: str) -> None:
    """Nobody is told of fewer days than there are."""
    expire_time = NOW + 60 * DAY
    [due] = of_kind(a_key(expire_time=expire_time), expire_time - remaining, EXPIRING)
    assert due.details["remaining_days"] == days


@pytest.mark.parametrize(
    ("life", "thresholds"),
    [
        (60 * DAY, [30, 7, 1]),
        (60 * DAY - TICK, [7, 1]),
        (14 * DAY, [7, 1]),
        (14 * DAY - TICK, [1]),
        (2 * DAY, [1]),
        (2 * DAY - TICK, []),
    ],
)
def test_thresholds_beyond_half_a_life_are_not_for_it(life: timedelta, thresholds: list[int]) -> None:
    """A key of a week is not warned of from its first day on."""
    key, told = a_key(expire_time=NOW + life), list[int]()
    for minute in range(int(life / HOUR) + 1):
        key, due = look(key, NOW + minute * HOUR)
        told += [each.threshold_days for each in due if each.kind == EXPIRING]
    assert told == thresholds


def test_a_late_look_gives_the_tightest_only() -> None:
    """After an outage that spans two thresholds, and never the looser ones afterwards."""
    key = a_key(expire_time=NOW + 100 * DAY)
    key, due = look(key, NOW + 96 * DAY)
    assert [each for each in shown(due) if each[0] == EXPIRING] == [(EXPIRING, 7)]
    key, due = look(key, NOW + 96 * DAY + HOUR)
    assert due == []
    # Also if the clock was set back.
    assert look(key, NOW + 80 * DAY)[1] == []
    key, due = look(key, NOW + 99 * DAY)
    assert shown(due) == [(EXPIRING, 1)]
    assert look(key, NOW + 98 * DAY)[1] == []
    assert look(key, NOW + 80 * DAY)[1] == []


def test_a_later_expiry_rearms_and_an_earlier_one_does_not() -> None:
    """The life of an extended key is from its creation to the new expiry."""
    key = a_key(expire_time=NOW + 20 * DAY)
    key, due = look(key, NOW + 13 * DAY)
    assert shown(due) == [(EXPIRING, 7)]
    key = replace(key, expire_time=NOW + 80 * DAY)
    assert look(key, NOW + 13 * DAY)[1] == []
    key, due = look(key, NOW + 50 * DAY)  # 30 days are within half of the life now.
    assert shown(due) == [(EXPIRING, 30)]
    key = replace(key, expire_time=NOW + 70 * DAY)
    assert look(key, NOW + 50 * DAY)[1] == []
    key, due = look(key, NOW + 63 * DAY)
    assert shown(due) == [(EXPIRING, 7)]
    key = replace(key, expire_time=NOW + 80 * DAY)
    assert look(key, NOW + 63 * DAY)[1] == []  # It was told at 30 days of this expiry.


def test_an_expiry_is_told_however_late() -> None:
    """Once, unless it was before warnings began; again when the key is reactivated and expires again."""
    key = a_key(expire_time=NOW + DAY)
    assert of_kind(key, NOW + DAY - TICK, EXPIRED) == []
    [due] = of_kind(key, NOW + DAY, EXPIRED)
    assert (due.about_time, due.details) == (NOW + DAY, {})
    key, warnings = look(key, NOW + 3000 * DAY)
    assert shown(warnings) == [(EXPIRED, 0)]
    assert look(key, NOW + 3001 * DAY)[1] == []
    key = replace(key, expire_time=NOW + 3002 * DAY)
    key, warnings = look(key, NOW + 3002 * DAY)
    assert shown(warnings) == [(EXPIRED, 0)]


def test_what_expired_before_warnings_began_is_no_news() -> None:
    """At that very instant it is none either; a microsecond later it is."""
    key = a_key(expire_time=NOW + DAY)
    later = NOW + 2 * DAY
    assert due_warnings(key, later, since=NOW + DAY) == []
    assert shown(due_warnings(key, later, since=NOW + DAY - TICK)) == [(EXPIRED, 0)]


def test_unused_since_the_creation_or_the_last_use() -> None:
    """Each use re-arms it."""
    key = a_key()
    at = NOW + UNUSED_PERIOD
    assert of_kind(key, at - TICK, UNUSED) == []
    [due] = of_kind(key, at + 23 * HOUR, UNUSED)
    assert (due.about_time, due.details) == (NOW, {"unused_days": "90"})
    key, _ = look(key, at)
    assert look(key, at + 1000 * DAY)[1] == []
    key = replace(key, last_use_time=at + DAY)
    assert look(key, at + DAY + UNUSED_PERIOD - TICK)[1] == []
    [due] = of_kind(key, at + 2 * DAY + UNUSED_PERIOD, UNUSED)
    assert (due.about_time, due.details) == (at + DAY, {"unused_days": "91"})


def test_rotation_is_due_at_the_age_that_the_policy_says() -> None:
    """Once; a longer period re-arms it, a shorter one does not. Use does not matter."""
    period = 30 * DAY
    key = a_key(rotation_period=period, last_use_time=NOW + 29 * DAY)
    assert of_kind(key, NOW + period - TICK, ROTATION_DUE) == []
    [due] = of_kind(key, NOW + period + HOUR, ROTATION_DUE)
    assert due.about_time == NOW + period
    assert due.details == {"age_days": "30", "rotation_period": "2592000s"}
    key, _ = look(key, NOW + period)
    assert look(key, NOW + 40 * DAY)[1] == []
    key = replace(key, rotation_period=50 * DAY)
    assert look(key, NOW + 49 * DAY)[1] == []
    key, warnings = look(key, NOW + 50 * DAY)
    assert shown(warnings) == [(ROTATION_DUE, 0)]
    for shorter in (10 * DAY, timedelta(0)):
        assert look(replace(key, rotation_period=shorter), NOW + 51 * DAY)[1] == []
    assert of_kind(a_key(), NOW + 1000 * DAY, ROTATION_DUE) == []


_AT = NOW + 99 * DAY + HOUR  # within a day of the expiry, unused, and due to be rotated


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({}, [EXPIRING, UNUSED, ROTATION_DUE]),
        ({"is_ending": True}, []),
        ({"is_delivered": False}, [UNUSED]),
        ({"is_enabled": False}, [EXPIRING]),
        ({"expire_time": _AT}, [EXPIRED]),
        ({"expire_time": _AT, "is_ending": True}, []),
        ({"expire_time": _AT, "is_delivered": False}, []),
        ({"expire_time": _AT, "is_enabled": False}, [EXPIRED]),
        ({"expire_time": None, "last_use_time": _AT, "rotation_period": timedelta(0)}, []),
    ],
)
def test_who_is_warned_of_what(fields: dict[str, Any], kinds: list[str]) -> None:
    """An expired key is neither unused nor due; an ending one warns nobody."""
    key = a_key(**{"expire_time": NOW + 100 * DAY, "rotation_period": 90 * DAY, **fields})
    assert [each.kind for each in due_warnings(key, _AT, since=_LONG_AGO)] == kinds


# In hours, so that looks, uses and expiries often coincide.
_HOURS = st.integers(0, 24 * 400)


@given(
    life=st.integers(1, 24 * 200),
    extensions=st.lists(st.tuples(_HOURS, st.integers(1, 24 * 100)), max_size=3),
    looks=st.lists(_HOURS, max_size=60),
)
def test_expiries_against_an_oracle(life: int, extensions: list[tuple[int, int]], looks: list[int]) -> None:
    """Looks at any times, by outages of any length, while the expiry moves to later times.

    The oracle keeps what was told of each expiry, without any rows.
    """
    expire, key = life, a_key(expire_time=NOW + life * HOUR)
    told: dict[int, list[int]] = {}  # by expiry: the thresholds, 0 for its end
    moves = sorted(extensions)
    for hour in sorted(looks):
        while moves and moves[0][0] <= hour:
            expire += moves.pop(0)[1]
            key = replace(key, expire_time=NOW + expire * HOUR)
        key, due = look(key, NOW + hour * HOUR)
        got = [each.threshold_days for each in due if each.kind in (EXPIRING, EXPIRED)]
        within = [days for days in (1, 7, 30) if expire - hour <= 24 * days and 48 * days <= expire]
        state = 0 if hour >= expire else min(within, default=None)
        before = told.setdefault(expire, [])
        assert got == ([] if state is None or state in before else [state])
        before += got
    for thresholds in told.values():
        assert thresholds == sorted(set(thresholds), reverse=True)


@given(
    uses=st.lists(_HOURS, max_size=8),
    looks=st.lists(_HOURS, max_size=60),
    period=st.integers(0, 24 * 200),
)
def test_use_and_age_against_an_oracle(uses: list[int], looks: list[int], period: int) -> None:
    """Each span of 90 days without use is told once, if anybody looks before the next use; an age once."""
    key, told, due_told = a_key(rotation_period=period * HOUR), set[int](), False
    for hour in sorted(looks):
        used = max((use for use in uses if use <= hour), default=0)
        key = replace(key, last_use_time=NOW + used * HOUR if used else None)
        key, warnings = look(key, NOW + hour * HOUR)
        kinds = [each.kind for each in warnings]
        assert (UNUSED in kinds) == (hour - used >= 24 * 90 and used not in told)
        assert (ROTATION_DUE in kinds) == (bool(period) and hour >= period and not due_told)
        told |= {used} if UNUSED in kinds else set()
        due_told |= ROTATION_DUE in kinds
