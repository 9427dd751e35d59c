"""The places in the feed that were applied: a history, which tells this feed from another one."""

from uuid import UUID

from authsvc.model.feed import Place

# How many entries are known by their nonce.
_MAX_PLACES = 10_000


class History:
    """The latest places, in order, up to `_MAX_PLACES`."""

    def __init__(self) -> None:
        self._nonces: dict[int, UUID] = {}

    def __contains__(self, place: Place) -> bool:
        return self._nonces.get(place.seq) == place.nonce

    def __len__(self) -> int:
        return len(self._nonces)

    def add(self, place: Place) -> None:
        """Add the next place."""
        self._nonces[place.seq] = place.nonce
        if len(self._nonces) > _MAX_PLACES:
            del self._nonces[next(iter(self._nonces))]

    def at(self, seq: int) -> Place | None:
        """Return the place with a number, if it is known."""
        nonce = self._nonces.get(seq)
        return None if nonce is None else Place(seq, nonce)

    def clear(self) -> None:
        """Forget all."""
        self._nonces = {}
