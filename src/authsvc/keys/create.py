"""CreateKey."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.keys.deliveries import Deliveries
from authsvc.keys.minting import Minted, Minting, NewKeyString, refuse_more
from authsvc.keys.replacement import Replacements, RequestInProgress
from authsvc.keys.sealing import Recipient
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import FailedPrecondition
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.model.new_key import NewKey
from authsvc.revocation.authority import Authority, Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import credits as credit_store
from authsvc.store import keys as key_store
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Connection


class KeyCreation(Protocol):
    """Creates keys."""

    deliveries: Deliveries
    _authority: Authority
    _barrier: Barrier
    _minting: Minting
    _replacements: Replacements
    _policies: PolicyStore
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def create(
        self, caller: Caller, new: NewKey, request_id: str = "", *, seal_to: Recipient | None = None
    ) -> tuple[Key, NewKeyString]:
        """Create a key; return it with its key string, which cannot be read again (rule 1).

        With `seal_to`, the key string is returned only sealed to this recipient. A key that this caller
        created with the same `request_id`, and whose key string was never delivered, is revoked and replaced
        by the new one. While the call that created it is in progress, this waits, up to 5 s.

        Raises:
            InvalidArgument: INVALID_FIELD, if a scope is unknown, the owner's name resembles the platform's,
                or the expiry is in the past or more than 100 years ahead.
            PermissionDenied: OWNER_NOT_PERMITTED; SCOPE_NOT_GRANTABLE, if the caller lacks one of the scopes;
                PLATFORM_NEEDS_FULL_ACCESS; KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
            FailedPrecondition: by the owner's policy, API_KEYS_NOT_ENABLED, BRAND_NOT_ALLOWED,
                SCOPE_NOT_ALLOWED, EXPIRATION_REQUIRED, KEY_LIFETIME_TOO_LONG, CONTACTS_REQUIRED or
                MAX_ACTIVE_KEYS.
            AlreadyExists: REQUEST_REPEATED, if the `request_id` created a key that cannot be replaced.
            Conflict: POLICY_CHANGED, if the policy got another brand during the call.
            Unavailable: REQUEST_IN_PROGRESS, if the wait for the earlier call was too long.
            Overloaded: HASHER_QUEUE_FULL.
        """
        caller.refuse_other_owner(new.owner_id)
        platform.refuse_new_credential(caller, new.owner_id)
        self._catalogue.check_grant(caller, new.scopes)
        now = self._clock()
        new.expire_time(now)  # A wrong one is refused before the key string is hashed.
        minted = await self._minting.mint(
            caller, new.owner_id, brand=new.brand, environment=new.environment or "live", seal_to=seal_to
        )
        key = new.key(minted.string.prefix, now, creator_id=caller.credential_id)
        caller = self._replacements.with_latest_deadline(caller)
        until = self._replacements.latest_wait(caller)
        with self.deliveries.lost_on_failure(key.key_id):
            if await self._create_at_once(caller, key, minted, new.brand, request_id):
                return key, minted.string
            while True:
                undelivered = await self._replacements.find(caller, key.owner_id, request_id, until)
                try:
                    key = await self._insert(caller, key, minted, new.brand, request_id, undelivered)
                except RequestInProgress:
                    continue  # `find` waits for the earlier call, and raises this after too long a wait.
                return key, minted.string

    async def _create_at_once(
        self, caller: Caller, key: Key, minted: Minted, brand: str, request_id: str
    ) -> bool:
        """Create a key by one statement if there is nothing to refuse; return whether that was done.

        Otherwise `_insert` judges everything under locks. It also does so for a caller without a credential,
        whose file is read once more after the last wait for a lock, and for a key with networks, rate limits
        or credits.
        """
        try:
            minted.policy.refuse_brand(brand)
            minted.policy.check_new(key)
        except FailedPrecondition:
            return False
        is_restricted = key.allowed_networks or key.rate_limits or key.credits is not None
        if caller.kind is None or is_restricted:
            return False
        return await self._minting.create(caller, key, minted, request_id)

    async def _insert(
        self,
        caller: Caller,
        key: Key,
        minted: Minted,
        brand: str,
        request_id: str,
        undelivered: Key | None,
    ) -> Key:
        async with self._transaction(caller, key, undelivered) as (connection, authorized, revoked_prefixes):
            platform.refuse_credential_of(authorized, key.owner_id)
            self._catalogue.check_held(authorized, key.scopes)
            policy = await self._policies.find(connection, key.owner_id)
            policy.refuse_manager(caller)
            policy.refuse_brand(brand)
            # Before the count of active keys, which the replaced key may be part of.
            replaced = await self._replacements.check(
                connection, caller, key.owner_id, request_id, undelivered
            )
            excluding = replaced.key_id if replaced else ""
            await refuse_more(connection, policy, self._clock(), excluding=excluding)
            if replaced:
                await key_store.give_up_request(connection, replaced.key_id)
            await self._minting.insert(connection, key, minted, policy, request_id)
            if key.credits is not None:
                key = await credit_store.given(connection, key)
            events = key_events(caller, Action.KEY_CREATED, [key], at=key.create_time)
            if replaced:
                now = self._clock()
                reason = f"never delivered, replaced by {key.key_id}"
                revoked = replaced.revoked(now, at=now, by=caller.credential_id, reason=reason)
                await key_store.update(connection, [revoked])
                revoked_prefixes.add(revoked.key_prefix)
                events += key_events(caller, Action.KEY_REVOKED, [revoked], at=now)
            await audit.record_many(connection, events)
        return key

    @asynccontextmanager
    async def _transaction(
        self, caller: Caller, key: Key, undelivered: Key | None
    ) -> AsyncIterator[tuple[Connection, Caller, set[str]]]:
        """Yield a transaction, its caller with its current scopes, and a set for prefixes of revoked keys.

        With a key to replace, this locks it and waits for all workers at the end. Otherwise there is nothing
        that workers have to forget.
        """
        if undelivered is None:
            claim = Claim(relies_on=[key.owner_id])
            async with self._authority.transaction(caller, claim) as (connection, authorized):
                yield connection, authorized.caller, set()
            return
        claim = Claim(relies_on=[key.owner_id], changes=[undelivered.key_id])
        done = f"replaced {undelivered.key_id} by {key.key_id}, whose key string cannot be shown again"
        async with self._barrier.change(caller, claim, done=done) as change:
            yield change.connection, change.caller, change.key_prefixes
