"""A filter that knows of a text whether it may have been added: a Bloom filter (Bloom 1970).

Mechanism: layers of bits, each twice as large as the one before. A text sets `_PROBES` bits, which its hash
chooses. The hash is Python's own (SipHash), under a key that this process has drawn, so nobody outside can
choose texts that fall together.

Bound: 32 bits for each text, at most twice that while a layer fills: 4 to 8 MB for a million. Of texts that
were never added, one in 100,000 is taken for added in a full layer.

Failure: what was added is never denied. What is not there any more stays.
"""

from collections.abc import Iterable

_BITS_PER_TEXT = 32
_PROBES = 8
_MIN_CAPACITY = 1 << 12


class _Layer:
    __slots__ = ("_bits", "_mask", "left")

    def __init__(self, capacity: int) -> None:
        size = 1 << (capacity * _BITS_PER_TEXT - 1).bit_length()
        self._bits = bytearray(size // 8)
        self._mask = size - 1
        self.left = size // _BITS_PER_TEXT

    def add(self, start: int, step: int) -> None:
        bits, mask = self._bits, self._mask
        for _ in range(_PROBES):
            place = start & mask
            bits[place >> 3] |= 1 << (place & 7)
            start += step
        self.left -= 1

    def has(self, start: int, step: int) -> bool:
        bits, mask = self._bits, self._mask
        for _ in range(_PROBES):
            place = start & mask
            if not bits[place >> 3] & 1 << (place & 7):
                return False
            start += step
        return True

    @property
    def size(self) -> int:
        return len(self._bits)


class LookUpFilter:
    """The texts that were added, more or less."""

    def __init__(self) -> None:
        self._layers: list[_Layer] = []
        self._count = 0

    def __len__(self) -> int:
        """Return how many texts were added."""
        return self._count

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes."""
        return sum(layer.size for layer in self._layers)

    def __contains__(self, text: str) -> bool:
        """Return True for each text that was added, and for few others."""
        start, step = _places(text)
        return any(layer.has(start, step) for layer in self._layers)

    def add(self, texts: Iterable[str]) -> int:
        """Add texts; return how many of them were new."""
        before = self._count
        for text in texts:
            start, step = _places(text)
            if any(layer.has(start, step) for layer in self._layers):
                continue
            if not self._layers or not self._layers[-1].left:
                self._layers.append(_Layer(max(_MIN_CAPACITY, 2 * self._count)))
            self._layers[-1].add(start, step)
            self._count += 1
        return self._count - before


def _places(text: str) -> tuple[int, int]:
    """Return where the bits of a text begin, and how far apart they are (Kirsch and Mitzenmacher 2006)."""
    hashed = hash(text) & 0xFFFF_FFFF_FFFF_FFFF
    return hashed, (hash((hashed, _PROBES)) & 0xFFFF_FFFF_FFFF_FFFF) | 1
