"""A filter that knows of a text whether it may have been added: a Bloom filter (Bloom 1970).

Mechanism: a layer of bits for what is known at first, and another one, four times as large, each time that
the last one is full. A text sets `_PROBES` bits, which its hash chooses. The hash is Python's own (SipHash),
under a key that this process has drawn, so nobody outside can choose texts that fall together.

Bound: 80 bits for each text that is known at first, rounded up to a power of two: 10 to 20 MB for a million.
Of texts that were never added, one in two million is taken for added by a full layer.

Failure: what was added is never denied. What is not there any more stays.
"""

from collections.abc import Iterable

# Of a full layer.
_BITS_PER_TEXT = 64
_PROBES = 6
_MIN_CAPACITY = 1 << 12
_GROWTH = 4


class LookUpFilter:
    """The texts that were added, more or less."""

    def __init__(self, expected: int = 0) -> None:
        """Take how many texts are added at first."""
        # The bits of each layer, and the mask that makes a number a place among them; the newest first.
        self._layers: list[tuple[bytearray, int]] = []
        self._expected = expected + expected // 4
        self._room = 0  # in the newest layer
        self._count = 0

    def __len__(self) -> int:
        """Return how many texts were added."""
        return self._count

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes."""
        return sum(len(bits) for bits, _ in self._layers)

    def __contains__(self, text: str) -> bool:
        """Return True for each text that was added, and for few others. The hot path of made-up strings."""
        start = hash(text)
        for bits, mask in self._layers:
            place = start & mask
            # Most texts that were not added are told by one bit.
            if bits[place >> 3] & 1 << (place & 7) and _has(bits, mask, start):
                return True
        return False

    def add(self, texts: Iterable[str]) -> int:
        """Add texts; return how many of them were new."""
        before = self._count
        for text in texts:
            if text not in self:
                self.add_hashes((hash(text),))
        return self._count - before

    def add_hashes(self, hashes: Iterable[int]) -> None:
        """Add texts by their hashes, which were not added before."""
        for start in hashes:
            if not self._room:
                self._grow()
            bits, mask = self._layers[0]
            step = _step(start)
            place = start & mask
            for _ in range(_PROBES):
                bits[place >> 3] |= 1 << (place & 7)
                place = place + step & mask
            self._room -= 1
            self._count += 1

    def _grow(self) -> None:
        wanted = max(_MIN_CAPACITY, self._expected, _GROWTH * self._count)
        size = 1 << (wanted * _BITS_PER_TEXT - 1).bit_length()
        self._layers.insert(0, (bytearray(size // 8), size - 1))
        self._room = size // _BITS_PER_TEXT


def _has(bits: bytearray, mask: int, start: int) -> bool:
    step = _step(start)
    place = start & mask
    for _ in range(_PROBES):
        if not bits[place >> 3] & 1 << (place & 7):
            return False
        place = place + step & mask
    return True


def _step(start: int) -> int:
    """Return how far apart the bits of a text are (Kirsch and Mitzenmacher 2006)."""
    return hash((start, _PROBES)) | 1
