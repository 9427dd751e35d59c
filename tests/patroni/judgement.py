"""What was acknowledged to clients, compared with what the database has at the end, and with all verdicts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.faults.history import KILLING, Ending, History, Operation, Outcome, Verification, Violation

# Verdicts that are given only if the key is considered alive.
_ALIVE = (Outcome.VALID, Outcome.INSUFFICIENT_SCOPE)


@dataclass
class Judgement:
    """Acknowledged creations that are lost, revocations that are undone, and verdicts that are wrong."""

    lost: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    #: Verdicts by which a key was accepted after its revocation had been acknowledged.
    accepted: list[str] = field(default_factory=list)
    #: All other verdicts that break a guarantee, such as an active key that is refused.
    others: list[str] = field(default_factory=list)


def judge(history: History, created: Iterable[str], revoked: Mapping[str, bool]) -> Judgement:
    """Compare what clients were told with the database, in which each key is revoked or not."""
    kills = [change for change in history.changes if change.operation in KILLING]
    killed = {change.key for change in kills if change.ending in (Ending.OK, Ending.ALREADY)}
    may_be_revoked = {change.key for change in kills}
    may_be_gone = {change.key for change in kills if change.operation is Operation.DELETE}
    found = Judgement()
    for key in created:
        if key not in revoked:
            found.lost |= {key} - may_be_gone
        elif revoked[key]:
            # Nobody has asked for it: what the client was told of this key is not what is there.
            found.lost |= {key} - may_be_revoked
    found.undone = {key for key in killed if not revoked.get(key, True)}
    for violation in history.violations():
        seen = violation.event if isinstance(violation, Violation) else None
        is_accepted = isinstance(seen, Verification) and seen.outcome in _ALIVE and seen.key in killed
        (found.accepted if is_accepted else found.others).append(str(violation))
    return found
