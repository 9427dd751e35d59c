"""The requested properties of a new key."""

from datetime import datetime, timedelta

import pytest

from authsvc.model.errors import InvalidArgument
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.new_key import NewKey, checked_expire_time
from tests.model.samples import HOUR, NOW, TICK

CENTURY = timedelta(days=36525)


def expiring(expiration: datetime | timedelta | ExpirationPreset) -> datetime | None:
    return NewKey(owner_id="acme", display_name="Orders", expiration=expiration).expire_time(NOW)


def test_never_unless_asked_for() -> None:  # rule 3
    """A key without a requested expiry never expires."""
    assert NewKey(owner_id="acme", display_name="Orders").expire_time(NOW) is None


@pytest.mark.parametrize("ttl", [timedelta(seconds=1), HOUR, CENTURY])
def test_ttl_counts_from_now(ttl: timedelta) -> None:
    """A time to live ends that long after the key is created."""
    assert expiring(ttl) == NOW + ttl


@pytest.mark.parametrize("ttl", [timedelta(0), -HOUR, CENTURY + TICK])
def test_ttl_out_of_range_is_refused(ttl: timedelta) -> None:  # rule 3
    """A time to live that ends now, in the past or after more than 100 years is refused like such a date."""
    with pytest.raises(InvalidArgument):
        expiring(ttl)


def test_preset_counts_from_now() -> None:  # rule 3
    """A preset counts from the time of creation."""
    assert expiring(ExpirationPreset.ONE_MONTH) == datetime(2026, 12, 21, 12, 0, tzinfo=NOW.tzinfo)


@pytest.mark.parametrize("date", [NOW + TICK, NOW + HOUR, NOW + CENTURY])
def test_future_date_is_kept(date: datetime) -> None:  # rule 3
    """A date from the next microsecond to 100 years ahead is accepted."""
    assert expiring(date) == date


@pytest.mark.parametrize("date", [NOW, NOW - TICK, NOW - CENTURY])
def test_past_date_is_refused(date: datetime) -> None:  # rule 3
    """A date that is not in the future is refused, with the field's name and the current time."""
    with pytest.raises(InvalidArgument) as refused:
        expiring(date)
    [violation] = refused.value.violations
    assert (violation.field, violation.rule) == ("expire_time", "expire_time.future")
    assert "2026-11-21T12:00:00Z" in violation.description


def test_date_too_far_is_refused() -> None:
    """A date more than 100 years ahead is considered a mistake."""
    with pytest.raises(InvalidArgument) as refused:
        expiring(NOW + CENTURY + TICK)
    [violation] = refused.value.violations
    assert (violation.field, violation.rule) == ("expire_time", "expire_time.furthest")


@pytest.mark.parametrize("date", [NOW, NOW + 2 * CENTURY])
def test_violation_has_the_path_of_the_request(date: datetime) -> None:
    """If the field is nested in the request, the violation has that path."""
    with pytest.raises(InvalidArgument) as refused:
        checked_expire_time("key.expire_time", date, NOW)
    assert [violation.field for violation in refused.value.violations] == ["key.expire_time"]
    assert str(refused.value).startswith("key.expire_time: ")
