"""The pause of a key: it is refused, and works again later."""

from dataclasses import dataclass
from datetime import datetime

from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.errors import FailedPrecondition, PermissionDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Since when a key is disabled, until when, by whom and why. `until` is None: until it is enabled."""

    disable_time: datetime
    until: datetime | None
    disabler_id: str
    reason: str = ""
    # A pause by the platform is not ended by the owner of the key.
    by_platform: bool = False

    def lasts(self, now: datetime) -> bool:
        """Return whether the key is disabled."""
        return self.until is None or now < self.until

    def is_like(self, other: "Pause") -> bool:
        """Return whether another pause says the same, whenever it began."""
        same = self.until == other.until and self.reason == other.reason
        return same and self.by_platform == other.by_platform

    def ends_before(self, other: "Pause") -> bool:
        """Return whether the key works again earlier than after another pause."""
        return self.until is not None and (other.until is None or self.until < other.until)

    def refuse_owner(self, caller: Caller, key_id: str) -> None:
        """Raise PermissionDenied (DISABLED_BY_PLATFORM) for a caller that may not end or change the pause."""
        if self.by_platform and caller.confined_to is not None:
            raise PermissionDenied(
                f"key {key_id} was disabled by the owner {PLATFORM_OWNER!r}, which alone can enable it; "
                "ask the operator",
                reason="DISABLED_BY_PLATFORM",
                key_id=key_id,
            )

    def refuse_platform(self, caller: Caller, key_id: str) -> None:
        """Raise FailedPrecondition (DISABLED_BY_OWNER_FOR_LONGER) for the platform and a pause of the owner.

        For a call that would take the pause over with an earlier end. To keep the later end silently would
        let a repetition of the call end the pause early.
        """
        if not self.by_platform and caller.confined_to is None:
            end = "it is enabled" if self.until is None else f"{self.until:%Y-%m-%dT%H:%M:%SZ}"
            raise FailedPrecondition(
                f"the owner has disabled key {key_id} until {end}; choose that time or a later one, or leave "
                "disabled_until unset",
                reason="DISABLED_BY_OWNER_FOR_LONGER",
                key_id=key_id,
            )
