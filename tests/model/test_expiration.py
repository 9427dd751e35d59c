"""Presets of expiry, by the calendar."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.expiration import ExpirationPreset

instants = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
months = st.sampled_from([ExpirationPreset.ONE_MONTH, ExpirationPreset.SIX_MONTHS, ExpirationPreset.ONE_YEAR])


def day(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}T23:59:59.999999+00:00")


@pytest.mark.parametrize(
    ("preset", "made", "expires"),
    [
        (ExpirationPreset.FIVE_DAYS, "2026-02-26", "2026-03-03"),
        (ExpirationPreset.FIVE_DAYS, "2028-02-26", "2028-03-02"),
        (ExpirationPreset.ONE_MONTH, "2026-11-21", "2026-12-21"),
        (ExpirationPreset.ONE_MONTH, "2026-12-31", "2027-01-31"),
        (ExpirationPreset.ONE_MONTH, "2026-01-31", "2026-02-28"),
        (ExpirationPreset.ONE_MONTH, "2028-01-31", "2028-02-29"),
        (ExpirationPreset.ONE_MONTH, "2100-01-31", "2100-02-28"),
        (ExpirationPreset.ONE_MONTH, "2000-01-30", "2000-02-29"),
        (ExpirationPreset.ONE_MONTH, "2026-03-31", "2026-04-30"),
        (ExpirationPreset.ONE_MONTH, "2026-02-28", "2026-03-28"),
        (ExpirationPreset.SIX_MONTHS, "2026-08-31", "2027-02-28"),
        (ExpirationPreset.SIX_MONTHS, "2027-08-31", "2028-02-29"),
        (ExpirationPreset.ONE_YEAR, "2027-02-28", "2028-02-28"),
        (ExpirationPreset.ONE_YEAR, "2028-02-29", "2029-02-28"),
    ],
)
def test_calendar(preset: ExpirationPreset, made: str, expires: str) -> None:  # rule 3
    """A month ends on the same day of the month, or on its last day; the time of day stays."""
    assert preset.after(day(made)) == day(expires)


def test_unlimited_is_never() -> None:  # rule 3
    """An unlimited key has no instant of expiry."""
    assert ExpirationPreset.UNLIMITED.after(day("2026-11-21")) is None


@given(instants)
def test_five_days_are_120_hours(now: datetime) -> None:  # rule 3
    """Five days are five times 24 hours."""
    assert ExpirationPreset.FIVE_DAYS.after(now) == now + timedelta(hours=120)


@given(instants, months)
def test_months_clip_to_the_last_day(now: datetime, preset: ExpirationPreset) -> None:  # rule 3
    """Later, in the right month, at the same time; on the same day, or on the last day of a shorter month."""
    expires = preset.after(now)
    assert expires is not None
    assert expires > now
    count = {"ONE_MONTH": 1, "SIX_MONTHS": 6, "ONE_YEAR": 12}[preset.name]
    assert (expires.year * 12 + expires.month) - (now.year * 12 + now.month) == count
    assert expires.timetz() == now.timetz()
    assert expires.day == now.day or (
        expires.day < now.day and (expires + timedelta(days=1)).month != expires.month
    )


def test_presets_are_five() -> None:  # rule 3
    """Unlimited, 5 days, 1 month, 6 months, 1 year; none is an alias of another."""
    assert [preset.name for preset in ExpirationPreset] == [
        "UNLIMITED",
        "FIVE_DAYS",
        "ONE_MONTH",
        "SIX_MONTHS",
        "ONE_YEAR",
    ]
