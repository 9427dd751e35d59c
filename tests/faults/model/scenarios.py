"""The bounds within which the protocol is explored, and variants of the protocol.

Every scenario is exhaustive within its bounds. If one bound is small, it is larger in another
scenario: together they have both nodes, all faults and all rules, but
not every combination in one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.model.explore import Changed
from tests.faults.model.protocol import (
    Model,
    State,
    dead_though_alive,
    new_key_not_found,
    stale_under_lease,
    valid_after_ok,
)

ONE = Model("one node, reaper", lease=2, beats=2)
RETRY = Model("failover, retry", lease=1, failover=True, attempts=2)
FOREIGN = Model("failover, foreign entry", lease=1, failover=True, foreign=1)
REAPER = Model("failover, reaper", lease=1, failover=True, beats=2, swift=True)
CREATION = Model("failover, creation", lease=2, failover=True, attempts=1, creation=True)

# The minimum number of states of each scenario: fewer mean that a step does not happen any more.
FLOORS = {ONE: 50_000, RETRY: 100_000, FOREIGN: 250_000, REAPER: 250_000}


@dataclass(frozen=True)
class Variant(Changed[State]):
    """A variant of the protocol; it answers VALID after OK unless another violation is named."""

    violated: Callable[[State], bool] = valid_after_ok


# Each has a counterexample. The first thirteen are the list of the design.
MUTANTS = {
    "lease-from-reply": Variant(ONE, "R2: the lease counts from the reply"),
    "register-while-granting": Variant(ONE, "R1: the renewal itself inserts the row"),
    "renew-unregistered": Variant(ONE, "R2: the renewal does not ask for the row"),
    "list-before-commit": Variant(ONE, "R6: the list is read before the commit"),
    "wait-from-begin": Variant(ONE, "R6: the wait counts from BEGIN"),
    "renew-asynchronously": Variant(RETRY, "R2: an unacknowledged renewal counts"),
    "no-nonce": Variant(FOREIGN, "R2, R3: the log is compared by seq only"),
    "no-tombstones": Variant(ONE, "R3: applying does not detach fills under way"),
    "no-fill-check": Variant(RETRY, "R5: a fill's head is not checked at all"),
    "reap-early": Variant(ONE, "R8: the reaper waits for less than a lease"),
    "reap-without-beat": Variant(ONE, "R8: the reaper deletes whatever the beat is by then"),
    "no-wait": Variant(ONE, "R6: the revoker does not wait for silent workers"),
    "retry-ok-at-once": Variant(RETRY, "R7: 'already revoked' is answered OK at once"),
    "retry-without-write": Variant(RETRY, "R7: 'already revoked' waits, but writes nothing"),
    "no-margin": Variant(ONE, "A1, R6: the revoker's wait has no margin for slow clocks"),
    "same-id": Variant(ONE, "R2: the worker registers again under its old id"),
    "drop-keeps-memory": Variant(ONE, "R2: the memory outlives the chain"),
    "acknowledge-before-applying": Variant(ONE, "R2: the renewal acknowledges what it is about to fetch"),
    "lease-checked-first": Variant(FOREIGN, "R4: the lease is checked before the fill, not after"),
    "record-not-checked-last": Variant(ONE, "R4: a record that was dropped meanwhile is answered with"),
    "evicted-record-answers": Variant(ONE, "R4: an evicted record is answered with, and no drop reaches it"),
    "fill-without-start": Variant(RETRY, "R5: F >= A0 is not asked for"),
    "fill-without-chain": Variant(FOREIGN, "R5: F >= A0 is enough, the chain is not asked"),
    "list-anywhere": Variant(RETRY, "R6: the list is read at a node that may lack the revocation"),
    "place-without-nonce": Variant(RETRY, "R6: the revoker takes the end of the feed for its own place"),
    "reap-across-nodes": Variant(REAPER, "R8: the beat is seen at one node, the row deleted at another"),
    "leave-before-stopping": Variant(ONE, "R8: the row goes before the last answer"),
}

# The same fills also refuse a living key: for this, the worker must follow the primary's log by then.
BURIALS = {
    name: Variant(RETRY, "R5: a revocation that failover undid is read, and kept", dead_though_alive)
    for name in ("no-fill-check", "fill-without-chain")
}

# Rules that could be dropped: exploration finds no violation without them.
SPARE = {
    "drop-keeps-fills": Variant(ONE, "R5: dropping the chain does not detach fills; the chain bars them"),
}

# What the protocol does not guarantee, and the shortest way to it.
LIMITS = {
    "new-key-forgotten": Variant(
        CREATION, "NOT_FOUND, read at the old primary, is kept for a living key", dead_though_alive
    ),
    "new-key-not-found": Variant(
        CREATION, "NOT_FOUND, read at the old primary, for a living key", new_key_not_found
    ),
}

# What would remove a limit.
AMENDMENTS = {
    "timeline": Variant(
        CREATION,
        "a fill's timeline must be the lease's; a new timeline empties the memory",
        dead_though_alive,
    ),
    "confirm": Variant(
        CREATION, "NOT_FOUND needs a synchronous write at the same node after it", new_key_not_found
    ),
}


def any_violation(state: State) -> bool:
    """Return whether a state violates the properties of the true protocol."""
    return valid_after_ok(state) or stale_under_lease(state) or dead_though_alive(state)
