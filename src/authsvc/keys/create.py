"""CreateKey."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.keys.deliveries import Deliveries
from authsvc.keys.minting import Minted, Minting, refuse_more
from authsvc.keys.replacement import Replacements, StillAnswered
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.identifier import new_identifier
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.model.key_string import KeyString
from authsvc.model.new_key import NewKey
from authsvc.revocation.authority import Authority, Claim
from authsvc.revocation.barrier import Barrier
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

    async def create(self, caller: Caller, new: NewKey, request_id: str = "") -> tuple[Key, KeyString]:
        """Return the key, and its key string, which is told this one time (rule 1).

        A key that the caller made by the same `request_id`, and whose string was not delivered, is revoked
        and replaced.
        """
        caller.refuse_other_owner(new.owner_id)
        platform.refuse_new_credential(caller, new.owner_id)
        self._catalogue.check_grant(caller, new.scopes)
        now = self._clock()
        expire_time = new.expire_time(now)
        minted = await self._minting.mint(
            caller, new.owner_id, brand=new.brand, environment=new.environment or "live"
        )
        key = Key(
            key_id=new_identifier("key", now),
            owner_id=new.owner_id,
            key_prefix=minted.string.prefix,
            display_name=new.display_name,
            description=new.description,
            scopes=tuple(sorted(new.scopes)),
            technical_contacts=new.technical_contacts,
            annotations=new.annotations,
            create_time=now,
            creator_id=caller.credential_id,
            update_time=now,
            expire_time=expire_time,
        )
        caller = self._replacements.bounded(caller)
        until = self._replacements.patience(caller)
        with self.deliveries.of(key.key_id):
            while True:
                undelivered = await self._replacements.find(caller, key.owner_id, request_id, until)
                try:
                    await self._insert(caller, key, minted, new.brand, request_id, undelivered)
                except StillAnswered:
                    continue  # To find it, which raises this, too, after too long a wait.
                return key, minted.string

    async def _insert(
        self,
        caller: Caller,
        key: Key,
        minted: Minted,
        brand: str,
        request_id: str,
        undelivered: Key | None,
    ) -> None:
        async with self._transaction(caller, key, undelivered) as (connection, authorized, revoked_prefixes):
            platform.refuse_credential_of(authorized, key.owner_id)
            self._catalogue.check_held(authorized, key.scopes)
            policy = await self._policies.find(connection, key.owner_id)
            policy.refuse_manager(caller)
            policy.refuse_brand(brand)
            # Before the policy, which may have no room because of that very key.
            replaced = await self._replacements.check(
                connection, caller, key.owner_id, request_id, undelivered
            )
            excluding = replaced.key_id if replaced else ""
            await refuse_more(connection, policy, self._clock(), excluding=excluding)
            if replaced:
                await key_store.give_up_request(connection, replaced.key_id)
            await self._minting.insert(connection, key, minted, policy, request_id)
            events = key_events(caller, Action.KEY_CREATED, [key], at=key.create_time)
            if replaced:
                now = self._clock()
                reason = f"never delivered, replaced by {key.key_id}"
                revoked = replaced.revoked(now, at=now, by=caller.credential_id, reason=reason)
                await key_store.update(connection, [revoked])
                revoked_prefixes.add(revoked.key_prefix)
                events += key_events(caller, Action.KEY_REVOKED, [revoked], at=now)
            await audit.record_many(connection, events)

    @asynccontextmanager
    async def _transaction(
        self, caller: Caller, key: Key, undelivered: Key | None
    ) -> AsyncIterator[tuple[Connection, Caller, set[str]]]:
        """Lend a transaction, its caller as it is now, and where to name the prefixes of revoked keys.

        A key that may be replaced is locked. Without one there is nothing that workers have to know of.
        """
        if undelivered is None:
            claim = Claim(relies_on=[key.owner_id])
            async with self._authority.transaction(caller, claim) as (connection, authorized):
                yield connection, authorized.caller, set()
            return
        claim = Claim(relies_on=[key.owner_id], changes=[undelivered.key_id])
        done = f"replaced {undelivered.key_id} by {key.key_id}, whose key string is lost with this answer"
        async with self._barrier.change(caller, claim, done=done) as change:
            yield change.connection, change.caller, change.key_prefixes
