"""Keys that are to be changed: locked, visible to the caller, and made known to every worker."""

from collections.abc import AsyncIterator, Mapping, Sequence
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
    """Lends locked keys; at the end, no worker acts on what they were before."""

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
        seen: bool = True,
        revokes: bool = False,
    ) -> AsyncIterator[tuple[Change, Key, OwnerPolicy]]:
        """Lend a key and its owner's policy, which stay as they are until the change is committed.

        A change that is not `seen` by verification waits for nobody.
        """
        async with self._of_keys(caller, [key_id], done, seen=seen, revokes=revokes) as (change, [key]):
            yield change, key, await self._policies.find(change.connection, key.owner_id)

    @asynccontextmanager
    async def of_keys(
        self, caller: Caller, key_ids: Sequence[str], *, done: str, revokes: bool = False
    ) -> AsyncIterator[tuple[Change, Sequence[Key]]]:
        """Lend keys, in the order asked for, to be ended: no policy forbids that, but to some callers."""
        async with self._of_keys(caller, key_ids, done, seen=True, revokes=revokes) as lent:
            yield lent

    @asynccontextmanager
    async def _of_keys(
        self, caller: Caller, key_ids: Sequence[str], done: str, *, seen: bool, revokes: bool
    ) -> AsyncIterator[tuple[Change, Sequence[Key]]]:
        claim = Claim(changes=key_ids, revokes=revokes)
        async with self._barrier.change(caller, claim, done=done) as change:
            if caller.confined_to is not None:
                # Also for a key that is not known, which must not look different.
                (await self._policies.find(change.connection, caller.confined_to)).refuse_manager(caller)
            found = await key_store.find(change.connection, key_ids, owner_id=caller.confined_to)
            if seen:
                change.key_prefixes.update(key.key_prefix for key in found.values())
            yield change, visible(caller, key_ids, found)


def visible(caller: Caller, key_ids: Sequence[str], found: Mapping[str, Key]) -> Sequence[Key]:
    """Return the keys in order; raise NotFound for those unknown or another owner's (rule 19)."""
    unknown = [i for i in key_ids if i not in found or not caller.acts_on(found[i].owner_id)]
    if unknown:
        raise NotFound(f"{listed(unknown)} not known", reason="KEY_NOT_FOUND", **key_metadata(unknown))
    return [found[key_id] for key_id in key_ids]
