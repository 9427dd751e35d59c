"""ImportKeys, and CreateKey with a digest: keys whose strings were made elsewhere.

Mechanism: of such a string only a hash is known, and how the key is found (`model.look_up`). Workers refuse
strings whose look-up they do not know, without the database. So an import is a change like any other: its
entry in the feed names the look-ups, and it is answered when every worker knows them (R6). A call that finds
its keys imported already waits in the same way (R7).

Bound: `MAX_KEYS` keys in a call, in one transaction.

Failure: what is wrong with one key is the result of that key, and the others are imported. An error of the
whole call imports none.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from authsvc import audit
from authsvc.keys.minting import refuse_more, refuse_repeated
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import AlreadyExists, AuthsvcError, FailedPrecondition, PermissionDenied
from authsvc.model.foreign_secret import ForeignSecret
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.model.look_up import is_digest
from authsvc.model.new_key import NewKey
from authsvc.revocation.authority import Authority, Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import credits as credit_store
from authsvc.store import imports as import_store
from authsvc.store.imports import Holding
from authsvc.store.policies import PolicyStore, count_active
from authsvc.store.pool import Connection

#: Keys in a call.
MAX_KEYS = 1000
# Keys that are looked at before other tasks run.
_KEYS_AT_A_TIME = 25


class Candidate(NamedTuple):
    """A key to import."""

    new: NewKey
    secret: ForeignSecret


class _Prepared(NamedTuple):
    key: Key
    secret: ForeignSecret


class KeyImport(Protocol):
    """Creates keys whose strings were made elsewhere."""

    _authority: Authority
    _barrier: Barrier
    _policies: PolicyStore
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def register(self, caller: Caller, new: NewKey, secret: ForeignSecret, request_id: str = "") -> Key:
        """Create a key whose string the client has made and keeps; return it.

        A repeated `request_id` is refused: there is no key string that could have been lost.

        Raises:
            AlreadyExists: KEY_ALREADY_IMPORTED, if the owner has a key with this string; LOOK_UP_IN_USE, if
                another one has; REQUEST_REPEATED.
            InvalidArgument, PermissionDenied, FailedPrecondition: what `KeyCreation.create` raises.
        """
        caller.refuse_other_owner(new.owner_id)
        platform.refuse_new_credential(caller, new.owner_id)
        self._catalogue.check_grant(caller, new.scopes)
        now = self._clock()
        key = new.key(secret.look_up, now, creator_id=caller.credential_id)
        claim = Claim(relies_on=[key.owner_id])
        async with self._barrier.change(caller, claim, done=f"created {key.key_id}") as change:
            connection = change.connection
            platform.refuse_credential_of(change.caller, key.owner_id)
            self._catalogue.check_held(change.caller, key.scopes)
            policy = await self._policies.find(connection, key.owner_id)
            policy.refuse_manager(caller)
            policy.check_new(key)
            await refuse_repeated(connection, key.owner_id, request_id)
            await refuse_more(connection, policy, self._clock())
            if not await import_store.insert(connection, [(key, secret)], request_id):
                held = await import_store.find_look_ups(connection, [key.key_prefix])
                raise _in_use(key.owner_id, key.key_prefix, held.get(key.key_prefix), field="key_hash")
            if key.credits is not None:
                key = await credit_store.given(connection, key)
            change.key_prefixes.add(key.key_prefix)
            await audit.record_many(connection, key_events(caller, Action.KEY_CREATED, [key], at=now))
        return key

    async def import_keys(
        self,
        caller: Caller,
        owner_id: str,
        candidates: Sequence[Candidate | AuthsvcError],
        *,
        validate_only: bool = False,
    ) -> list[Key | AuthsvcError]:
        """Import keys of an owner; return each key, or what is wrong with it, in order.

        A candidate may be an error already, which is its result. A salted hash of a caller that is not the
        platform's is PLATFORM_ONLY. With `validate_only`, nothing is imported.
        The keys are in the results as they would be, without anybody having them.

        Raises:
            InvalidArgument: INVALID_FIELD, if the owner's name resembles the platform's.
            PermissionDenied: OWNER_NOT_PERMITTED, PLATFORM_NEEDS_FULL_ACCESS, KEY_MANAGER_NOT_PERMITTED.
        """
        caller.refuse_other_owner(owner_id)
        platform.refuse_new_credential(caller, owner_id)
        now = self._clock()
        results = await self._prepared(caller, candidates, now)
        claim = Claim(relies_on=[owner_id])
        if validate_only:
            async with self._authority.transaction(caller, claim) as (connection, authorized):
                await self._judge(connection, authorized.caller, owner_id, results)
            return _told(results)
        async with self._barrier.change(caller, claim, done="imported") as change:
            connection = change.connection
            held = await self._judge(connection, change.caller, owner_id, results)
            prepared = [each for each in results if isinstance(each, _Prepared)]
            if prepared:
                made = await import_store.insert(connection, prepared)
                # What was inserted by others since it was looked for, and waited for.
                late = [each.key.key_prefix for each in prepared if each.key.key_id not in made]
                held |= await import_store.find_look_ups(connection, late) if late else {}
                _refuse_rest(results, made, owner_id, held)
                keys = [each.key for each in prepared if each.key.key_id in made]
                change.key_prefixes.update(key.key_prefix for key in keys)
                await audit.record_many(connection, key_events(caller, Action.KEY_IMPORTED, keys, at=now))
            # Those that the owner has already may be from a call that was not confirmed (R7).
            change.key_prefixes.update(each for each in held if held[each].owner_id == owner_id)
        return _told(results)

    async def _prepared(
        self, caller: Caller, candidates: Sequence[Candidate | AuthsvcError], now: datetime
    ) -> list[_Prepared | AuthsvcError]:
        """Return the keys to import, and what is wrong with the others by themselves."""
        results: list[_Prepared | AuthsvcError] = []
        seen: set[str] = set()
        for number, each in enumerate(candidates):
            if number % _KEYS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            if isinstance(each, AuthsvcError):
                results.append(each)
                continue
            new, secret = each
            if secret.look_up in seen:
                results.append(_repeated(secret.look_up))
                continue
            try:
                if not is_digest(secret.look_up):
                    # All owners share the look-up prefixes, and each string that begins with one costs a
                    # proof.
                    caller.refuse_tenant("import salted hashes")
                self._catalogue.check_grant(caller, new.scopes)
                key = new.key(secret.look_up, now, creator_id=caller.credential_id)
                results.append(_Prepared(key, secret))
            except AuthsvcError as error:
                results.append(error)
            else:
                seen.add(secret.look_up)
        return results

    async def _judge(
        self,
        connection: Connection,
        caller: Caller,
        owner_id: str,
        results: list[_Prepared | AuthsvcError],
    ) -> dict[str, Holding]:
        """Replace what may not be imported by its error; return which look-ups are in use, and by whom."""
        platform.refuse_credential_of(caller, owner_id)
        policy = await self._policies.find(connection, owner_id)
        policy.refuse_manager(caller)
        look_ups = [each.key.key_prefix for each in results if isinstance(each, _Prepared)]
        active = 0
        if limit := policy.max_active_keys:
            active = await count_active(
                connection, owner_id, now=self._clock(), rotated=False, excluding="", limit=limit
            )
        held = await import_store.find_look_ups(connection, look_ups)
        for number, each in enumerate(results):
            if not isinstance(each, _Prepared):
                continue
            if each.key.key_prefix in held:
                results[number] = _in_use(owner_id, each.key.key_prefix, held[each.key.key_prefix])
                continue
            try:
                self._catalogue.check_held(caller, each.key.scopes)
                policy.check_new(each.key)
                policy.refuse_more(active)
            except (PermissionDenied, FailedPrecondition) as error:
                results[number] = error
            else:
                active += 1
        return held


def _in_use(owner_id: str, look_up: str, held: Holding | None, *, field: str = "") -> AlreadyExists:
    """Return the error for a look-up that is in use, which the caller has sent in `field`.

    Without `field`, it is that of ImportedKey. Nothing is told of a key of another owner.
    """
    by_hash = is_digest(look_up)
    field = field or ("hash" if by_hash else "look_up_prefix")
    another = "make another secret" if field == "key_hash" else "issue a new key"
    if held is not None and held.owner_id == owner_id:
        told = (
            f"key {held.key_id} of this owner has this hash; use that key, or {another}"
            if by_hash
            else f"key {held.key_id} of this owner has this prefix; use that key, or a longer prefix"
        )
        return AlreadyExists(
            f"{field}: {told}", reason="KEY_ALREADY_IMPORTED", key_id=held.key_id, field=field
        )
    told = (
        f"this hash is in use; {another}"
        if by_hash
        else f"this prefix is in use; use a longer one, or {another}"
    )
    return AlreadyExists(f"{field}: {told}", reason="LOOK_UP_IN_USE", field=field)


def _repeated(look_up: str) -> AlreadyExists:
    """Return the error for a look-up that an earlier key of the request has."""
    if is_digest(look_up):
        field, told = "hash", "an earlier key of this request has this hash; leave one out"
    else:
        field = "look_up_prefix"
        told = "an earlier key of this request has this prefix; use a longer one for both, or leave one out"
    return AlreadyExists(f"{field}: {told}", reason="LOOK_UP_IN_USE", field=field)


def _refuse_rest(
    results: list[_Prepared | AuthsvcError], made: Collection[str], owner_id: str, held: Mapping[str, Holding]
) -> None:
    """Replace keys that were not inserted by the error: their look-up came into use meanwhile."""
    for number, each in enumerate(results):
        if isinstance(each, _Prepared) and each.key.key_id not in made:
            look_up = each.key.key_prefix
            results[number] = _in_use(owner_id, look_up, held.get(look_up))


def _told(results: Sequence[_Prepared | AuthsvcError]) -> list[Key | AuthsvcError]:
    return [each.key if isinstance(each, _Prepared) else each for each in results]
