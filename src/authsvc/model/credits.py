"""Credits: how many units a key may take in all, until they are refilled.

A refill sets what remains to an amount, at 00:00 UTC on a day of each month. What was left before is not
carried over.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Self

from authsvc.model.errors import FieldViolation, InvalidArgument

_REFILL = re.compile(r"([0-9]{1,13}) ?@ ?([0-9]{1,2})", re.ASCII)


class Refill(NamedTuple):
    """`amount` credits on a day of each month, or on the last day of a month that is shorter."""

    amount: int
    day_of_month: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the refill in a text such as `1000@1`, its amount and the day; None if it is none."""
        found = _REFILL.fullmatch(text.strip())
        return None if found is None else cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Credits:
    """The credits of a key. `remaining` is without those that workers have borrowed and not used yet.

    As a change, `remaining` is None to keep what remains. `refill_time` is the next refill, which only the
    database sets.
    """

    remaining: int | None
    refill: Refill | None = None
    refill_time: datetime | None = field(default=None, compare=False)

    def for_new(self, path: str) -> Self:
        """Return the credits of a key that had none: by default, as many as a refill gives.

        Raises InvalidArgument, for the field `path`, if neither is known.
        """
        if self.remaining is not None:
            return self
        if self.refill is None:
            problem = "is required without a refill; set it to the number of credits that the key starts with"
            raise InvalidArgument(FieldViolation(f"{path}.remaining", "credits.remaining", problem))
        return type(self)(self.refill.amount, self.refill)

    def over(self, before: "Credits | None", path: str) -> "Credits":
        """Return these as a change of earlier ones. Raises what `for_new` raises."""
        if self.remaining is not None or before is None:
            return self.for_new(path)
        return Credits(before.remaining, self.refill, before.refill_time)

    def __str__(self) -> str:
        text = str(self.remaining)
        if self.refill is None:
            return text
        return f"{text}, refilled to {self.refill.amount} on day {self.refill.day_of_month}"


def gives_more(before: Credits | None, after: Credits | None) -> bool:
    """Return whether a key may take more units with some credits than with earlier ones. None: no bound."""
    if before is None or after is None:
        return before is not None
    if (after.remaining or 0) > (before.remaining or 0):
        return True
    if after.refill is None:
        return False
    # Another day may be an earlier one.
    return before.refill is None or after.refill != before.refill._replace(
        amount=min(before.refill.amount, after.refill.amount)
    )
