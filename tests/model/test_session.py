"""The life of a session."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from authsvc.model.activity import SHORTEST_TIMEOUT
from authsvc.model.errors import FailedPrecondition, InvalidArgument
from authsvc.model.session import NewSession, Session, SessionBounds, SessionState, shortened
from tests.model.samples import HOUR, NOW, TICK

DAY = 24 * HOUR
BOUNDS = SessionBounds(idle_timeout=HOUR, max_idle_timeout=DAY, lifetime=DAY, max_lifetime=30 * DAY)


def a_session(**fields: Any) -> Session:
    """Return a session that was just created, with the given fields replaced."""
    values: dict[str, Any] = {
        "session_id": "ses_1",
        "owner_id": "alice",
        "key_prefix": "eg_session_012345678901",
        "create_time": NOW,
        "creator_id": "key_0",
        "latest_expire_time": NOW + DAY,
        "idle_timeout": HOUR,
        "last_activity_time": NOW,
    }
    return Session(**values | fields)


@pytest.mark.parametrize(
    ("last_activity_time", "end"),
    [
        (NOW, NOW + HOUR),
        (NOW + HOUR / 2, NOW + 1.5 * HOUR),
        (NOW + DAY - HOUR, NOW + DAY),
        (NOW + DAY - TICK, NOW + DAY),
    ],
    ids=str,
)
def test_ends_at_the_very_instant(last_activity_time: datetime, end: datetime) -> None:  # rule 13
    """EXPIRED when it was idle too long or is too old, whichever comes first; ACTIVE a microsecond before."""
    session = a_session(last_activity_time=last_activity_time)
    assert session.expire_time == end
    assert [session.state(end + after) for after in (-TICK, 0 * TICK, TICK)] == [
        SessionState.ACTIVE,
        SessionState.EXPIRED,
        SessionState.EXPIRED,
    ]


@pytest.mark.parametrize("now", [NOW - DAY, NOW, NOW + HOUR, NOW + 2 * DAY], ids=str)
def test_revoked_by_every_clock(now: datetime) -> None:  # rules 12, 16
    """A revoked one is REVOKED, expired or not, also by a clock that was set back."""
    session = a_session().revoked(NOW, by="key_9")
    assert (session.revoke_time, session.revoker_id) == (NOW, "key_9")
    assert session.state(now) is SessionState.REVOKED


def test_revoking_twice_is_refused() -> None:  # rules 16, 17
    """The refusal has the session and the time of its end, and a machine-readable reason."""
    a_session().refuse_if_revoked()
    with pytest.raises(FailedPrecondition, match=r"ses_1 was already revoked at 2026-11-21T12:00") as caught:
        a_session(revoke_time=NOW).refuse_if_revoked()
    assert caught.value.reason == "SESSION_ALREADY_REVOKED"


def test_the_operator_says_how_long_a_session_lives() -> None:
    """Without a requested value there is the default; a requested value within the bounds is used."""
    assert BOUNDS.lengths(NewSession(owner_id="alice")) == (HOUR, DAY)
    for idle_timeout, lifetime in [(SHORTEST_TIMEOUT, SHORTEST_TIMEOUT), (DAY, 30 * DAY), (DAY, HOUR)]:
        new = NewSession(owner_id="alice", idle_timeout=idle_timeout, lifetime=lifetime)
        assert BOUNDS.lengths(new) == (idle_timeout, lifetime)


@pytest.mark.parametrize(
    ("lengths", "paths"),
    [
        ({"idle_timeout": SHORTEST_TIMEOUT - TICK}, ["idle_timeout"]),
        ({"idle_timeout": DAY + TICK}, ["idle_timeout"]),
        ({"lifetime": SHORTEST_TIMEOUT - TICK}, ["lifetime"]),
        ({"lifetime": 30 * DAY + TICK}, ["lifetime"]),
        ({"idle_timeout": 0 * TICK, "lifetime": -HOUR}, ["idle_timeout", "lifetime"]),
        ({"idle_timeout": timedelta.max, "lifetime": timedelta.max}, ["idle_timeout", "lifetime"]),
    ],
    ids=str,
)
def test_beyond_the_bounds_is_refused(lengths: dict[str, Any], paths: list[str]) -> None:
    """Each length that is too short or too long is named, all at once."""
    with pytest.raises(InvalidArgument) as caught:
        BOUNDS.lengths(NewSession(owner_id="alice", **lengths))
    assert [violation.field for violation in caught.value.violations] == paths


@pytest.mark.parametrize(
    ("user_agent", "kept"),
    [
        ("", ""),
        ("curl/8", "curl/8"),
        ("a\r\nb\0c\x1b[31md\x7f\x9f", "a b c [31md "),
        ("x" * 600, "x" * 512),
        ("\ud800half", " half"),
        ("Mobilfunkgerät 😀", "Mobilfunkgerät 😀"),
    ],
)
def test_what_is_kept_of_a_user_agent(user_agent: str, kept: str) -> None:
    """At most 512 characters, none of which controls a terminal or is rejected by the database."""
    assert shortened(user_agent) == kept
    kept.encode()
