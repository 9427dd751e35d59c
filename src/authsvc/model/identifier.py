"""Resource ids: a kind and 26 characters that sort by time of creation."""

import secrets
from base64 import b32encode
from datetime import datetime

# Crockford's base 32, in lower case: without i, l, o and u, which are easily misread.
_ALPHABET = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")


def new_identifier(kind: str, now: datetime) -> str:
    """Return `<kind>_` and a ULID: 48 bits of milliseconds, 80 random bits."""
    value = int(now.timestamp() * 1000) << 80 | secrets.randbits(80)
    # 26 characters have 130 bits, the 17 octets that they are made from 136.
    return f"{kind}_{b32encode((value << 6).to_bytes(17))[:26].translate(_ALPHABET).decode()}"
