"""The life of tag keys: rotate without an outage, retire for good.

A worker refuses what is tagged under a tag key that it does not know as never minted here. So:

**Nobody mints under a tag key before every worker that answers accepts it.** Rotation goes in two
steps, each a change like any other, which the barrier answers when no worker anywhere acts on what
was before:

1. Add the new tag key; it does not mint. Its entry in the feed has workers load all tag keys, in
   the very statement that shows them the entry. Wait for all of them.
2. Have it mint. Wait again: then nobody mints under the old one.

A worker that has not loaded them has no lease, since the renewal is that statement, too; one that
registers loads them with its place in the feed. Without a lease nobody is told NOT_FOUND.

Failure: whoever is cut off between the steps leaves a tag key that is accepted and does not mint,
or one that mints while some still mint under the one before: both are harmless, and the next
`rotate` goes on from there. Two at once do one rotation together.

Bound: `MAX_ACCEPTED` are accepted at a time, since a made-up key string costs an HMAC for each.
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
    """The use cases of whoever owns the database; no caller of the service gets here."""

    def __init__(self, database: Database, barrier: Barrier) -> None:
        self._database = database
        self._barrier = barrier

    async def list(self) -> tuple[Sequence[TagKey], Mapping[int, tag_key_store.Alive]]:
        """Return all tag keys, the oldest first, and what needs each."""
        async with self._database.connection() as connection:
            return await tag_key_store.list_all(connection), await tag_key_store.count_alive(connection)

    async def rotate(self) -> int:
        """Have a new tag key mint, or the one of a rotation that was not finished; return its id."""
        tag_key_id = await self._spread()
        async with self._barrier.change(BOOTSTRAP) as change:
            known = {key.tag_key_id: key for key in await tag_key_store.lock(change.connection)}
            if known[tag_key_id].state is TagKeyState.RETIRED:
                raise FailedPrecondition(
                    f"tag key {tag_key_id} was retired meanwhile; rotate again", reason="TAG_KEY_RETIRED"
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

    async def _spread(self) -> int:
        """Return the id of a tag key that every worker accepts, and that is to mint."""
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
                    f"{MAX_ACCEPTED} tag keys are accepted, and no more can be; retire the oldest first",
                    reason="TAG_KEYS_TOO_MANY",
                )
            return await tag_key_store.add(change.connection)

    async def retire(self, tag_key_id: int, *, force: bool = False) -> tag_key_store.Alive:
        """Have no worker accept a tag key any more; return what becomes unusable.

        Raises FailedPrecondition for the one that mints, for one that may still be minted
        under, and, unless forced, while what was minted under it is alive.
        """
        async with self._database.connection() as connection:
            alive = (await tag_key_store.count_alive(connection)).get(tag_key_id, tag_key_store.Alive(0, 0))
        async with self._barrier.change(BOOTSTRAP, done="retired") as change:
            known = {key.tag_key_id: key for key in await tag_key_store.lock(change.connection)}
            _refuse_to_retire(tag_key_id, known)
            if any(alive) and not force:
                raise FailedPrecondition(
                    f"up to {alive.keys} keys and {alive.sessions} sessions that are alive were minted under "
                    f"tag key {tag_key_id}; their strings would become NOT_FOUND, for good. Rotate those "
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
                f"tag key {tag_key_id} is the one that mints; rotate first, then retire it",
                reason="TAG_KEY_MINTS",
            )
        case TagKey(state=TagKeyState.ACCEPTED, rest_time=None):
            raise FailedPrecondition(
                f"some workers may still mint under tag key {tag_key_id}, since the last rotation was not "
                "finished; rotate, which finishes it, then retire",
                reason="TAG_KEY_MINTS",
            )
