"""The scenarios of a replica, and its rules left out."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.model.explore import Changed
from tests.faults.model.replica import Model, State

ONE = Model("one follower")
SUCCESSOR = Model("a follower and its successor", successor=True)
AGAIN = Model("a follower that registers again", again=True)

# The minimum number of states of each scenario: fewer mean that a step does not happen any more.
FLOORS = {ONE: 12_000, SUCCESSOR: 70_000, AGAIN: 95_000}


def any_violation(state: State) -> bool:
    """Return whether a key was accepted after its revocation had been answered."""
    return state.accepted


@dataclass(frozen=True)
class Variant(Changed[State]):
    """A variant of the rules."""

    violated: Callable[[State], bool] = any_violation


MUTANTS = {
    "acknowledge-unconfirmed": Variant(ONE, "R10: an entry is acknowledged when it was sent"),
    "hung-counts-as-dead": Variant(ONE, "R10: a worker that does not confirm is not waited for"),
    "grant-before-entries": Variant(ONE, "R10: the lease is sent before the entries of its renewal"),
    "hint-acknowledged-early": Variant(ONE, "R3: a hinted entry is acknowledged before it was forgotten"),
    "newcomer-without-hint": Variant(ONE, "R10: a worker that attaches is not told of the hint"),
    "closed-before-the-lease": Variant(ONE, "R10: a worker closes its channel while it has a lease"),
    "no-catch-up": Variant(SUCCESSOR, "R11: a worker goes on where the successor is, with its old memory"),
    "removed-at-once": Variant(SUCCESSOR, "R11: the successor removes the old registration when it starts"),
    "read-takes-hint-back": Variant(
        ONE, "R3: a read, which may be from a node that is behind, undoes a hint"
    ),
    "former-removed-at-once": Variant(AGAIN, "R11: a follower removes its former registration at once"),
    "removed-when-attached": Variant(SUCCESSOR, "R11: it is removed when the worker attaches"),
}

SPARE = {
    "grant-unconfirmed": Variant(
        SUCCESSOR,
        "R10: a lease follows entries that are not confirmed yet",
    ),
    "start-without-drop": Variant(AGAIN, "R11: a worker that starts anew keeps its lease until the next one"),
}
