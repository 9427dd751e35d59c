"""Resource ids: a kind and 26 characters that sort by time of creation."""

import secrets
from datetime import datetime

# Crockford's base 32, in lower case: no i, l, o, u, so that nobody misreads an id.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_identifier(kind: str, now: datetime) -> str:
    """Return `<kind>_` and a ULID: 48 bits of milliseconds, 80 random bits."""
    value = int(now.timestamp() * 1000) << 80 | secrets.randbits(80)
    return f"{kind}_" + "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
