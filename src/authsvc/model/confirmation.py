"""What a change of a call waited for, as the answer and the audit log say it."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Recorded(NamedTuple):
    """An event that a call has recorded in the audit log of an owner."""

    event_id: str
    target_id: str
    owner_id: str


class Ended(NamedTuple):
    """How many keys and sessions were revoked with a key, besides the key itself."""

    keys: int
    sessions: int


@dataclass(slots=True, eq=False)
class Confirmation:
    """What the changes of one call waited for. Filled while the call goes on."""

    # The events of the change that is under way or was made.
    recorded: list[Recorded] = field(default_factory=list)
    # How many clients held credentials when the change was committed; None if that is not known.
    holders: int | None = None
    # How long the call waited after the commit; None if it did not.
    seconds: float | None = None
    # How many registrations of workers had not confirmed when it stopped waiting.
    unconfirmed: int = 0
    # How many registrations of workers there were; None if that is not known.
    workers: int | None = None
    # The registrations that were last to confirm, or have not confirmed; none if all had at the first look.
    last: tuple[str, ...] = ()
    # What a cascade has ended; None for any other change.
    ended: Ended | None = None

    def begin(self) -> None:
        """Forget what was tried before and not committed."""
        self.recorded.clear()

    def note_workers(self, workers: int, last: tuple[str, ...]) -> None:
        """Note how many workers a wait is for, and which are behind."""
        self.workers, self.last = workers, last or self.last

    def note(self, holders: int | None, seconds: float, unconfirmed: int) -> None:
        """Note the end of a wait. A call may wait several times."""
        self.holders = holders if self.holders is None else max(self.holders, holders or 0)
        self.seconds = seconds + (self.seconds or 0.0)
        self.unconfirmed = max(self.unconfirmed, unconfirmed)
