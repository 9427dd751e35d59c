"""When a webhook is called again, and what its owner is told when calls keep failing."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

# From one attempt to the next one.
_SCHEDULE = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
#: Attempts of a delivery, the first one included.
MAX_ATTEMPTS = len(_SCHEDULE) + 1
#: A receiver puts off the next attempt by at most this much.
MAX_RETRY_AFTER = timedelta(hours=24)
# Deliveries that failed at once are not all retried at once.
_JITTER = 0.1
# How long a webhook is left alone after a failure: as long as a tenth of the time for which it has failed.
_MIN_PAUSE, _MAX_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
# A webhook that failed for this long is warned about, and disabled.
WARNED_AFTER, DISABLED_AFTER = timedelta(days=3), timedelta(days=5)
# A webhook that could have been called for this long, and was not, had nothing to be told. What failed before
# does not count any more. Between two attempts of one delivery, it is about a day.
_MAX_GAP = timedelta(days=2)


def next_delay(attempts: int, retry_after: timedelta | None, random: Callable[[], float]) -> timedelta | None:
    """Return the time to the next attempt, after so many failed ones; None if there is none.

    `retry_after`, which the receiver asked for, is heeded if it is later than the schedule: it never makes
    calls more frequent. `random` returns a number from 0 to 1.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    delay = _SCHEDULE[attempts - 1]
    return max(delay + delay * _JITTER * random(), asked_for(retry_after))


def asked_for(retry_after: timedelta | None) -> timedelta:
    """Return for how long a receiver does not want to be called, which is bounded."""
    return min(retry_after or timedelta(), MAX_RETRY_AFTER)


def retry_after_of(text: str, now: datetime) -> timedelta | None:
    """Return the time that a header Retry-After names (RFC 9110, 10.2.3); None for anything else."""
    text = text.strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return timedelta(seconds=int(text))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta())


class Failing(NamedTuple):
    """What a failure makes of a webhook."""

    since: datetime  # the first failure of those that it belongs to
    is_warned: bool  # its owner is to be warned now
    is_disabled: bool  # it is to be disabled now
    pause: timedelta  # until it is called again, for any delivery


def failing(
    now: datetime,
    *,
    since: datetime | None,
    warn_time: datetime | None,
    idle_since: datetime,
    retry_after: timedelta | None,
) -> Failing:
    """Judge a failure, given the first one since the last success, if any.

    Since `idle_since` the webhook could have been called, if there had been anything to tell it.
    """
    if since is None or now - idle_since > _MAX_GAP:
        since, warn_time = now, None
    duration = now - since
    is_disabled = duration >= DISABLED_AFTER
    return Failing(
        since,
        is_warned=duration >= WARNED_AFTER and warn_time is None and not is_disabled,
        is_disabled=is_disabled,
        pause=max(min(max(duration / 10, _MIN_PAUSE), _MAX_PAUSE), asked_for(retry_after)),
    )
