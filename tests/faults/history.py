"""What clients observed, and whether it keeps the guarantee. A session is a key here.

The guarantee: a verification that is invoked after a change was answered reflects that change, on
every worker; and a key that is alive is never refused. While a change is in flight, both
answers are right. A change with an unknown outcome may take effect at any time after
its invocation, until another change of the same key is answered.

All times are from one clock, that of the client. An invocation is recorded before the request is sent and
an answer after it has arrived, so "invoked after the answer" is never a false claim.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import NamedTuple, TypeAlias

from tests.faults.caller_history import CallerHistory, LateChange


class Outcome(Enum):
    """The result of a verification."""

    VALID = "VALID"
    NOT_FOUND = "NOT_FOUND"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    DISABLED = "DISABLED"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    UNAVAILABLE = "UNAVAILABLE"  # No verdict: refused for now, or no answer in time.
    UNAUTHENTICATED = "UNAUTHENTICATED"  # The caller's own key, which is always alive here, was refused.


class Operation(Enum):
    """The effect of a change on a key or a session."""

    REVOKE = "RevokeKey"
    ROTATE = "RotateKey"
    BATCH_REVOKE = "BatchRevokeKeys"
    OWNER_REVOKE = "BatchRevokeKeys of the owner"
    LEAK_REPORT = "ReportLeakedKeys"
    SELF_REVOKE = "RevokeSelf"
    CASCADE = "RevokeKey with cascade"
    DELETE = "DeleteKey"
    SESSION_REVOKE = "RevokeSession"
    SESSION_REVOKE_ALL = "RevokeAllSessions"
    TAKE_SCOPE = "UpdateKey that takes the scope"
    GIVE_SCOPE = "UpdateKey that gives the scope"
    DISABLE = "DisableKey"
    ENABLE = "EnableKey"
    CONFINE = "UpdateKey that confines the key to other networks"
    FREE = "UpdateKey that confines the key to none"
    CONFINE_OWNER = "UpdateOwnerPolicy that confines the keys to other networks"
    FREE_OWNER = "UpdateOwnerPolicy that confines the keys to none"


class Ending(Enum):
    """How a change was answered."""

    OK = "OK"
    ALREADY = "ALREADY_REVOKED"  # Equivalent to OK: the key is dead everywhere.
    UNKNOWN = "no answer"  # It may have happened, or may still happen.
    REFUSED = "a refusal"  # It has not happened.


KILLING = frozenset(
    {
        Operation.REVOKE,
        Operation.ROTATE,
        Operation.BATCH_REVOKE,
        Operation.OWNER_REVOKE,
        Operation.LEAK_REPORT,
        Operation.SELF_REVOKE,
        Operation.CASCADE,
        Operation.DELETE,
        Operation.SESSION_REVOKE,
        Operation.SESSION_REVOKE_ALL,
    }
)
# What can be taken from a key and given back, by the changes that do so.
_Switch: TypeAlias = Mapping[Operation, bool]
_SCOPE: _Switch = {Operation.TAKE_SCOPE: False, Operation.GIVE_SCOPE: True}
_PAUSE: _Switch = {Operation.DISABLE: False, Operation.ENABLE: True}
# No key is confined itself while its owner is.
_PLACE: _Switch = {
    Operation.CONFINE: False,
    Operation.FREE: True,
    Operation.CONFINE_OWNER: False,
    Operation.FREE_OWNER: True,
}
_DEAD = frozenset({Outcome.REVOKED, Outcome.NOT_FOUND})
# Verdicts that are given only if the key is considered alive.
_ALIVE = frozenset({Outcome.VALID, Outcome.INSUFFICIENT_SCOPE, Outcome.DISABLED, Outcome.ADDRESS_NOT_ALLOWED})


class Verification(NamedTuple):
    """One verification of a key string; `scoped` if the scope that updates add and remove was required."""

    key: str
    worker: str
    invoked: float
    answered: float
    outcome: Outcome
    scoped: bool = False


class Change(NamedTuple):
    """One change of one key. If it is never answered it is UNKNOWN, and answered at infinity."""

    operation: Operation
    key: str
    worker: str
    invoked: float
    answered: float
    ending: Ending


class Violation(NamedTuple):
    """A verification that breaks the guarantee, as text."""

    event: Verification | Change
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass
class History:
    """What clients observed of one service, in any order. Keys have the scope at first."""

    verifications: list[Verification] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    # The keys that expire; the test checks when.
    mortal: set[str] = field(default_factory=set)
    callers: CallerHistory = field(default_factory=CallerHistory)

    def count(self, outcome: Outcome) -> int:
        """Return how many verifications had this outcome."""
        return sum(seen.outcome is outcome for seen in self.verifications)

    def violations(self) -> list[Violation | LateChange]:
        """Return all violations of the guarantees: by verifications, in order, and then by callers."""
        changes: defaultdict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            changes[change.key].append(change)
        lives = {key: _Life(found) for key, found in changes.items()}
        unchanged = _Life(())
        found = [violation for life in lives.values() for violation in life.strange_endings()]
        for seen in self.verifications:
            if seen.outcome is Outcome.EXPIRED and seen.key in self.mortal:
                continue
            text = lives.get(seen.key, unchanged).fault(seen)
            if text:
                found.append(Violation(seen, f"key {seen.key} {seen.outcome.value} on {seen.worker}{text}"))
        return [*sorted(found, key=lambda violation: violation.event.invoked), *self.callers.violations()]


class _Life:
    """What is known of one key."""

    def __init__(self, changes: Iterable[Change]) -> None:
        happened = [change for change in changes if change.ending is not Ending.REFUSED]
        self._kills = [change for change in happened if change.operation in KILLING]
        deletions = [change for change in self._kills if change.operation is Operation.DELETE]
        self._dead = _first_answered(self._kills)
        self._deleted = _first_answered(deletions)
        self._maybe_dead_at = min((change.invoked for change in self._kills), default=inf)
        self._maybe_deleted_at = min((change.invoked for change in deletions), default=inf)
        self._others = sorted(
            (change for change in happened if change.operation not in KILLING),
            key=lambda change: change.answered,
        )

    def strange_endings(self) -> list[Violation]:
        """Return the changes answered with "already revoked" before any caller can have revoked the key."""
        strange = []
        for change in self._kills:
            if change.ending is Ending.ALREADY and all(
                other.invoked > change.answered for other in self._kills if other is not change
            ):
                text = f"key {change.key} {change.ending.value} on {change.worker}, and nobody had revoked it"
                strange.append(Violation(change, text))
        return strange

    def fault(self, seen: Verification) -> str:
        """Return what is wrong with a verification, or ""."""
        outcome = seen.outcome
        if outcome is Outcome.UNAVAILABLE:
            return ""
        if outcome is Outcome.UNAUTHENTICATED:
            return ", although the caller's key is alive"
        if outcome is Outcome.EXPIRED:
            return ", and it never expires"
        if outcome in _DEAD and seen.answered < self._maybe_dead_at:
            return _before("any revocation was begun", seen, self._maybe_dead_at)
        if outcome is Outcome.NOT_FOUND and seen.answered < self._maybe_deleted_at:
            return _before("any deletion was begun", seen, self._maybe_deleted_at)
        if outcome is Outcome.REVOKED and self._deleted and seen.invoked > self._deleted.answered:
            return _after(self._deleted, seen)
        if outcome not in _ALIVE:
            return ""
        if self._dead and seen.invoked > self._dead.answered:
            return _after(self._dead, seen)
        # In the order of the verdicts: what comes later was not looked at.
        if fault := self._switch_fault(seen, _PAUSE, is_on=outcome is not Outcome.DISABLED):
            return fault
        if outcome is Outcome.DISABLED:
            return ""
        if fault := self._switch_fault(seen, _PLACE, is_on=outcome is not Outcome.ADDRESS_NOT_ALLOWED):
            return fault
        if outcome is Outcome.ADDRESS_NOT_ALLOWED:
            return ""
        if not seen.scoped:
            return "" if outcome is Outcome.VALID else ", and no scope was required"
        return self._switch_fault(seen, _SCOPE, is_on=outcome is Outcome.VALID)

    def _switch_fault(self, seen: Verification, switch: _Switch, *, is_on: bool) -> str:
        """Return what is wrong if a verification has found something given or taken, or ""."""
        changes = [change for change in self._others if change.operation in switch]
        last: Change | None = None
        possible = {True}
        for change in changes:
            gives = switch[change.operation]
            if change.answered < seen.invoked and change.ending is Ending.OK:
                last, possible = change, {gives}
        # Changes in flight since then, and those that were never answered.
        for change in changes:
            if change.invoked < seen.answered and (
                change.ending is not Ending.OK or change.answered >= seen.invoked
            ):
                possible.add(switch[change.operation])
        # Two that overlap may have been carried out in either order.
        if last is not None:
            possible |= {
                switch[change.operation]
                for change in changes
                if change is not last and change.answered > last.invoked and change.invoked < seen.answered
            }
        if is_on in possible:
            return ""
        if last is None:
            return f", and there was no {next(iter(switch)).value}"
        return _after(last, seen)


def _first_answered(changes: Sequence[Change]) -> Change | None:
    answered = [change for change in changes if change.ending in (Ending.OK, Ending.ALREADY)]
    return min(answered, key=lambda change: change.answered, default=None)


def _after(change: Change, seen: Verification) -> str:
    return (
        f", invoked {seen.invoked - change.answered:.3f} s after {change.operation.value}"
        f" answered {change.ending.value} on {change.worker}"
    )


def _before(what: str, seen: Verification, at: float) -> str:
    return f", and answered {at - seen.answered:.3f} s before {what}" if at < inf else f", before {what}"
