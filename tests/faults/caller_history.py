"""What callers did whose authority was revoked, and whether they did it too late.

And what keys had created that were revoked with `cascade`: it is all revoked when that is answered.

The guarantee: a caller's change is committed before the commit that revoked its authority, or not
at all. It is checked in three ways, each of which uses only responses to clients:

- by responses: no call that was invoked after the revocation was answered OK is answered OK itself;
- by lists: the caller has created no more than when the revocation was answered;
- by the audit chain of the owner, whose positions are in commit order: no event of the
  caller follows the event that revoked its authority.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Taking(Enum):
    """A way to revoke the authority of a caller."""

    REVOKED = "RevokeKey"
    ROTATED = "RotateKey"
    REDUCED = "UpdateKey that leaves no scope"
    DISABLED = "DisableKey"
    CASCADED = "RevokeKey with cascade of its creator"
    CONFINED = "UpdateKey that confines the key to other networks"
    OWNER_CONFINED = "UpdateOwnerPolicy that confines keys to other networks"
    OWNER_REVOKED = "BatchRevokeKeys of the owner"
    SWITCHED_OFF = "UpdateOwnerPolicy that switches keys off"
    SESSION_REVOKED = "RevokeSession"
    SESSIONS_REVOKED = "RevokeAllSessions"
    EXPIRED = "its expiry"
    UNLISTED = "the file of callers"


class Taken(NamedTuple):
    """A caller's authority was revoked, and this was answered: it has none from then on."""

    caller: str
    taking: Taking
    worker: str
    invoked: float
    answered: float


class Call(NamedTuple):
    """A call by a caller that was answered OK."""

    caller: str
    method: str
    worker: str
    invoked: float
    answered: float


class Look(NamedTuple):
    """What a caller had created, according to lists that were requested at `invoked`."""

    caller: str
    invoked: float
    made: frozenset[str]


class Cascade(NamedTuple):
    """A key was revoked with all that it created, and this was answered; `alive` is what was valid later."""

    key: str
    worker: str
    answered: float
    alive: frozenset[str]


class Positions(NamedTuple):
    """Positions in the owner's audit chain: of the event that revoked the authority, and of the caller's."""

    caller: str
    taken: int
    done: tuple[int, ...]


class LateChange(NamedTuple):
    """A change that a caller must not have made, as text."""

    caller: str
    text: str
    at: float

    def __str__(self) -> str:
        return f"caller {self.caller}{self.text}"


@dataclass
class CallerHistory:
    """What was observed of callers, in any order."""

    taken: list[Taken] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    # The number of refused calls that were invoked after the caller's authority was revoked.
    refused_after: int = 0
    looks: list[Look] = field(default_factory=list)
    positions: list[Positions] = field(default_factory=list)
    cascades: list[Cascade] = field(default_factory=list)

    def violations(self) -> list[LateChange]:
        """Return all changes that came too late."""
        gone = {taken.caller: taken for taken in sorted(self.taken, key=lambda taken: -taken.answered)}
        return [
            *self._by_answers(gone),
            *self._by_lists(gone),
            *self._by_the_chain(gone),
            *self._by_cascades(),
        ]

    def comparisons(self) -> int:
        """Return how many lists were compared with earlier ones, and how many chains were read."""
        gone = {taken.caller: taken.answered for taken in self.taken}
        asked = [look for look in self.looks if look.caller in gone and look.invoked > gone[look.caller]]
        return len(asked) - len({look.caller for look in asked}) + len(self.positions) + len(self.cascades)

    def _by_answers(self, gone: dict[str, Taken]) -> Iterator[LateChange]:
        for call in self.calls:
            taken = gone.get(call.caller)
            if taken is not None and call.invoked > taken.answered:
                late = f"{call.invoked - taken.answered:.3f} s after {_told(taken)}"
                text = f" was let {call.method} on {call.worker}, invoked {late}"
                yield LateChange(call.caller, text, call.invoked)

    def _by_lists(self, gone: dict[str, Taken]) -> Iterator[LateChange]:
        looks: defaultdict[str, list[Look]] = defaultdict(list)
        for look in self.looks:
            if look.caller in gone and look.invoked > gone[look.caller].answered:
                looks[look.caller].append(look)
        for caller, seen in looks.items():
            first, *later = sorted(seen, key=lambda look: look.invoked)
            for look in later:
                if new := sorted(look.made - first.made):
                    text = f" made {', '.join(new)} and that was not there after {_told(gone[caller])}"
                    yield LateChange(caller, text, look.invoked)

    def _by_the_chain(self, gone: dict[str, Taken]) -> Iterator[LateChange]:
        for caller, taken, done in self.positions:
            if late := [position for position in done if position > taken]:
                text = f" committed events {late}, and {taken} took its authority away"
                yield LateChange(caller, text, gone[caller].invoked if caller in gone else 0.0)

    def _by_cascades(self) -> Iterator[LateChange]:
        for key, worker, answered, alive in self.cascades:
            if alive:
                text = f" created {', '.join(sorted(alive))}, alive after a cascade answered OK on {worker}"
                yield LateChange(key, text, answered)


def _told(taken: Taken) -> str:
    return f"{taken.taking.value} answered OK on {taken.worker}"
