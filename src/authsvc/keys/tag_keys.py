"""Tag keys: rotating them without an outage, and retiring them permanently.

Every key string carries a tag, which is computed under a tag key. A worker refuses a key string whose tag is
not valid under any tag key that it knows: such a string was never minted here. So the rule is:

**No worker mints under a tag key before every worker accepts it.** A rotation takes two steps. Each is a
change like any other, which returns when no worker acts on the previous state (see `revocation.barrier`):

1. Add the new tag key, which does not mint yet. The entry in the feed makes workers load all tag keys, in the
   same statement that shows them the entry. Wait for all workers.
2. Let it mint. Wait again: then no worker mints under the old one.

A worker that has not loaded the tag keys has no lease, since it loads them in the statement that renews the
lease. A worker that registers loads them with its place in the feed. Without a lease, no worker answers
NOT_FOUND.

Failure: a rotation that is interrupted between the steps leaves a tag key that is accepted and does not mint,
or one that mints while some workers still mint under the previous one. Both are harmless, and the next
`rotate` continues from there. Two rotations at the same time do one rotation together.

Bound: `MAX_ACCEPTED` tag keys are accepted at a time, since a made-up key string costs an HMAC for each.
"""

from collections.abc import Mapping, Sequence

from authsvc import audit
from authsvc.model.audit_event import Action
from authsvc.model.caller import BOOTSTRAP, PLATFORM_OWNER
from authsvc.model.errors import AlreadyDone, FailedPrecondition, NotFound
from authsvc.model.tag_key import TagKey, TagKeyState
from authsvc.revocation.barrier import Barrier
from authsvc.store import tag_keys as tag_key_store
from authsvc.store.pool import Connection, Database

MAX_ACCEPTED = 8


class TagKeys:
    """The use cases of `authsvc tag-key`, for the owner of the database. They have no caller.

    The package docstring lists the errors that all use cases can raise.
    """

    def __init__(self, database: Database, barrier: Barrier) -> None:
        self._database = database
        self._barrier = barrier

    async def list(self) -> tuple[Sequence[TagKey], Mapping[int, tag_key_store.Alive]]:
        """Return all tag keys, the oldest first, and how many credentials are alive under each, by id."""
        async with self._database.connection() as connection:
            return await tag_key_store.list_all(connection), await tag_key_store.count_alive(connection)

    async def rotate(self) -> int:
        """Make a new tag key the one that mints; return its id. An unfinished rotation is finished instead.

        Raises:
            FailedPrecondition: TAG_KEYS_TOO_MANY, if `MAX_ACCEPTED` are accepted; TAG_KEY_RETIRED, if the new
                tag key was retired in the meantime.
        """
        tag_key_id = await self._add()
        async with self._barrier.change(BOOTSTRAP) as change:
            known = {key.tag_key_id: key for key in await tag_key_store.lock(change.connection)}
            if known[tag_key_id].state is TagKeyState.RETIRED:
                raise FailedPrecondition(
                    f"tag key {tag_key_id} was retired during the rotation; rotate again",
                    reason="TAG_KEY_RETIRED",
                )
            if known[tag_key_id].state is TagKeyState.NEW:
                await tag_key_store.start_minting(change.connection, tag_key_id)
                await self._record(change.connection, Action.TAG_KEY_ROTATED, tag_key_id)
            change.about_tag_keys = True
        await tag_key_store.rest(self._database, tag_key_id)
        return tag_key_id

    async def _record(self, connection: Connection, action: Action, tag_key_id: int) -> None:
        at = await tag_key_store.now(connection)
        target_id = str(tag_key_id)
        await audit.record(connection, BOOTSTRAP, action, at=at, target_id=target_id, owner_id=PLATFORM_OWNER)

    async def _add(self) -> int:
        """Return the id of the tag key that is to mint, and that every worker accepts; add one if need be."""
        async with self._barrier.change(BOOTSTRAP) as change:
            known = await tag_key_store.lock(change.connection)
            change.about_tag_keys = True
            for key in known:
                if key.state is TagKeyState.NEW:
                    return key.tag_key_id
            if any(key.state is TagKeyState.ACCEPTED and key.rest_time is None for key in known):
                return next(key.tag_key_id for key in known if key.state is TagKeyState.MINTING)
            if sum(key.state is not TagKeyState.RETIRED for key in known) >= MAX_ACCEPTED:
                raise FailedPrecondition(
                    f"{MAX_ACCEPTED} tag keys are accepted, which is the maximum; retire the oldest first",
                    reason="TAG_KEYS_TOO_MANY",
                )
            return await tag_key_store.add(change.connection)

    async def retire(self, tag_key_id: int, *, force: bool = False) -> tag_key_store.Alive:
        """Make all workers stop accepting a tag key permanently; return how many credentials that ends.

        Raises:
            NotFound: TAG_KEY_NOT_FOUND.
            AlreadyDone: TAG_KEY_RETIRED.
            FailedPrecondition: TAG_KEY_MINTS, if workers mint under it, or may do so because the last
                rotation was not finished; TAG_KEY_NEEDED, if credentials under it are alive, unless `force`.
        """
        async with self._database.connection() as connection:
            alive = (await tag_key_store.count_alive(connection)).get(tag_key_id, tag_key_store.Alive(0, 0))
        async with self._barrier.change(BOOTSTRAP, done="retired") as change:
            known = {key.tag_key_id: key for key in await tag_key_store.lock(change.connection)}
            _refuse_to_retire(tag_key_id, known)
            if any(alive) and not force:
                raise FailedPrecondition(
                    f"up to {alive.keys} keys and {alive.sessions} sessions that are alive were minted under "
                    f"tag key {tag_key_id}; their strings would permanently become NOT_FOUND. Rotate those "
                    "keys and wait for those sessions to end, or repeat with --force",
                    reason="TAG_KEY_NEEDED",
                )
            await tag_key_store.retire(change.connection, tag_key_id)
            await self._record(change.connection, Action.TAG_KEY_RETIRED, tag_key_id)
            change.about_tag_keys = True
        return alive


def _refuse_to_retire(tag_key_id: int, known: Mapping[int, TagKey]) -> None:
    match known.get(tag_key_id):
        case None:
            raise NotFound(f"tag key {tag_key_id} is not known", reason="TAG_KEY_NOT_FOUND")
        case TagKey(state=TagKeyState.RETIRED):
            raise AlreadyDone(f"tag key {tag_key_id} is retired", reason="TAG_KEY_RETIRED")
        case TagKey(state=TagKeyState.MINTING):
            raise FailedPrecondition(
                f"tag key {tag_key_id} is in use for new strings; rotate first, then retire it",
                reason="TAG_KEY_MINTS",
            )
        case TagKey(state=TagKeyState.ACCEPTED, rest_time=None):
            raise FailedPrecondition(
                f"some workers may still mint under tag key {tag_key_id}, since the last rotation was not "
                "finished; rotate to finish it, then retire",
                reason="TAG_KEY_MINTS",
            )
