"""What all changes of keys have in common: locks, the check of the caller, and the wait for all workers."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from authsvc.keys.naming import key_metadata, listed
from authsvc.model.caller import Caller
from authsvc.model.errors import NotFound
from authsvc.model.key import Key
from authsvc.model.policy import OwnerPolicy
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier, Change
from authsvc.store import keys as key_store
from authsvc.store.policies import PolicyStore


class Changes:
    """Yields locked keys. When the block has ended, no worker acts on their previous state.

    The methods raise NotFound (KEY_NOT_FOUND) for keys that are unknown or of another owner, PermissionDenied
    (KEY_MANAGER_NOT_PERMITTED) for callers who may not manage the owner's keys, and what `Barrier.change`
    raises. `done` is what an error calls the change once it is durable: "revoked".
    """

    def __init__(self, barrier: Barrier, policies: PolicyStore) -> None:
        self._barrier = barrier
        self._policies = policies

    @asynccontextmanager
    async def of_key(
        self,
        caller: Caller,
        key_id: str,
        *,
        done: str = "changed",
        affects_verification: bool = True,
        revokes: bool = False,
    ) -> AsyncIterator[tuple[Change, Key, OwnerPolicy]]:
        """Yield a key and its owner's policy, which nobody else changes before the commit.

        Workers are waited for only if the change `affects_verification`.
        """
        keys = self.of_keys(
            caller, [key_id], done=done, affects_verification=affects_verification, revokes=revokes
        )
        async with keys as (change, [key]):
            yield change, key, await self._policies.find(change.connection, key.owner_id)

    @asynccontextmanager
    async def of_keys(
        self,
        caller: Caller,
        key_ids: Sequence[str],
        *,
        done: str,
        affects_verification: bool = True,
        revokes: bool = False,
        also: Collection[str] = (),
    ) -> AsyncIterator[tuple[Change, Sequence[Key]]]:
        """Yield keys in the given order. Revoking and deleting need no policy: no policy forbids them.

        `also` are the ids of keys and sessions that are locked with them.
        """
        claim = Claim(changes=[*key_ids, *also], revokes=revokes)
        async with self._barrier.change(caller, claim, done=done) as change:
            if caller.confined_to is not None:
                # Also if the key is unknown, so that the error does not tell whether it exists.
                (await self._policies.find(change.connection, caller.confined_to)).refuse_manager(caller)
            found = await key_store.find(change.connection, key_ids, owner_id=caller.confined_to)
            if affects_verification:
                change.key_prefixes.update(key.key_prefix for key in found.values())
            yield change, visible(caller, key_ids, found)


def visible(caller: Caller, key_ids: Sequence[str], found: Mapping[str, Key]) -> Sequence[Key]:
    """Return the keys in the given order; raise NotFound for the unknown and other owners' (rule 19)."""
    unknown = [i for i in key_ids if i not in found or not caller.acts_on(found[i].owner_id)]
    if unknown:
        raise NotFound(f"{listed(unknown)} not known", reason="KEY_NOT_FOUND", **key_metadata(unknown))
    return [found[key_id] for key_id in key_ids]
