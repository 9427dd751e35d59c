"""Seals key strings to a public key, so that only the holder of its private key can read them.

Mechanism: age, version 1 (age-encryption.org/v1), with one X25519 recipient and the armored format. pyrage
does the cryptography. A recipient that pyrage reads is checked once more here: with a point of low order the
shared secret is zero, so everybody could open the file (pyrage panics), and with another encoding of a point
nobody could, since the identity derives the key from the encoding that it computes itself.

Bound: sealing takes some 100 microseconds of a core, in threads (pyrage releases the GIL). A file has about
600 bytes, which differ in number because age adds a part that readers ignore.
"""

from dataclasses import dataclass
from functools import partial

import pyrage
from pyrage import x25519

from authsvc.model.errors import FieldViolation, InvalidArgument

# BIP 173, with the length of what is between `age1` and the checksum.
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_START, _DATA = len("age1"), 52
_PADDING_BITS = 5 * _DATA - 256
# The field of Curve25519 (RFC 7748), and the u-coordinates of all points of low order, also on the twist.
_PRIME = 2**255 - 19
_LOW_ORDER = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key to which key strings can be sealed."""

    _key: x25519.Recipient

    @classmethod
    def parse(cls, path: str, text: str) -> "Recipient":
        """Return the recipient that a client chose (`age1…`).

        Raises InvalidArgument, for the field `path`, for anything else, and for points of low order. The
        error does not repeat the text, which may be a private key.
        """
        refused = partial(FieldViolation, path, "string.age_recipient")
        try:
            key = x25519.Recipient.from_str(text)
        except pyrage.RecipientError:
            problem = "is not an X25519 recipient of age; copy the whole line age1… that age-keygen prints"
            raise InvalidArgument(refused(problem)) from None
        if str(key) != text:
            raise InvalidArgument(refused("is not in the form in which age-keygen prints it: use lower case"))
        if (point := _point(text)) >= _PRIME or point in _LOW_ORDER:
            problem = (
                "is not the public key of an identity; create one with age-keygen, and use its recipient"
            )
            raise InvalidArgument(refused(problem))
        return cls(key)

    def seal(self, key_string: str) -> str:
        """Return a key string as an age file, in the armored format, that only this recipient opens."""
        return pyrage.encrypt(key_string.encode("ascii"), [self._key], armored=True).decode("ascii")


def _point(text: str) -> int:
    """Return the u-coordinate in a recipient whose checksum is right."""
    number = 0
    for character in text[_START : _START + _DATA]:
        number = number << 5 | _BECH32.index(character)
    return int.from_bytes((number >> _PADDING_BITS).to_bytes(32, "big"), "little")
