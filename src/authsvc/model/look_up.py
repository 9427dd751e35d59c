"""The look-up of a foreign string: what a key is found by whose string was made elsewhere.

A foreign string has no tag and no form. It is found by one of these:

- the *digest* of the whole string, `sha256:` and 64 hexadecimal digits. It finds the key and proves the
  string, so it is for strings with 128 random bits or more, which nobody can guess;
- a *look-up prefix*, the first characters of the string, which are public. The rest is proved by a salted
  hash.

Both are kept where minted keys have their key prefix, and none of the three can be taken for another: a
digest has 71 characters, a look-up prefix at most 32, and none may have the form of a minted key prefix.

Bound: a look-up prefix has one of eight lengths, so a string has at most nine look-ups, whatever others have
imported.
"""

import re
from hashlib import sha256

from authsvc.model.key_string import PREFIX_PATTERN

#: How many characters a look-up prefix may have, the longest first.
LENGTHS = (32, 24, 20, 16, 12, 10, 8, 6)
#: The longest foreign string that is looked at.
MAX_FOREIGN_LENGTH = 256
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Visible ASCII. A comma separates repeated headers, so no string with one can be presented everywhere.
_PREFIX = re.compile(r"[!-+\--~]+")
_MINTED = re.compile(PREFIX_PATTERN)
# How many digits of a digest are shown.
_SHOWN_DIGITS = 8


def digest_of(text: str) -> str:
    """Return the digest of a foreign string (SHA-256, FIPS 180-4)."""
    return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def is_digest(look_up: str) -> bool:
    """Return whether this has the form of a digest, with digits in lower case."""
    return _DIGEST.fullmatch(look_up) is not None


def is_foreign(key_prefix: str) -> bool:
    """Return whether this is a look-up, and not the prefix of a minted key or session."""
    return _MINTED.fullmatch(key_prefix) is None


def prefix_fault(prefix: str) -> str:
    """Return what is wrong with a look-up prefix, and what to do; "" if nothing is."""
    if len(prefix) not in LENGTHS:
        lengths = ", ".join(map(str, sorted(LENGTHS)))
        return (
            f"has {len(prefix)} characters; use the first {lengths} characters of the string, as many as are "
            "public and as few as tell it from others"
        )
    if not _PREFIX.fullmatch(prefix):
        return "may have visible ASCII characters only, without blanks and commas"
    if not is_foreign(prefix):
        return "has the form of a key prefix of authsvc; use fewer characters of the string"
    return ""


def look_ups_of(text: str) -> list[str]:
    """Return all that a foreign string may be found by: its digest, then its beginnings, the longest first.

    The longest is the one that others have the least chance to have imported on purpose.
    """
    return [digest_of(text), *(text[:length] for length in LENGTHS if length < len(text))]


def shown(key_prefix: str) -> str:
    """Return a key prefix or look-up for people: all of it, or the beginning of a digest."""
    return key_prefix[: len("sha256:") + _SHOWN_DIGITS] if is_digest(key_prefix) else key_prefix
