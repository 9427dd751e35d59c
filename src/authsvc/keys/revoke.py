"""RevokeKey, BatchRevokeKeys."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from authsvc import audit
from authsvc.barrier import Barrier
from authsvc.keys.change import Changes
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.key import Key, KeyState
from authsvc.model.key_event import key_events
from authsvc.store import keys as rows
from authsvc.store.policies import PolicyStore

# How many keys BatchRevokeKeys shows of an owner who may have very many.
SHOWN = 1000


class RevokeKey:
    """Revokes a key for good, now or later."""

    def __init__(self, changes: Changes, catalogue: Catalogue, clock: Callable[[], datetime]) -> None:
        self._changes = changes
        self._catalogue = catalogue
        self._clock = clock

    async def __call__(self, caller: Caller, key_id: str, *, reason: str, revoke_in: timedelta) -> Key:
        """Return the key as revoked (rules 14 to 17)."""
        async with self._changes.of_keys(caller, [key_id], done="revoked", revokes=True) as (
            connection,
            [key],
        ):
            now = self._clock()  # After the wait for the key: its revocation may have taken effect meanwhile.
            revoked = key.revoked(now, at=now + revoke_in, by=caller.credential_id, reason=reason)
            if revoked.outlives(key):
                # Putting a scheduled revocation off grants for that time all that the key may do.
                self._catalogue.check_held(caller, key.scopes)
            await rows.update(connection, [revoked])
            await audit.record_many(connection, key_events(caller, Action.KEY_REVOKED, [revoked], at=now))
        return revoked


class RevokeKeys:
    """Revokes several keys now, all or none."""

    def __init__(self, changes: Changes, clock: Callable[[], datetime]) -> None:
        self._changes = changes
        self._clock = clock

    async def __call__(
        self, caller: Caller, key_ids: Sequence[str], *, reason: str
    ) -> tuple[Sequence[Key], int]:
        """Return the keys, and how many of them were not revoked before."""
        async with self._changes.of_keys(caller, key_ids, done="revoked", revokes=True) as (connection, keys):
            now = self._clock()
            revoked = {
                key.key_id: key.revoked(now, at=now, by=caller.credential_id, reason=reason)
                for key in keys
                if key.state(now) is not KeyState.REVOKED
            }
            await rows.update(connection, revoked.values())
            await audit.record_many(
                connection, key_events(caller, Action.KEY_REVOKED, revoked.values(), at=now)
            )
        return [revoked.get(key.key_id, key) for key in keys], len(revoked)


class RevokeOwner:
    """Revokes all keys of an owner now."""

    def __init__(self, barrier: Barrier, policies: PolicyStore, clock: Callable[[], datetime]) -> None:
        self._barrier = barrier
        self._policies = policies
        self._clock = clock

    async def __call__(self, caller: Caller, owner_id: str, *, reason: str) -> tuple[Sequence[Key], int]:
        """Return the first `SHOWN` of the keys, and how many there were."""
        caller.refuse_other_owner(owner_id)
        async with self._barrier.change(caller, "revoked", revokes=True) as change:
            (await self._policies.find(change.connection, owner_id)).refuse_manager(caller)
            now = self._clock()
            revoked = await rows.revoke_owner(
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
            shown = await rows.find(change.connection, sorted(revoked)[:SHOWN])
        return [shown[key_id] for key_id in sorted(shown)], len(revoked)
