"""What creating and rotating share: a new key string with its hash, and the key's row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from authsvc.model.caller import Caller
from authsvc.model.errors import AlreadyExists, Conflict
from authsvc.model.key import Key
from authsvc.model.key_string import KeyMint, KeyString
from authsvc.model.policy import OwnerPolicy
from authsvc.store import keys as key_store
from authsvc.store.policies import PolicyStore, count_active
from authsvc.store.pool import Connection, Database
from authsvc.verify.hasher import MINTED, Hasher


@dataclass(frozen=True, slots=True)
class Minted:
    """A key string that no key has yet. `fallback` is its brand where the owner's policy names none."""

    string: KeyString
    secret_hash: str = field(repr=False)
    fallback: str


class Minting:
    """Mints key strings, and inserts keys."""

    def __init__(
        self,
        database: Database,
        *,
        mint: KeyMint,
        hasher: Hasher,
        policies: PolicyStore,
        clock: Callable[[], datetime],
        brand: str,
    ) -> None:
        self._database = database
        self._mint = mint
        self._hasher = hasher
        self._policies = policies
        self._clock = clock
        self._brand = brand

    async def mint(self, caller: Caller, owner_id: str, *, brand: str, environment: str) -> Minted:
        """Return a key string for an owner; refuse what the policy forbids anyhow, before argon2 runs."""
        async with self._database.connection() as connection:
            policy = await self._policies.find(connection, owner_id)
        policy.refuse_manager(caller)
        policy.refuse_if_disabled()
        fallback = brand or self._brand
        string = self._mint.mint(policy.brand or fallback, environment)
        return Minted(string, await self._hasher.hash(string.secret, MINTED), fallback)

    async def insert(
        self,
        connection: Connection,
        key: Key,
        minted: Minted,
        policy: OwnerPolicy,
        request_id: str,
    ) -> None:
        """Insert a key within the policy of its owner, which is shared with this transaction."""
        policy.check_new(key)
        if key.key_prefix.partition("_")[0] != (policy.brand or minted.fallback):
            raise Conflict(
                f"the policy of {key.owner_id} was given another brand meanwhile; repeat the call",
                reason="POLICY_CHANGED",
            )
        inserted = await key_store.insert(
            connection, key, secret_hash=minted.secret_hash, secret_origin=MINTED, request_id=request_id
        )
        if not inserted:
            raise repeated(request_id, await key_store.find_request(connection, key.owner_id, request_id))


async def refuse_repeated(connection: Connection, owner_id: str, request_id: str) -> None:
    """Raise AlreadyExists when an owner has sent this `request_id` before; nobody else does meanwhile."""
    if not request_id:
        return
    await key_store.lock_request(connection, owner_id, request_id)
    if key_id := await key_store.find_request(connection, owner_id, request_id):
        raise repeated(request_id, key_id)


async def refuse_more(
    connection: Connection, policy: OwnerPolicy, now: datetime, *, excluding: str = "", rotated: bool = False
) -> None:
    """Refuse one more active key than the policy allows (rule 5); nobody else adds one before the commit.

    `rotated` counts those in the grace period of a rotation, which count apart. `excluding` is a key
    that does not count.
    """
    if most := policy.max_active_keys:
        others = await count_active(
            connection, policy.owner_id, now=now, rotated=rotated, excluding=excluding, most=most
        )
        policy.refuse_more(others, rotated=rotated)


def repeated(request_id: str, key_id: str | None) -> AlreadyExists:
    """Return what to tell who sends a `request_id` again."""
    return AlreadyExists(
        f"request_id {request_id!r} made key {key_id} before; its key string cannot be shown again",
        reason="REQUEST_REPEATED",
        key_id=key_id or "",
    )
