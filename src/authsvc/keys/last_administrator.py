"""The last administrator key: no change ends it unless the request says so.

An administrator key is one of the platform's owner with full access. Without any that works, nobody can
make another over the API. One that is scheduled to be revoked does not count as left; one that will expire
does. One whose key string reached nobody, as far as is known, does not count as left. It is still not ended
without a word, since the service can be wrong about that.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from authsvc.keys.naming import key_metadata
from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.errors import FailedPrecondition
from authsvc.model.key import Key, KeyState
from authsvc.model.scope import FULL_ACCESS
from authsvc.store import keys as key_store
from authsvc.store.policies import lock_count
from authsvc.store.pool import Connection


async def refuse_to_end_last(
    connection: Connection, ended: Iterable[Key], clock: Callable[[], datetime], *, allowed: bool
) -> None:
    """Refuse to end these keys, which are locked, if no other administrator key is left.

    Of two transactions that end the last two, the second one waits here, and is refused.
    """
    now = clock()
    ids = [key.key_id for key in ended if _is_administrator(key, now)]
    if not ids or allowed:
        return
    await lock_count(connection, PLATFORM_OWNER)
    if not await key_store.has_lasting_key(connection, PLATFORM_OWNER, FULL_ACCESS, clock(), excluding=ids):
        raise _last(**key_metadata(ids))


async def refuse_to_end_all(
    connection: Connection, owner_id: str, clock: Callable[[], datetime], *, allowed: bool
) -> None:
    """Refuse to end all keys of a locked owner if administrator keys are among them."""
    if owner_id != PLATFORM_OWNER or allowed:
        return
    if await key_store.has_active_owner_key(connection, owner_id, FULL_ACCESS, clock()):
        raise _last(owner_id=owner_id)


def _is_administrator(key: Key, now: datetime) -> bool:
    is_ours = key.owner_id == PLATFORM_OWNER and FULL_ACCESS in key.scopes
    return is_ours and key.state(now) is KeyState.ACTIVE


def _last(**metadata: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"no key of the owner {PLATFORM_OWNER!r} with {FULL_ACCESS} would be left that works. Create "
        "another one first; or set allow_last_administrator, after which only `authsvc bootstrap` makes one",
        reason="LAST_ADMINISTRATOR_KEY",
        **metadata,
    )
