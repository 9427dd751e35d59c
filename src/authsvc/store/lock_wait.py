"""How long a transaction waits for locks, and holds its own."""

from enum import Enum

# How long it waits for one lock, by `LockWait`.
_LOCK_TIMEOUT_MS, _OWNER_LOCK_TIMEOUT_MS, _SHORT_LOCK_TIMEOUT_MS = 2000, 4500, 200
# A transaction whose client was cut off ends before callers that wait for its locks give up.
_MAX_IDLE_MS = 3000


class LockWait(Enum):
    """How long a transaction waits for a lock."""

    USUAL = "usual"
    #: A change of a whole owner waits longer than the transactions that it waits for.
    OWNER = "owner"
    #: Where a wait for the locks of one owner would delay others.
    SHORT = "short"


def bounds(lock_wait: LockWait = LockWait.USUAL) -> str:
    """Return the statements that bound a transaction that has begun, for itself only."""
    lock_timeout_ms = {
        LockWait.USUAL: _LOCK_TIMEOUT_MS,
        LockWait.OWNER: _OWNER_LOCK_TIMEOUT_MS,
        LockWait.SHORT: _SHORT_LOCK_TIMEOUT_MS,
    }[lock_wait]
    return (
        f"SET LOCAL idle_in_transaction_session_timeout = {_MAX_IDLE_MS}; "
        f"SET LOCAL lock_timeout = {lock_timeout_ms}; "
        # Also behind a pooler, where no setting of the session is ours.
        "SET LOCAL synchronous_commit = on"
    )
