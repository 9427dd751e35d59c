"""The scenarios of a replica, and its rules left out."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.model.explore import Changed
from tests.faults.model.replica import Model, State

ONE = Model("one follower")
SUCCESSOR = Model("a follower and its successor", successor=True)

# The minimum number of states of each scenario: fewer mean that a step does not happen any more.
FLOORS = {ONE: 8_000, SUCCESSOR: 50_000}


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
    "removed-when-attached": Variant(SUCCESSOR, "R11: it is removed when the worker attaches"),
}

SPARE = {
    "grant-unconfirmed": Variant(
        SUCCESSOR,
        "R10: a lease follows entries that are not confirmed yet",
    ),
}
