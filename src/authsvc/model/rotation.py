"""How far the rotation of a key is, and when its grace period ends by itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from authsvc.model.errors import FailedPrecondition, FieldViolation, InvalidArgument
from authsvc.model.key import ROTATED, Key, KeyState


@dataclass(frozen=True, slots=True)
class GraceEnd:
    """That the grace period of an old key ends by itself when the key was not used for a while."""

    key_id: str
    rotate_time: datetime
    when_unused_for: timedelta

    def earliest(self, old: Key, new: Key | None, now: datetime, margin: timedelta) -> datetime | None:
        """Return when the grace period ends if the old key is not used any more; None if it does not.

        It does not without a successor that works and was used, and if the revocation of the old key is not
        that of the rotation any more. `margin` is how late a use may be known.
        """
        if old.revoke_time is None or not self.applies(old) or old.state(now) is KeyState.REVOKED:
            return None
        if new is None or new.last_use_time is None or new.state(now) is not KeyState.ACTIVE:
            return None
        last = max(self.rotate_time, old.last_use_time or self.rotate_time)
        return min(last + self.when_unused_for + margin, old.revoke_time)

    def applies(self, old: Key | None) -> bool:
        """Return whether the revocation of the old key is that of the rotation still."""
        return old is not None and old.revoke_reason == ROTATED

    @property
    def reason(self) -> str:
        """Why the old key is revoked when that has happened."""
        return f"{ROTATED}, and not used for {self.when_unused_for}"


def checked_wait(when_unused_for: timedelta | None, grace_period: timedelta) -> timedelta | None:
    """Return how long the old key is to be unused; None if that does not end the grace period.

    Raises InvalidArgument if it is longer than the grace period.
    """
    if when_unused_for is not None and when_unused_for > grace_period:
        problem = "is longer than grace_period; choose a shorter time, or a longer grace_period"
        raise InvalidArgument(FieldViolation("end_grace_when_unused_for", "end_grace.length", problem))
    return when_unused_for


def not_rotated(key_id: str) -> FailedPrecondition:
    """Return the error for a key that is part of no rotation."""
    return FailedPrecondition(
        f"key {key_id} was not rotated, and is not the successor of another key; rotate it first",
        reason="KEY_NOT_ROTATED",
        key_id=key_id,
    )
