"""DisableKey and EnableKey."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.last_administrator import refuse_to_end_last
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import FailedPrecondition, FieldViolation, InvalidArgument
from authsvc.model.key import Key, KeyState
from authsvc.model.key_event import key_events
from authsvc.model.pause import Pause
from authsvc.store import keys as key_store


class KeyPauses(Protocol):
    """Disables keys, and enables them again."""

    _changes: Changes
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def disable(
        self,
        caller: Caller,
        key_id: str,
        *,
        until: datetime | None,
        reason: str,
        allow_last_administrator: bool = False,
    ) -> Key:
        """Disable a key until an instant, or until it is enabled; return it.

        A key that is disabled already gets the new end and the new reason. If it has both, nothing is
        written and nothing is recorded.

        Raises:
            InvalidArgument: INVALID_FIELD, if `until` is not in the future.
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            AlreadyDone: KEY_ALREADY_REVOKED.
            FailedPrecondition: KEY_EXPIRED; DISABLED_BY_OWNER_FOR_LONGER; LAST_ADMINISTRATOR_KEY, unless
                `allow_last_administrator`.
            PermissionDenied: DISABLED_BY_PLATFORM; KEY_MANAGER_NOT_PERMITTED, by the owner's policy. If the
                key gets an earlier end, SCOPE_NOT_GRANTABLE or PLATFORM_NEEDS_FULL_ACCESS.
        """
        _refuse_past(until, self._clock())
        async with self._changes.of_key(caller, key_id, done="disabled", revokes=True) as (change, key, _):
            now = self._clock()  # After the wait for the lock: the key may have ended meanwhile.
            key.refuse_if_revoked(now)
            refuse_if_expired(key, now)
            _refuse_past(until, now)
            pause = Pause(
                disable_time=now,
                until=until,
                disabler_id=caller.credential_id,
                reason=reason,
                by_platform=caller.confined_to is None,
            )
            if key.pause is not None and key.state(now) is KeyState.DISABLED:
                key.pause.refuse_owner(caller, key_id)
                if key.pause.is_like(pause):
                    # This waits for the workers all the same: an earlier call may not have done so (R7).
                    return key
                if pause.ends_before(key.pause):
                    key.pause.refuse_platform(change.caller, key_id)
                    self._refuse_to_give(change.caller, key)
            await refuse_to_end_last(change.connection, [key], self._clock, allowed=allow_last_administrator)
            disabled = key.disabled(now, pause)
            await key_store.update(change.connection, [disabled])
            await audit.record_many(
                change.connection, key_events(caller, Action.KEY_DISABLED, [disabled], at=now)
            )
        return disabled

    async def enable(self, caller: Caller, key_id: str, *, reason: str) -> Key:
        """End the pause of a key; return it. A key that is not disabled is returned as it is.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            AlreadyDone: KEY_ALREADY_REVOKED.
            FailedPrecondition: KEY_EXPIRED.
            PermissionDenied: DISABLED_BY_PLATFORM; SCOPE_NOT_GRANTABLE, if the caller lacks a scope of the
                key; PLATFORM_NEEDS_FULL_ACCESS; KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
        """
        async with self._changes.of_key(caller, key_id, done="enabled") as (change, key, _):
            now = self._clock()
            key.refuse_if_revoked(now)
            refuse_if_expired(key, now)
            if key.pause is None:
                return key
            if lasts := key.pause.lasts(now):
                key.pause.refuse_owner(caller, key_id)
                self._refuse_to_give(change.caller, key)
            # Also if it is over by this clock: that of another worker may differ by a moment.
            enabled = key.enabled(now)
            await key_store.update(change.connection, [enabled])
            if lasts:
                events = key_events(caller, Action.KEY_ENABLED, [enabled], at=now, reason=reason)
                await audit.record_many(change.connection, events)
        return enabled

    def _refuse_to_give(self, caller: Caller, key: Key) -> None:
        """Check who lets a key work: that grants all that the key may do."""
        platform.refuse_credential_of(caller, key.owner_id)
        self._catalogue.check_held(caller, key.scopes)


def refuse_if_expired(key: Key, now: datetime) -> None:
    """Raise FailedPrecondition (KEY_EXPIRED) for a key that has expired."""
    if key.state(now) is KeyState.EXPIRED:
        raise FailedPrecondition(
            f"key {key.key_id} has expired, so it does not work in any case",
            reason="KEY_EXPIRED",
            key_id=key.key_id,
        )


def _refuse_past(until: datetime | None, now: datetime) -> None:
    if until is not None and until <= now:
        problem = (
            f"is in the past (it is {now:%Y-%m-%dT%H:%M:%SZ} now); choose a later time, or leave it unset "
            "to disable the key until it is enabled"
        )
        raise InvalidArgument(FieldViolation("disabled_until", "disabled_until.future", problem))
