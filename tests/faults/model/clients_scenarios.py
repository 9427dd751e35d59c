"""The scenarios of clients that answer from memory, and their rules left out.

Every scenario is exhaustive within its bounds: one client, one key, a sub-lease of one tick and a lease of
three. Together they have all faults and all rules, but not every combination in one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.model.clients import Model, State, is_committed, is_late
from tests.faults.model.explore import Changed

ONE = Model("a client of one worker", evicts=True, loses=True, leaves=True)
BOUNDED = Model("the same, and its time", loses=True, leaves=True, bounded=True)
RELEASES = Model("a client that drops the key", releases=True)
ENDS = Model("a worker that ends, twice", ends=2)
STOPS = Model("a worker that stops", ends=1, stops=True)
TWO = Model("a client of two workers", workers=2, one_by_one=True)
AGAIN = Model("a client, a new registration", again=True, ends=1, moves=False, one_by_one=True)
SUCCESSOR = Model("a client, a new follower", successor=True, ends=1, moves=False, one_by_one=True)
LONE = Model("a client of a lone worker", successor=True, lone=True, ends=1, one_by_one=True)

# The minimum number of states of each scenario: fewer mean that a step does not happen any more.
FLOORS = {
    ONE: 20_000,
    BOUNDED: 20_000,
    RELEASES: 20_000,
    ENDS: 100_000,
    STOPS: 100_000,
    TWO: 250_000,
    AGAIN: 250_000,
    SUCCESSOR: 400_000,
    LONE: 25_000,
}


def accepted(state: State) -> bool:
    """Return whether a client accepted the key after its revocation had been answered."""
    return state.accepted


def any_violation(state: State) -> bool:
    """Return whether a client accepted the key after OK, or was waited for too long."""
    return accepted(state) or is_late(state)


def accepts(state: State) -> bool:
    """Return whether a client accepts the living key."""
    return not is_committed(state) and state.client.memory and bool(state.client.lease)


@dataclass(frozen=True)
class Variant(Changed[State]):
    """A variant of the rules; a client accepts the key after OK unless another violation is named."""

    violated: Callable[[State], bool] = accepted


# Each has a counterexample.
MUTANTS = {
    "joined-with-memory": Variant(TWO, "R12: a client that joins another worker keeps its memory"),
    "joined-again-with-memory": Variant(ONE, "R12: a client that joins again keeps its memory"),
    "joined-with-lease": Variant(TWO, "R12: a client that joins another worker keeps its sub-lease"),
    "joined-again-with-lease": Variant(ONE, "R12: a client that joins again keeps its sub-lease"),
    "held-after-a-wait": Variant(ONE, "R12: the worker sends a key that it read before it waited"),
    "noted-after-a-wait": Variant(ONE, "R12: the worker notes later that the client holds the key"),
    "key-overtaken": Variant(ONE, "R12: the client handles a key after what follows it on the stream"),
    "released-while-asking": Variant(
        RELEASES, "R12: the client says that it dropped a key it asked for again"
    ),
    "left-with-lease": Variant(ONE, "R12: a client that leaves keeps its sub-lease and its memory"),
    "counted-from-the-answer": Variant(ONE, "R13: the client counts its sub-lease from the answer"),
    "counted-from-another-request": Variant(ONE, "R13: it counts the sub-lease from a later request"),
    "granted-without-lease": Variant(ONE, "R13: a worker grants without regard to its own lease"),
    "granted-without-margin": Variant(
        ONE, "R13: a sub-lease ends with the lease of its worker, by its clock"
    ),
    "granted-unconfirmed": Variant(BOUNDED, "R13: a client that does not confirm gets more time", is_late),
    "lease-overtakes": Variant(ONE, "R12, R13: and takes the sub-lease before it has forgotten the key"),
    "noted-without-margin": Variant(ONE, "R13: the worker takes a sub-lease to be over by its own clock"),
    "not-noted-again": Variant(ONE, "R13: the worker counts from the first of two sub-leases"),
    "passed-on-if-remembered": Variant(ONE, "R14: a worker passes on only what was in its own memory"),
    "confirmed-first": Variant(ONE, "R14: a worker confirms before its clients have"),
    "confirmed-on-arrival": Variant(ONE, "R14: a client confirms before it has forgotten the key"),
    "client-keeps-the-key": Variant(ONE, "R14: a client confirms, and forgets nothing"),
    "client-goes-on": Variant(AGAIN, "R14: a client whose worker starts anew goes on"),
    "stream-end-frees": Variant(ONE, "R14: nobody waits for a client whose stream has ended"),
    "D-without-clients": Variant(AGAIN, "R14: a worker that drops its memory does not end its clients"),
    "S-without-clients": Variant(SUCCESSOR, "R14: a worker that starts anew does not end its clients"),
    "granted-before-noted": Variant(ENDS, "R15: a worker grants before it has noted that"),
    "written-in-pieces": Variant(ENDS, "R15: a row that is being written is empty for a moment"),
    "row-goes-with-the-worker": Variant(ENDS, "R15: the row of a worker ends with it"),
    "end-frees": Variant(ENDS, "R15: the end of the channel is the end of everything"),
    "clearing-forgets": Variant(ENDS, "R15: what a dead worker lent is forgotten when its row is cleared"),
    "cleared-first": Variant(ENDS, "R15: a row is cleared before it is added to what was cleared"),
    "cleared-rows-read-first": Variant(
        ENDS, "R15: the follower reads what was cleared before it reads the row"
    ),
    "successor-overwrites": Variant(ENDS, "R15: a successor in the slot takes the row of a living worker"),
    "stop-does-not-wait": Variant(
        STOPS, "R15: a worker that stops notes that no client may answer, too early"
    ),
    "left-with-orphans": Variant(
        STOPS, "R8, R15: a follower that stops deletes its registration while clients may answer"
    ),
    "successor-does-not-read": Variant(LONE, "R15: a new follower does not read what dead workers lent"),
    "not-read-at-the-start": Variant(SUCCESSOR, "R15: it does not read that when it starts"),
    "not-read-again": Variant(SUCCESSOR, "R15: it does not read that again when it finds a process dead"),
    "sub-lease-not-checked": Variant(ONE, "R16: the client answers without a sub-lease"),
    "memory-checked-first": Variant(
        ONE, "R16: the client looks into its memory, waits, and then at its sub-lease"
    ),
    "fork-answers": Variant(ONE, "R16: a fork of the client answers"),
}

# Rules that could be dropped: exploration finds no violation without them.
SPARE = {
    "held-without-lease": Variant(ENDS, "R12: the worker sends a key while it has no lease"),
    "sub-lease-checked-first": Variant(
        ENDS, "R16: the client looks at its sub-lease, waits, and then into its memory"
    ),
}
