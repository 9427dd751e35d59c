"""Resource ids."""

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.identifier import creation_time, new_identifier
from tests.model.samples import NOW

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
instants = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))


@given(instants)
def test_form(now: datetime) -> None:
    """An id is its kind and 26 characters of Crockford's base 32, the first one below 8, as in any ULID."""
    assert re.fullmatch(rf"key_[0-7][{ALPHABET}]{{25}}", new_identifier("key", now))


@given(instants, instants)
def test_sorts_by_time(one: datetime, other: datetime) -> None:
    """Of two ids made more than a millisecond apart, the older one sorts first."""
    earlier, later = sorted((one, other))
    if later - earlier > timedelta(milliseconds=1):
        assert new_identifier("key", earlier) < new_identifier("key", later)


@given(instants)
def test_holds_its_time(now: datetime) -> None:
    """The first ten characters are the milliseconds since 1970."""
    value = 0
    for character in new_identifier("key", now)[4:14]:
        value = value * 32 + ALPHABET.index(character)
    assert abs(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value) - now) <= timedelta(
        milliseconds=1
    )


def test_no_two_are_alike() -> None:
    """Ids with the same time differ, in 80 random bits."""
    made = [new_identifier("key", NOW) for _ in range(2000)]
    assert len(set(made)) == 2000
    assert len({identifier[:14] for identifier in made}) == 1
    assert len({identifier[14] for identifier in made}) == 32


def test_kind_comes_first() -> None:
    """The kind shows people what an id is for."""
    assert new_identifier("session", NOW).startswith("session_")


@given(instants)
def test_it_tells_its_time(now: datetime) -> None:
    """To the millisecond."""
    told = creation_time(new_identifier("key", now))
    assert timedelta() <= now - told <= timedelta(milliseconds=1)
