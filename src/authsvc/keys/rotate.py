"""RotateKey."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.deliveries import Deliveries
from authsvc.keys.minting import Minted, Minting, NewKeyString, refuse_more, refuse_repeated
from authsvc.keys.read import KeyReads
from authsvc.keys.sealing import Recipient
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import NotFound
from authsvc.model.identifier import new_identifier
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.model.rotation import GraceEnd, checked_wait
from authsvc.store import credits as credit_store
from authsvc.store import grace_ends as grace_store
from authsvc.store import keys as key_store
from authsvc.store.policies import lock_count


class KeyRotation(KeyReads, Protocol):
    """Replaces keys by new ones."""

    deliveries: Deliveries
    _changes: Changes
    _minting: Minting
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def rotate(
        self,
        caller: Caller,
        key_id: str,
        grace_period: timedelta,
        request_id: str = "",
        *,
        seal_to: Recipient | None = None,
        end_grace_when_unused_for: timedelta | None = None,
    ) -> tuple[Key, NewKeyString]:
        """Replace an active key by a new one; return the new key with its key string (rules 1, 30).

        With `seal_to`, the key string is returned only sealed to this recipient.

        The old key is revoked at the end of the grace period. It never works for longer than it would have.
        With `end_grace_when_unused_for`, the grace period ends earlier, see `keys.grace_ends`.

        Raises:
            InvalidArgument: INVALID_FIELD, if `end_grace_when_unused_for` is longer than the grace period.
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            AlreadyDone: KEY_ALREADY_REVOKED or KEY_ALREADY_ROTATED.
            FailedPrecondition: KEY_EXPIRED or KEY_DISABLED. By the owner's policy, API_KEYS_NOT_ENABLED,
                SCOPE_NOT_ALLOWED, EXPIRATION_REQUIRED or CONTACTS_REQUIRED; with a grace period, also
                MAX_ACTIVE_KEYS.
            PermissionDenied: SCOPE_NOT_GRANTABLE, if the caller lacks a scope of the key;
                PLATFORM_NEEDS_FULL_ACCESS; KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
            AlreadyExists: REQUEST_REPEATED, if the owner has sent this `request_id` before.
            Conflict: POLICY_CHANGED, if the policy got another brand during the call.
            Overloaded: HASHER_QUEUE_FULL.
        """
        wait, now = checked_wait(end_grace_when_unused_for, grace_period), self._clock()
        try:
            before = await self.get(caller, key_id)
        except NotFound:
            # "Not found" must be true on every worker, too (R7).
            async with self._changes.of_key(caller, key_id):
                raise
        # The successor of an imported key is minted, with the default brand.
        brand, environment = ("", "live") if before.is_imported else before.key_prefix.split("_")[:2]
        minted = await self._minting.mint(
            caller, before.owner_id, brand=brand, environment=environment, seal_to=seal_to
        )
        new_id = new_identifier("key", now)
        with self.deliveries.lost_on_failure(new_id):
            return await self._replace(caller, key_id, new_id, minted, grace_period, request_id, wait)

    async def _replace(
        self,
        caller: Caller,
        key_id: str,
        new_id: str,
        minted: Minted,
        grace_period: timedelta,
        request_id: str,
        wait: timedelta | None,
    ) -> tuple[Key, NewKeyString]:
        done = f"rotated to {new_id}, whose key string cannot be shown again (rotate it, too)"
        async with self._changes.of_key(caller, key_id, done=done) as (change, old, policy):
            connection, caller = change.connection, change.caller
            await refuse_repeated(connection, old.owner_id, request_id)
            if policy.max_active_keys:
                # Another transaction must count either this key or its successor.
                await lock_count(connection, old.owner_id)
            now = self._clock()  # After the wait for locks: the key may have expired meanwhile.
            old.refuse_to_rotate(now)
            # The caller learns the new key string, and so gets all that the key may do.
            if caller.credential_id != old.key_id:  # which has all of that already
                platform.refuse_credential_of(caller, old.owner_id)
            self._catalogue.check_held(caller, old.scopes)
            if grace_period:
                await refuse_more(connection, policy, now, excluding=old.key_id, rotated=True)
            key = Key(
                key_id=new_id,
                owner_id=old.owner_id,
                key_prefix=minted.string.prefix,
                display_name=old.display_name,
                description=old.description,
                scopes=old.scopes,
                technical_contacts=old.technical_contacts,
                annotations=old.annotations,
                allowed_networks=old.allowed_networks,
                rate_limits=old.rate_limits,
                budget_id=old.account_id,
                credits=old.credits,
                create_time=now,
                creator_id=caller.credential_id,
                update_time=now,
                expire_time=policy.successor_expire_time(old, now),
                rotated_from_key_id=old.key_id,
            )
            await self._minting.insert(connection, key, minted, policy, request_id)
            if old.credits is not None:
                await credit_store.share(connection, old.key_id, key.key_id)
            at, by = now + grace_period, caller.credential_id
            replaced = old.replaced(now, at=at, by=by, successor_id=key.key_id)
            await key_store.update(connection, [replaced])
            if wait is not None and replaced.revoke_time == at:  # not an earlier one, of another cause
                await grace_store.insert(connection, GraceEnd(key_id, now, wait))
            await audit.record_many(connection, key_events(caller, Action.KEY_ROTATED, [replaced], at=now))
        return key, minted.string
