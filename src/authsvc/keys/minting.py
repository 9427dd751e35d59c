"""What creating and rotating share: a new key string with its hash, and the insertion of the key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from authsvc.keys.sealing import Recipient
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.errors import AlreadyExists, Conflict
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.model.key_string import KeyMint, KeyString
from authsvc.model.policy import OwnerPolicy
from authsvc.store import key_creation
from authsvc.store import keys as key_store
from authsvc.store.driver_errors import AuthorityOver
from authsvc.store.key_creation import Creation
from authsvc.store.policies import PolicyStore, count_active
from authsvc.store.pool import Connection, Database
from authsvc.store.shared_commit import SharedCommit
from authsvc.store.shared_statement import SharedStatement
from authsvc.verify.hasher import MINTED, Hasher

_MAX_WAITING_READS = 1000


@dataclass(frozen=True, slots=True)
class NewKeyString:
    """A new key string as its caller gets it: the text or, if the caller named a recipient, only sealed."""

    prefix: str
    text: str = field(default="", repr=False)
    sealed: str = ""


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key string and its hash, for a policy as it was read without a lock.

    `fallback` is the brand for owners whose policy sets none.
    """

    string: NewKeyString
    secret_hash: str = field(repr=False)
    fallback: str
    policy: OwnerPolicy


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
        self._reads = SharedStatement.prompt(
            self._read_policies,
            max_waiting=_MAX_WAITING_READS,
            full="too many keys are being created",
        )
        self._creations = SharedCommit(self._create_all)

    async def mint(
        self, caller: Caller, owner_id: str, *, brand: str, environment: str, seal_to: Recipient | None = None
    ) -> Minted:
        """Return a new key string for an owner, hashed with argon2id; check the policy before the hashing.

        With `seal_to`, the key string is sealed to this recipient.

        Calls at the same time share the statement that reads their policies.

        Raises PermissionDenied (KEY_MANAGER_NOT_PERMITTED), FailedPrecondition (API_KEYS_NOT_ENABLED), and
        Overloaded (HASHER_QUEUE_FULL, DATABASE_QUEUE_FULL).
        """
        policy = await self._reads.ask(owner_id)
        policy.refuse_manager(caller)
        policy.refuse_if_disabled()
        fallback = brand or self._brand
        string = self._mint.mint(policy.brand or fallback, environment)
        secret_hash = await self._hasher.hash(string.secret, MINTED)
        return Minted(await self._for_caller(string, seal_to), secret_hash, fallback, policy)

    async def _for_caller(self, string: KeyString, seal_to: Recipient | None) -> NewKeyString:
        if seal_to is None:
            return NewKeyString(string.prefix, text=string.text)
        return NewKeyString(string.prefix, sealed=await self._hasher.run(partial(seal_to.seal, string.text)))

    async def _read_policies(self, owner_ids: Sequence[str]) -> list[OwnerPolicy]:
        async with self._database.connection() as connection:
            policies = await self._policies.find_all(connection, owner_ids)
        return [policies[owner_id] for owner_id in owner_ids]

    async def create(self, caller: Caller, key: Key, minted: Minted, request_id: str) -> bool:
        """Create a key by one statement, which calls at the same time share; return whether that was done.

        Nothing was done if the caller or the policy has changed since both were judged.
        """
        creation = Creation(
            caller=caller,
            policy=minted.policy,
            key=key,
            secret_hash=minted.secret_hash,
            secret_origin=MINTED,
            request_id=request_id,
            event=key_events(caller, Action.KEY_CREATED, [key], at=key.create_time)[0],
        )
        try:
            return bool(await self._creations.make(caller, creation))
        except AuthorityOver:
            return False

    async def _create_all(
        self, owner_id: str, creations: Sequence[Creation], at_once: bool
    ) -> list[bool | None]:
        made = await key_creation.create(
            self._database,
            owner_id,
            creations,
            at_once=at_once,
            default_policy=self._policies.default,
            clock=self._clock,
        )
        return [each or None for each in made]

    async def insert(
        self,
        connection: Connection,
        key: Key,
        minted: Minted,
        policy: OwnerPolicy,
        request_id: str,
    ) -> None:
        """Insert a key. The transaction holds the lock of `policy`, which is that of the owner.

        Raises FailedPrecondition if the policy forbids the key, Conflict (POLICY_CHANGED) if the key string
        has another brand than the policy, and AlreadyExists (REQUEST_REPEATED).
        """
        policy.check_new(key)
        if key.key_prefix.partition("_")[0] != (policy.brand or minted.fallback):
            raise Conflict(
                f"the brand in the policy of {key.owner_id} was changed during the call; repeat the call",
                reason="POLICY_CHANGED",
            )
        inserted = await key_store.insert(
            connection, key, secret_hash=minted.secret_hash, secret_origin=MINTED, request_id=request_id
        )
        if not inserted:
            raise request_repeated(
                request_id, await key_store.find_request(connection, key.owner_id, request_id)
            )


async def refuse_repeated(connection: Connection, owner_id: str, request_id: str) -> None:
    """Raise AlreadyExists if a key was created with this `request_id`; lock it until the commit otherwise."""
    if not request_id:
        return
    await key_store.lock_request(connection, owner_id, request_id)
    if key_id := await key_store.find_request(connection, owner_id, request_id):
        raise request_repeated(request_id, key_id)


async def refuse_more(
    connection: Connection, policy: OwnerPolicy, now: datetime, *, excluding: str = "", rotated: bool = False
) -> None:
    """Raise FailedPrecondition if the policy allows no further active key (rule 5).

    Until the commit, no other transaction adds one. Keys in the grace period of a rotation are counted
    separately: with `rotated`, it is those that are counted. The key `excluding` is not counted.
    """
    if limit := policy.max_active_keys:
        others = await count_active(
            connection, policy.owner_id, now=now, rotated=rotated, excluding=excluding, limit=limit
        )
        policy.refuse_more(others, rotated=rotated)


def request_repeated(request_id: str, key_id: str | None) -> AlreadyExists:
    """Return the error for a `request_id` that was sent before."""
    return AlreadyExists(
        f"an earlier call with request_id {request_id!r} created key {key_id}; its key string cannot be "
        "shown again",
        reason="REQUEST_REPEATED",
        key_id=key_id or "",
    )
