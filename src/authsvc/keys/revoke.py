"""RevokeKey, and BatchRevokeKeys by ids or by owner."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.last_administrator import is_administrator, refuse_to_end_all, refuse_to_end_last
from authsvc.keys.minting import refuse_more
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.key import Key, KeyState
from authsvc.model.key_event import key_events
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import key_revocation
from authsvc.store import keys as key_store
from authsvc.store.driver_errors import AuthorityOver
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.store.publication import NewEntry

# How many keys `revoke_owner` returns. The owner may have many more.
MAX_RETURNED_KEYS = 1000


class KeyRevocation(Protocol):
    """Revokes keys permanently."""

    _database: Database
    _barrier: Barrier
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
        allow_last_administrator: bool = False,
    ) -> Key:
        """Revoke a key after `revoke_in`, zero for now; return it as revoked (rules 14 to 17).

        A revocation that has not taken effect yet may be moved.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            AlreadyDone: KEY_ALREADY_REVOKED, if its revocation has taken effect.
            PermissionDenied: KEY_MANAGER_NOT_PERMITTED, by the owner's policy. If an earlier revocation is
                moved to a later time, SCOPE_NOT_GRANTABLE or PLATFORM_NEEDS_FULL_ACCESS.
            FailedPrecondition: LAST_ADMINISTRATOR_KEY, unless `allow_last_administrator`. If an earlier
                revocation is moved to a later time, MAX_ACTIVE_KEYS.
        """
        if at_once := await self._revoke_at_once(caller, [key_id], reason=reason, revoke_in=revoke_in):
            return at_once[0]
        async with self._changes.of_keys(caller, [key_id], done="revoked", revokes=True) as (change, [key]):
            now = self._clock()  # After the wait for the lock: a revocation may have taken effect meanwhile.
            by = caller.credential_id
            revoked = key.revoked(now, at=now + revoke_in, by=by, reason=reason)
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
        if at_once := await self._revoke_at_once(caller, key_ids, reason=reason):
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

    async def _revoke_at_once(
        self, caller: Caller, key_ids: Sequence[str], *, reason: str, revoke_in: timedelta = timedelta()
    ) -> Sequence[Key]:
        """Revoke keys by one statement if nothing is to be refused. Return them, or none if it was not done.

        Then everything has to be judged under locks, as for a caller without a credential, whose file is read
        once more after the last wait for a lock.
        """
        if caller.kind is None:
            return ()
        async with self._database.connection() as connection:
            found = await key_store.find(connection, key_ids, owner_id=caller.confined_to)
            policy = caller.confined_to and await self._policies.find(connection, caller.confined_to)
        now = self._clock()
        keys = list(found.values())
        if (
            len(keys) < len(key_ids)
            or any(key.revoke_time or is_administrator(key, now) for key in keys)
            or (policy and not policy.allows_manager(caller))
        ):
            return ()
        by = caller.credential_id
        revoked = {key.key_id: key.revoked(now, at=now + revoke_in, by=by, reason=reason) for key in keys}
        entry = NewEntry(key_prefixes={key.key_prefix for key in keys})
        revoking = key_revocation.revoke(
            self._database,
            caller,
            keys,
            revoked[key_ids[0]],
            policy=policy or None,
            default_policy=self._policies.default,
            now=now,
            events=key_events(caller, Action.KEY_REVOKED, revoked.values(), at=now),
            nonce=entry.nonce,
        )
        try:
            done = await self._barrier.change_at_once(caller, entry, revoking, done="revoked")
        except AuthorityOver:
            return ()
        return [revoked[key_id] for key_id in key_ids] if done else ()

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
                    details={"count": str(len(revoked)), "reason": reason},
                )
            if 0 < len(revoked) <= MAX_RETURNED_KEYS:
                change.key_prefixes.update(revoked.values())
            else:  # Too many to list; or none, and those of an earlier call may not be confirmed (R7).
                change.owner_id = owner_id
            shown = await key_store.find(change.connection, sorted(revoked)[:MAX_RETURNED_KEYS])
        return [shown[key_id] for key_id in sorted(shown)], len(revoked)
