"""CreateKey."""

from collections.abc import Callable
from datetime import datetime

from authsvc import audit
from authsvc.authority import Authority, Claim
from authsvc.keys.minting import Minting, refuse_more, refuse_repeated
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.identifier import new_identifier
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.model.key_string import KeyString
from authsvc.model.new_key import NewKey
from authsvc.store.policies import PolicyStore


class CreateKey:
    """Mints a key for an owner."""

    def __init__(
        self,
        authority: Authority,
        minting: Minting,
        policies: PolicyStore,
        catalogue: Catalogue,
        clock: Callable[[], datetime],
    ) -> None:
        self._authority = authority
        self._minting = minting
        self._policies = policies
        self._catalogue = catalogue
        self._clock = clock

    async def __call__(self, caller: Caller, new: NewKey, request_id: str = "") -> tuple[Key, KeyString]:
        """Return the key, and its key string, which is told this one time (rule 1)."""
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
        claim = Claim(relies_on=[key.owner_id])
        async with self._authority.transaction(caller, claim) as (connection, authorized):
            platform.refuse_credential_of(authorized.caller, key.owner_id)
            self._catalogue.check_held(authorized.caller, key.scopes)
            policy = await self._policies.find(connection, key.owner_id)
            policy.refuse_manager(caller)
            policy.refuse_brand(new.brand)
            # Before the policy, which may have no room because of that very key.
            await refuse_repeated(connection, key.owner_id, request_id)
            await refuse_more(connection, policy, self._clock())
            await self._minting.insert(connection, key, minted, policy, request_id)
            await audit.record_many(connection, key_events(caller, Action.KEY_CREATED, [key], at=now))
        return key, minted.string
