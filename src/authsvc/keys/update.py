"""UpdateKey."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.credit_change import CreditChange
from authsvc.keys.last_administrator import refuse_to_end_last
from authsvc.keys.minting import refuse_more
from authsvc.model import platform
from authsvc.model.allowed_networks import widens
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import Conflict
from authsvc.model.key import Key, KeyState
from authsvc.model.key_event import key_events
from authsvc.model.new_key import checked_expire_time
from authsvc.model.policy import OwnerPolicy
from authsvc.model.rate_limit import loosens
from authsvc.model.scope import FULL_ACCESS
from authsvc.store import keys as key_store
from authsvc.store import notifications as notification_store
from authsvc.store.policies import lock_count
from authsvc.store.pool import Connection

# The fields that verification does not read. Other workers need not be told of a change of these.
_FIELDS_NOT_VERIFIED = frozenset({"display_name", "description", "technical_contacts"})


class KeyUpdates(Protocol):
    """Updates keys."""

    _changes: Changes
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def update(
        self,
        caller: Caller,
        key_id: str,
        fields: Mapping[str, object],
        etag: str,
        *,
        allow_last_administrator: bool = False,
    ) -> Key:
        """Update a key that is not revoked; return it (rule 8). `fields` has the new values by name.

        If the key has all of them already, nothing is written or recorded. An `etag` that is not empty has to
        be that of the key.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            Conflict: ETAG_MISMATCH, if the key has changed since the caller read it.
            AlreadyDone: KEY_ALREADY_REVOKED.
            InvalidArgument: INVALID_FIELD, if a new scope is unknown, or the expiry is in the past or more
                than 100 years ahead.
            PermissionDenied: SCOPE_NOT_GRANTABLE, if the caller lacks a new scope, or any scope of a key that
                is to live longer, to be used from more networks or more often, or to have more credits;
                PLATFORM_NEEDS_FULL_ACCESS; KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
            FailedPrecondition: LAST_ADMINISTRATOR_KEY, unless `allow_last_administrator`. By the owner's
                policy, KEY_EDIT_NOT_ALLOWED, SCOPE_NOT_ALLOWED, EXPIRATION_REQUIRED, KEY_LIFETIME_TOO_LONG or
                CONTACTS_REQUIRED; for an expired key that becomes active, API_KEYS_NOT_ENABLED or
                MAX_ACTIVE_KEYS.
        """
        if isinstance(expire_time := fields.get("expire_time"), datetime):
            checked_expire_time("key.expire_time", expire_time, self._clock())
        changing = self._changes.of_key(
            caller, key_id, affects_verification=not _FIELDS_NOT_VERIFIED.issuperset(fields)
        )
        async with changing as (change, key, policy):
            _check_etag(key, etag)
            if policy.max_active_keys and "expire_time" in fields:
                # Another transaction must count this key either as it is or as it will be.
                await lock_count(change.connection, key.owner_id)
            credit_change, key, fields = await _with_credits(change.connection, key, fields)
            now = self._clock()  # After the wait for locks: the key may have expired meanwhile.
            changed = self._changed(change.caller, key, policy, fields, credit_change, now)
            if key.state(now) is KeyState.EXPIRED and changed.state(now) is not KeyState.EXPIRED:
                # The key becomes active again, so it has to be allowed like a new one.
                policy.refuse_if_disabled()
                rotated = bool(key.rotated_to_key_id)
                await refuse_more(change.connection, policy, now, excluding=key_id, rotated=rotated)
            if _takes(key, changed):
                await refuse_to_end_last(
                    change.connection, [key], self._clock, allowed=allow_last_administrator
                )
            if not key.differs(fields) and not (credit_change and credit_change.is_reset):
                # This waits for the workers all the same: an earlier call may not have done so (R7).
                return key
            changed = await _written(change.connection, changed, credit_change)
            [event] = key_events(change.caller, Action.KEY_UPDATED, [changed], at=now, fields=fields)
            await audit.record_many(change.connection, [event])
            if removed := [each for each in key.technical_contacts if each not in changed.technical_contacts]:
                # So nobody takes over a key by replacing those who would be told.
                await notification_store.add_contacts(change.connection, event.event_id, removed)
        return changed

    def _changed(
        self,
        caller: Caller,
        key: Key,
        policy: OwnerPolicy,
        fields: Mapping[str, object],
        credit_change: CreditChange | None,
        now: datetime,
    ) -> Key:
        """Return the key with these fields, if it is not revoked, and the caller and the policy allow it."""
        key.refuse_if_revoked(now)
        added = set(_scopes(fields, key)) - set(key.scopes)
        self._catalogue.check_grant(caller, sorted(added), path="key.scopes")
        policy.check_update(key, fields)
        changed = key.changed(now, **fields)
        is_wider = (
            widens(key.allowed_networks, changed.allowed_networks)
            or loosens(key.rate_limits, changed.rate_limits)
            or (credit_change is not None and credit_change.gives_more)
        )
        if added or is_wider or changed.outlives(key):
            platform.refuse_credential_of(caller, key.owner_id)
        if is_wider or changed.outlives(key):
            # A longer life grants all that the key may do for a longer time, other networks elsewhere, and
            # looser rate limits and credits more often.
            self._catalogue.check_held(caller, changed.scopes)
        return changed


async def _with_credits(
    connection: Connection, key: Key, fields: Mapping[str, object]
) -> tuple[CreditChange | None, Key, Mapping[str, object]]:
    """Return the change of credits, if any, the key with what remains, and the fields to be written."""
    change = await CreditChange.begin(connection, key, fields)
    if change is None:
        return None, key, fields
    return change, replace(key, credits=change.before), {**fields, "credits": change.after}


async def _written(connection: Connection, changed: Key, credit_change: CreditChange | None) -> Key:
    """Write a changed key, and its credits if they change; return it as it is now."""
    await key_store.update(connection, [changed])
    return changed if credit_change is None else await credit_change.carry_out(connection, changed)


def _takes(key: Key, changed: Key) -> bool:
    """Return whether a change may end an administrator key."""
    no_access = FULL_ACCESS in set(key.scopes).difference(changed.scopes)
    return no_access or key.outlives(changed) or widens(changed.allowed_networks, key.allowed_networks)


def _check_etag(key: Key, etag: str) -> None:
    if etag and etag != key.etag:
        raise Conflict(
            f"key {key.key_id} was changed since it was read; get it again and repeat the change",
            reason="ETAG_MISMATCH",
            key_id=key.key_id,
        )


def _scopes(fields: Mapping[str, object], key: Key) -> tuple[str, ...]:
    scopes = fields.get("scopes", key.scopes)
    return scopes if isinstance(scopes, tuple) else ()
