"""What each owner has in the prefix cache: its entries, in the order of their arrival, and their weight."""

from collections import OrderedDict

from authsvc.verify.entry import Entry


class _Holding(OrderedDict[str, Entry]):
    """Two entries of an owner, or more, by their prefixes."""

    __slots__ = ("weight",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = 0


class Holdings:
    """The entries of each owner. Most owners have one, and a table for each would be half an entry."""

    def __init__(self) -> None:
        self._holdings: dict[str, Entry | _Holding] = {}

    def __len__(self) -> int:
        return len(self._holdings)

    def of(self, owner_id: str) -> list[Entry]:
        """Return the entries of an owner."""
        held = self._holdings.get(owner_id)
        if held is None:
            return []
        return [held] if isinstance(held, Entry) else list(held.values())

    def order(self, owner_id: str) -> "OrderedDict[str, Entry]":
        """Return the entries of an owner by prefix, the oldest first; the caller may reorder them."""
        held = self._holdings[owner_id]
        return OrderedDict({held.prefix: held}) if isinstance(held, Entry) else held

    def weight(self, owner_id: str) -> int:
        """Return the weight of all entries of an owner."""
        held = self._holdings.get(owner_id)
        return 0 if held is None else held.weight

    def add(self, entry: Entry) -> None:
        """Take an entry, whose prefix has none."""
        owner_id = entry.owner_id
        held = self._holdings.setdefault(owner_id, entry)
        if held is entry:
            return
        if isinstance(held, Entry):
            first, held = held, _Holding()
            held[first.prefix], held.weight = first, first.weight
            self._holdings[owner_id] = held
        held[entry.prefix] = entry
        held.weight += entry.weight

    def remove(self, entry: Entry) -> None:
        """Give up an entry that was taken."""
        held = self._holdings[entry.owner_id]
        if isinstance(held, _Holding):
            del held[entry.prefix]
            held.weight -= entry.weight
        if held is entry or not held:
            del self._holdings[entry.owner_id]

    def clear(self) -> None:
        """Give up all."""
        self._holdings.clear()
