"""A string that others could read, and where it was found."""

from dataclasses import dataclass, field
from typing import Self

from authsvc.model.key_string import redact
from authsvc.model.text import cleaned, faults, kept

MAX_PLACE_LENGTH = 400
# What is looked at of a place: a text may get shorter when it is cleaned.
_MAX_GIVEN_LENGTH = 4 * MAX_PLACE_LENGTH


@dataclass(frozen=True, slots=True)
class Leak:
    """What somebody has found. `place` is a text that may be kept and shown: see `of`."""

    text: str = field(repr=False)
    place: str

    @classmethod
    def of(cls, text: str, place: str) -> Self:
        """Return a leak as it was reported."""
        return cls(text.strip(), shown_place(place))

    @property
    def reason(self) -> str:
        """Why what has leaked is revoked, for people."""
        return f"leaked: {self.place}" if self.place else "leaked"


def shown_place(place: str) -> str:
    """Return a place as it may be kept: its beginning, in one line, without the secrets of key strings."""
    place = place[:_MAX_GIVEN_LENGTH]
    wrong = set(faults(place))
    # A line break or an invisible character can split a secret.
    joined = "".join(character for index, character in enumerate(place) if index not in wrong)
    text = cleaned(place) if redact(joined) == joined else joined
    return redact(kept(text))[:MAX_PLACE_LENGTH].rstrip()
