"""The descendants of a key: what it created, what that created, and so on. None escapes a cascade (R17).

Mechanism: whoever creates a key or a session shares the row of the credential by which it does so. The
descendants are read once before the transaction of the cascade, which then locks all of them exclusively, in
the order of all locks. Under these locks they are read again. Those that are new are locked if they are free,
because a wait could be a deadlock, and everything is read again. So nothing new is created by any of them.

Bound: `MAX_DESCENDANTS` keys and sessions, which take about two seconds. Other changes of their owners wait
for a lock no longer. Their keys may belong to `MAX_OWNERS` owners: each takes an entry in a table of locks,
which has a few thousand. Descendants that have ended do not count.

Failure: MoreDescendants, if something new is not free. The cascade is rolled back, and begins again with what
is known then.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from authsvc.model.caller import Caller
from authsvc.model.errors import FailedPrecondition
from authsvc.store import descendants as descendant_store
from authsvc.store.descendants import Descendant
from authsvc.store.pool import Connection, Database

MAX_DESCENDANTS, MAX_OWNERS = 5000, 1000
# What a credential was creating when its time was over has been committed by then, or rolled back.
_SETTLED_AFTER = timedelta(hours=1)


class MoreDescendants(Exception):
    """A descendant is new, and cannot be locked now without a wait."""

    def __init__(self, known: Collection[str]) -> None:
        super().__init__()
        self.known = known


class Descendants:
    """Finds the descendants of keys, and locks them."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def find(self, caller: Caller, key_id: str) -> Collection[str]:
        """Return the ids of descendants that may be alive, as they are now, for the `known` of `lock_all`.

        Raises FailedPrecondition (CASCADE_TOO_LARGE).
        """
        async with self._database.transaction(caller.quota_owner, revokes=True) as connection:
            return (await self._read(connection, caller, key_id)).keys()

    async def lock_all(
        self, connection: Connection, caller: Caller, key_id: str, known: Collection[str]
    ) -> Collection[str]:
        """Return the ids of all descendants that may be alive, locked as changed until the transaction ends.

        The transaction must have claimed the key and what is `known`. Raises MoreDescendants, and
        FailedPrecondition (CASCADE_TOO_LARGE).
        """
        locked = set(known)
        while True:
            found = await self._read(connection, caller, key_id)
            new = [each for each in found.values() if each.credential_id not in locked]
            if not new:
                return found.keys()
            if not await descendant_store.lock_free(connection, new):
                raise MoreDescendants(found.keys())
            locked.update(found)

    async def _read(self, connection: Connection, caller: Caller, key_id: str) -> dict[str, Descendant]:
        found = await descendant_store.find(
            connection,
            [key_id],
            owner_id=caller.confined_to,
            settled_before=self._clock() - _SETTLED_AFTER,
            limit=MAX_DESCENDANTS + 1,
        )
        owners = {each.owner_id for each in found.values() if each.is_key}
        if len(found) > MAX_DESCENDANTS or len(owners) > MAX_OWNERS:
            raise FailedPrecondition(
                f"key {key_id} and what it created have created too much to end at once: at least "
                f"{len(found)} keys and sessions of {len(owners)} owners, and {MAX_DESCENDANTS} of "
                f"{MAX_OWNERS} are possible. Nothing was revoked. End a part first, with RevokeAllSessions "
                "of their owners, with BatchRevokeKeys, or with a cascade of a key that it created",
                reason="CASCADE_TOO_LARGE",
                key_id=key_id,
                max_descendants=str(MAX_DESCENDANTS),
                max_owners=str(MAX_OWNERS),
            )
        return found
