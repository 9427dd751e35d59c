"""Resource ids: a kind and 26 characters that sort by time of creation."""

import secrets
from datetime import UTC, datetime, timedelta

# Crockford's base 32, in lower case: without i, l, o and u, which are easily misread.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# By two characters at a time, since a batch makes hundreds of identifiers.
_PAIRS = [one + other for one in _ALPHABET for other in _ALPHABET]
_EPOCH, _MILLISECOND = datetime.fromtimestamp(0, UTC), timedelta(milliseconds=1)


def new_identifier(kind: str, now: datetime) -> str:
    """Return `<kind>_` and a ULID: 48 bits of milliseconds, 80 random bits."""
    value = (now - _EPOCH) // _MILLISECOND << 80 | secrets.randbits(80)
    return f"{kind}_{''.join([_PAIRS[value >> bits & 1023] for bits in range(120, -1, -10)])}"


def creation_time(identifier: str) -> datetime:
    """Return when an identifier was made, to the millisecond, as `new_identifier` has written it."""
    milliseconds = 0
    for character in identifier.rpartition("_")[2][:10]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(character)
    return _EPOCH + milliseconds * _MILLISECOND
