"""What a key's contacts are warned of, and when.

    key.expiring      30, 7 and 1 days before the expiry, each for keys that live at least twice as long
    key.expired       once the expiry has passed
    key.unused        90 days after the last use, or after the creation
    key.rotation_due  when the key has the age that its owner's policy says

A warning is due from an instant on, and not at an instant, so a look that comes late finds it. It is given
once for what it is about: this expiry, this last use, this time of rotation. A later one re-arms it. Within
several thresholds only the tightest is due, so a looser one never follows.

The life of a key is from its creation to its expiry; a later expiry lengthens it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from authsvc.model.notification import NotificationType
from authsvc.model.policy import duration_text

DAY = timedelta(days=1)
#: Days before the expiry, the tightest first.
EXPIRY_THRESHOLDS = (1, 7, 30)
#: How long a key is not used until its contacts are asked whether it is needed.
UNUSED_PERIOD = 90 * DAY
WARNINGS = (
    NotificationType.KEY_EXPIRING,
    NotificationType.KEY_EXPIRED,
    NotificationType.KEY_UNUSED,
    NotificationType.KEY_ROTATION_DUE,
)


class GivenWarning(NamedTuple):
    """A warning about a key that was given before."""

    kind: str
    threshold_days: int  # 0 where a kind has one only
    about_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedKey:
    """What warnings of a key depend on.

    `is_ending`: it is revoked, scheduled to be, or rotated. `is_delivered` is False if nobody has the key
    string, as far as is known. `is_enabled` and `rotation_period` are of the policy of its owner.
    """

    key_id: str
    create_time: datetime
    expire_time: datetime | None = None
    last_use_time: datetime | None = None
    is_ending: bool = False
    is_delivered: bool = True
    is_enabled: bool = True
    rotation_period: timedelta = timedelta(0)
    given: Sequence[GivenWarning] = ()

    def has(self, due: "KeyWarning") -> bool:
        """Return whether this warning, or a tighter one of its kind, was given for this or a later time."""
        return any(
            given.kind == due.kind
            and given.threshold_days <= due.threshold_days
            and given.about_time >= due.about_time
            for given in self.given
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWarning:
    """A warning that is due. `about_time` is the expiry, last use or time of rotation that it is about."""

    key_id: str
    kind: NotificationType
    threshold_days: int = 0
    about_time: datetime
    details: Mapping[str, str]


def due_warnings(key: WatchedKey, now: datetime, *, since: datetime) -> list[KeyWarning]:
    """Return the warnings that are due and were not given, at most three.

    Nobody is told of an expiry until `since`, when warnings began. A key that nobody has is warned of only as
    unused, which asks to remove it. Keys that are switched off are neither unused nor due to be rotated:
    their owner can do neither.
    """
    return [warning for warning in _warnings(key, now, since) if not key.has(warning)]


def _warnings(key: WatchedKey, now: datetime, since: datetime) -> Iterator[KeyWarning]:
    if key.is_ending:
        return
    if key.expire_time is not None and key.expire_time <= now:
        if key.is_delivered and key.expire_time > since:
            yield _warning(key, NotificationType.KEY_EXPIRED, key.expire_time)
        return
    if key.expire_time is not None and key.is_delivered:
        remaining, life = key.expire_time - now, key.expire_time - key.create_time
        if threshold := _threshold(remaining, life):
            details = {"remaining_days": _rounded_up(remaining), "threshold_days": str(threshold)}
            yield _warning(key, NotificationType.KEY_EXPIRING, key.expire_time, threshold, **details)
    if not key.is_enabled:
        return
    used = key.last_use_time or key.create_time
    if now - used >= UNUSED_PERIOD:
        yield _warning(key, NotificationType.KEY_UNUSED, used, unused_days=_whole(now - used))
    age, period = now - key.create_time, key.rotation_period
    if period and age >= period and key.is_delivered:
        yield _warning(
            key,
            NotificationType.KEY_ROTATION_DUE,
            key.create_time + period,
            age_days=_whole(age),
            rotation_period=duration_text(period),
        )


def _threshold(remaining: timedelta, life: timedelta) -> int:
    """Return the tightest threshold, in days, that a key is within; 0 if there is none."""
    within = (days for days in EXPIRY_THRESHOLDS if remaining <= days * DAY and 2 * days * DAY <= life)
    return next(within, 0)


def _warning(
    key: WatchedKey, kind: NotificationType, about_time: datetime, threshold: int = 0, **details: str
) -> KeyWarning:
    return KeyWarning(
        key_id=key.key_id, kind=kind, threshold_days=threshold, about_time=about_time, details=details
    )


def _rounded_up(length: timedelta) -> str:
    """Return what is left in days. Somebody who is told of two days has at most two."""
    return str(-(-length // DAY))


def _whole(length: timedelta) -> str:
    """Return an age in whole days."""
    return str(length // DAY)
