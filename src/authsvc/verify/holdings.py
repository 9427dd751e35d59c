"""The entries of each owner in the prefix cache, in the order of their arrival, and their weight."""

from collections import OrderedDict
from collections.abc import Mapping

from authsvc.verify.entry import Entry


class _Holding(OrderedDict[str, Entry]):
    """The entries of an owner with more than one, by prefix."""

    __slots__ = ("weight",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = 0


class Holdings:
    """The prefixes of each owner.

    Most owners have one entry, which is kept as its prefix alone: a table for each owner would take half as
    much memory as an entry.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        """`entries` has all entries by prefix, those that are added here included."""
        self._entries = entries
        self._holdings: dict[str, str | _Holding] = {}

    def __len__(self) -> int:
        return len(self._holdings)

    def of(self, owner_id: str) -> list[str]:
        """Return the prefixes of an owner."""
        held = self._holdings.get(owner_id, ())
        return [held] if isinstance(held, str) else list(held)

    def order(self, owner_id: str) -> "OrderedDict[str, Entry]":
        """Return the entries of an owner by prefix, the oldest first; the caller may reorder them."""
        held = self._holdings[owner_id]
        return OrderedDict({held: self._entries[held]}) if isinstance(held, str) else held

    def weight(self, owner_id: str) -> int:
        """Return the weight of all entries of an owner."""
        held = self._holdings.get(owner_id)
        if held is None:
            return 0
        return self._entries[held].weight if isinstance(held, str) else held.weight

    def add(self, prefix: str, entry: Entry) -> None:
        """Add an entry; its prefix must have none."""
        owner_id = entry.owner_id
        held = self._holdings.setdefault(owner_id, prefix)
        if held is prefix:
            return
        if isinstance(held, str):
            first, held = held, _Holding()
            held[first] = self._entries[first]
            held.weight = held[first].weight
            self._holdings[owner_id] = held
        held[prefix] = entry
        held.weight += entry.weight

    def remove(self, prefix: str, entry: Entry) -> None:
        """Remove an entry that was added."""
        held = self._holdings[entry.owner_id]
        if isinstance(held, _Holding):
            del held[prefix]
            held.weight -= entry.weight
            if held:
                return
        del self._holdings[entry.owner_id]

    def clear(self) -> None:
        """Remove all entries."""
        self._holdings.clear()
