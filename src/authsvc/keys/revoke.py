"""RevokeKey, and BatchRevokeKeys by ids or by owner."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.last_administrator import refuse_to_end_all, refuse_to_end_last
from authsvc.keys.minting import refuse_more
from authsvc.keys.revocations import Revocations
from authsvc.keys.usage import refuse_outdated
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.key import Key, KeyState
from authsvc.model.key_event import key_events
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import keys as key_store
from authsvc.store.policies import PolicyStore

# How many keys `revoke_owner` returns. The owner may have many more.
MAX_RETURNED_KEYS = 1000


class KeyRevocation(Protocol):
    """Revokes keys permanently."""

    _barrier: Barrier
    _revocations: Revocations
    _changes: Changes
    _policies: PolicyStore
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def revoke(
        self,
        caller: Caller,
        key_id: str,
        *,
        reason: str,
        revoke_in: timedelta,
        etag: str = "",
        allow_last_administrator: bool = False,
    ) -> Key:
        """Revoke a key after `revoke_in`, zero for now; return it as revoked (rules 14 to 17).

        A revocation that has not taken effect yet may be moved. With the `etag` of a preview, the key is
        revoked only if the preview is still true.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            AlreadyDone: KEY_ALREADY_REVOKED, if its revocation has taken effect.
            PermissionDenied: KEY_MANAGER_NOT_PERMITTED, by the owner's policy. If an earlier revocation is
                moved to a later time, SCOPE_NOT_GRANTABLE or PLATFORM_NEEDS_FULL_ACCESS.
            Conflict: ETAG_MISMATCH, if the key was changed, or used elsewhere, since the preview.
            FailedPrecondition: LAST_ADMINISTRATOR_KEY, unless `allow_last_administrator`. If an earlier
                revocation is moved to a later time, MAX_ACTIVE_KEYS.
        """
        if not etag:  # which is compared under locks
            at_once = await self._revocations.revoke(caller, [key_id], reason=reason, revoke_in=revoke_in)
            if at_once:
                return at_once[0]
        async with self._changes.of_keys(caller, [key_id], done="revoked", revokes=True) as (change, [key]):
            now = self._clock()  # After the wait for the lock: a revocation may have taken effect meanwhile.
            by = caller.credential_id
            revoked = key.revoked(now, at=now + revoke_in, by=by, reason=reason)
            if etag:
                await refuse_outdated(change.connection, key, etag)
            if revoked.outlives(key):
                # Postponing a revocation grants all that the key may do for a longer time. The key also
                # counts for longer, and another may have been created because this one was about to end.
                platform.refuse_credential_of(change.caller, key.owner_id)
                self._catalogue.check_held(change.caller, key.scopes)
                rotated = bool(key.rotated_to_key_id)
                policy = await self._policies.find(change.connection, key.owner_id)
                await refuse_more(change.connection, policy, now, excluding=key_id, rotated=rotated)
                now = self._clock()  # `refuse_more` may have waited for a lock.
                revoked = key.revoked(now, at=now + revoke_in, by=by, reason=reason)
                if key.revoke_time is not None:
                    change.authorized.check_last(key.revoke_time, key.refuse_if_revoked)
            else:
                await refuse_to_end_last(
                    change.connection, [key], self._clock, allowed=allow_last_administrator
                )
            events = key_events(caller, Action.KEY_REVOKED, [revoked], at=now)
            await key_store.revoke(change.connection, [revoked], events)
        return revoked

    async def revoke_batch(
        self,
        caller: Caller,
        key_ids: Sequence[str],
        *,
        reason: str,
        allow_last_administrator: bool = False,
    ) -> tuple[Sequence[Key], int]:
        """Revoke keys now, all of them or, on an error, none. Return them, and how many were not revoked yet.

        Keys that were revoked keep their revocation.

        Raises:
            NotFound: KEY_NOT_FOUND, with the `key_ids` that are unknown or of another owner.
            PermissionDenied: KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
            FailedPrecondition: LAST_ADMINISTRATOR_KEY, unless `allow_last_administrator`.
        """
        if at_once := await self._revocations.revoke(caller, key_ids, reason=reason):
            return at_once, len(at_once)
        async with self._changes.of_keys(caller, key_ids, done="revoked", revokes=True) as (change, keys):
            await refuse_to_end_last(change.connection, keys, self._clock, allowed=allow_last_administrator)
            now = self._clock()
            revoked = {
                key.key_id: key.revoked(now, at=now, by=caller.credential_id, reason=reason)
                for key in keys
                if key.state(now) is not KeyState.REVOKED
            }
            events = key_events(caller, Action.KEY_REVOKED, revoked.values(), at=now)
            await key_store.revoke(change.connection, revoked.values(), events)
        return [revoked.get(key.key_id, key) for key in keys], len(revoked)

    async def revoke_owner(
        self, caller: Caller, owner_id: str, *, reason: str, allow_last_administrator: bool = False
    ) -> tuple[Sequence[Key], int]:
        """Revoke all keys of an owner now. Return the first `MAX_RETURNED_KEYS`, and how many there were.

        An owner without any key that could be revoked is no error: the result is empty.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED; KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
            FailedPrecondition: LAST_ADMINISTRATOR_KEY, unless `allow_last_administrator`.
        """
        caller.refuse_other_owner(owner_id)
        claim = Claim(changes_owner=owner_id, revokes=True)
        async with self._barrier.change(caller, claim, done="revoked") as change:
            (await self._policies.find(change.connection, owner_id)).refuse_manager(caller)
            await refuse_to_end_all(
                change.connection, owner_id, self._clock, allowed=allow_last_administrator
            )
            now = self._clock()
            revoked = await key_store.revoke_owner(
                change.connection, owner_id, at=now, by=caller.credential_id, reason=reason
            )
            if revoked:
                await audit.record(
                    change.connection,
                    caller,
                    Action.OWNER_KEYS_REVOKED,
                    at=now,
                    target_id=owner_id,
                    owner_id=owner_id,
                    details={"count": str(len(revoked)), "revoke_time": now.isoformat(), "reason": reason},
                )
            if 0 < len(revoked) <= MAX_RETURNED_KEYS:
                change.key_prefixes.update(revoked.values())
            else:  # Too many to list; or none, and those of an earlier call may not be confirmed (R7).
                change.owner_id = owner_id
            shown = await key_store.find(change.connection, sorted(revoked)[:MAX_RETURNED_KEYS])
        return [shown[key_id] for key_id in sorted(shown)], len(revoked)
