"""Keys that are to be changed: locked, visible to the caller, and made known to every worker."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from authsvc.barrier import Barrier
from authsvc.errors import NotFound
from authsvc.model.caller import Caller
from authsvc.model.key import Key
from authsvc.model.policy import OwnerPolicy
from authsvc.store import keys as rows
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Connection


class Changes:
    """Lends locked keys; at the end, no worker acts on what they were before."""

    def __init__(self, barrier: Barrier, policies: PolicyStore) -> None:
        self._barrier = barrier
        self._policies = policies

    @asynccontextmanager
    async def of_key(
        self, caller: Caller, key_id: str, *, done: str = "changed", seen: bool = True
    ) -> AsyncIterator[tuple[Connection, Key, OwnerPolicy]]:
        """Lend a key and its owner's policy, which stays as it is until the change is committed.

        A change that is not `seen` by verification waits for nobody.
        """
        async with self._barrier.change(caller, done) as change:
            connection = change.connection
            owner_id = caller.confined_to
            if owner_id is None:
                # Whose key it is never changes, and the owner is locked before its keys.
                [known] = visible(caller, [key_id], await rows.find(connection, [key_id]))
                owner_id = known.owner_id
            policy = await self._policies.share(connection, owner_id)
            policy.refuse_manager(caller)
            found = await rows.lock(connection, [key_id], owner_id=caller.confined_to)
            [key] = visible(caller, [key_id], found)
            if seen:
                change.key_prefixes.add(key.key_prefix)
            yield connection, key, policy

    @asynccontextmanager
    async def of_keys(
        self, caller: Caller, key_ids: Sequence[str], *, done: str, revokes: bool = False
    ) -> AsyncIterator[tuple[Connection, Sequence[Key]]]:
        """Lend keys, in the order asked for, to be ended: no policy forbids that, but to some callers."""
        async with self._barrier.change(caller, done, revokes=revokes) as change:
            connection = change.connection
            if caller.confined_to is not None:
                (await self._policies.find(connection, caller.confined_to)).refuse_manager(caller)
            found = await rows.lock(connection, key_ids, owner_id=caller.confined_to)
            change.key_prefixes.update(key.key_prefix for key in found.values())
            yield connection, visible(caller, key_ids, found)


def visible(caller: Caller, key_ids: Sequence[str], found: Mapping[str, Key]) -> Sequence[Key]:
    """Return the keys in order; raise NotFound for those unknown or another owner's (rule 19)."""
    unknown = [i for i in key_ids if i not in found or not caller.acts_on(found[i].owner_id)]
    if unknown:
        raise NotFound(f"{listed(unknown)} not known", reason="KEY_NOT_FOUND", key_ids=",".join(unknown))
    return [found[key_id] for key_id in key_ids]


def listed(key_ids: Sequence[str]) -> str:
    """Return what a sentence about these keys begins with: `key key_1 is`, `keys key_1, key_2 are`."""
    named = ", ".join(key_ids[:5]) + (f" and {len(key_ids) - 5} more" if len(key_ids) > 5 else "")
    return f"key {named} is" if len(key_ids) == 1 else f"keys {named} are"
