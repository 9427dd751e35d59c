"""A page of a list, which an answer shows as far as there is room for it (AIP-158)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Items that follow each other in a list, and whether there are `more` after them.

    `seal` returns the token of the page that begins after an item.
    """

    items: Sequence[Item]
    more: bool
    seal: Callable[[Item], str]

    def token_after(self, shown: int) -> str:
        """Return the token of the page after the first `shown` items; "" if nothing follows them."""
        if shown == len(self.items) and not self.more:
            return ""
        return self.seal(self.items[shown - 1])
