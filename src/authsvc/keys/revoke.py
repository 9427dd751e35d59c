"""RevokeKey, BatchRevokeKeys."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.last_administrator import refuse_to_end_all, refuse_to_end_last
from authsvc.keys.minting import refuse_more
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

# How many keys BatchRevokeKeys shows of an owner who may have very many.
SHOWN = 1000


class RevokeKey:
    """Revokes a key for good, now or later."""

    def __init__(self, changes: Changes, catalogue: Catalogue, clock: Callable[[], datetime]) -> None:
        self._changes = changes
        self._catalogue = catalogue
        self._clock = clock

    async def __call__(
        self,
        caller: Caller,
        key_id: str,
        *,
        reason: str,
        revoke_in: timedelta,
        allow_last_administrator: bool = False,
    ) -> Key:
        """Return the key as revoked (rules 14 to 17)."""
        async with self._changes.of_key(caller, key_id, done="revoked", revokes=True) as (
            change,
            key,
            policy,
        ):
            now = self._clock()  # After the wait for the key: its revocation may have taken effect meanwhile.
            by = caller.credential_id
            revoked = key.revoked(now, at=now + revoke_in, by=by, reason=reason)
            if revoked.outlives(key):
                # Putting a scheduled revocation off grants for that time all that the key may do, and
                # takes the place of a key that may have been created because this one was to end.
                platform.refuse_credential_of(change.caller, key.owner_id)
                self._catalogue.check_held(change.caller, key.scopes)
                rotated = bool(key.rotated_to_key_id)
                await refuse_more(change.connection, policy, now, excluding=key_id, rotated=rotated)
                now = self._clock()  # This may have waited, too.
                revoked = key.revoked(now, at=now + revoke_in, by=by, reason=reason)
                change.authorized.look_last(lambda: key.refuse_if_revoked(self._clock()))
            else:
                await refuse_to_end_last(
                    change.connection, [key], self._clock, allowed=allow_last_administrator
                )
            await key_store.update(change.connection, [revoked])
            events = key_events(caller, Action.KEY_REVOKED, [revoked], at=now)
            await audit.record_many(change.connection, events)
        return revoked


class RevokeKeys:
    """Revokes several keys now, all or none."""

    def __init__(self, changes: Changes, clock: Callable[[], datetime]) -> None:
        self._changes = changes
        self._clock = clock

    async def __call__(
        self,
        caller: Caller,
        key_ids: Sequence[str],
        *,
        reason: str,
        allow_last_administrator: bool = False,
    ) -> tuple[Sequence[Key], int]:
        """Return the keys, and how many of them were not revoked before."""
        async with self._changes.of_keys(caller, key_ids, done="revoked", revokes=True) as (change, keys):
            await refuse_to_end_last(change.connection, keys, self._clock, allowed=allow_last_administrator)
            now = self._clock()
            revoked = {
                key.key_id: key.revoked(now, at=now, by=caller.credential_id, reason=reason)
                for key in keys
                if key.state(now) is not KeyState.REVOKED
            }
            await key_store.update(change.connection, revoked.values())
            events = key_events(caller, Action.KEY_REVOKED, revoked.values(), at=now)
            await audit.record_many(change.connection, events)
        return [revoked.get(key.key_id, key) for key in keys], len(revoked)


class RevokeOwner:
    """Revokes all keys of an owner now."""

    def __init__(self, barrier: Barrier, policies: PolicyStore, clock: Callable[[], datetime]) -> None:
        self._barrier = barrier
        self._policies = policies
        self._clock = clock

    async def __call__(
        self, caller: Caller, owner_id: str, *, reason: str, allow_last_administrator: bool = False
    ) -> tuple[Sequence[Key], int]:
        """Return the first `SHOWN` of the keys, and how many there were."""
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
            if 0 < len(revoked) <= SHOWN:
                change.key_prefixes.update(revoked.values())
            else:  # Very many; or none, and those of an earlier call may not have been waited for (R7).
                change.owner_id = owner_id
            shown = await key_store.find(change.connection, sorted(revoked)[:SHOWN])
        return [shown[key_id] for key_id in sorted(shown)], len(revoked)
