"""Protects the last administrator key: a change ends it only if the request allows that.

An administrator key is a key of the platform's owner with full access. Without an active one, nobody can
create another through the API. The key that is left must not be scheduled for revocation, and its key string
must have been delivered, as far as is known. It must not be confined to networks either, which may be those
of nobody. It may have an expiry. A key whose string was not delivered is protected nevertheless, since the
service may be wrong about the delivery.
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
    """Raise FailedPrecondition (LAST_ADMINISTRATOR_KEY) if no other administrator key would be left.

    The keys are locked. Of two transactions that end the last two keys, the second waits here and is refused.
    """
    now = clock()
    ids = [key.key_id for key in ended if is_administrator(key, now)]
    if not ids or allowed:
        return
    await lock_count(connection, PLATFORM_OWNER)
    if not await key_store.has_lasting_key(connection, PLATFORM_OWNER, FULL_ACCESS, clock(), excluding=ids):
        raise _last_administrator(**key_metadata(ids))


async def refuse_to_end_all(
    connection: Connection, owner_id: str, clock: Callable[[], datetime], *, allowed: bool
) -> None:
    """Raise FailedPrecondition (LAST_ADMINISTRATOR_KEY) if an active administrator key is among the owner's.

    The owner is locked.
    """
    if owner_id != PLATFORM_OWNER or allowed:
        return
    if await key_store.has_active_owner_key(connection, owner_id, FULL_ACCESS, clock()):
        raise _last_administrator(owner_id=owner_id)


def is_administrator(key: Key, now: datetime) -> bool:
    """Return whether this is an active administrator key."""
    has_full_access = key.owner_id == PLATFORM_OWNER and FULL_ACCESS in key.scopes
    return has_full_access and key.state(now) is KeyState.ACTIVE


def _last_administrator(**metadata: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"this would end the last active key of the owner {PLATFORM_OWNER!r} with {FULL_ACCESS}. Create "
        "another one first, or set allow_last_administrator; then only `authsvc bootstrap` can create one",
        reason="LAST_ADMINISTRATOR_KEY",
        **metadata,
    )
