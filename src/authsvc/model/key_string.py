"""The key string: `<brand>_<environment>_<lookup><secret><tag>`.

A session token has the same form, with the environment `session`.
`lookup` (12 characters) is random and public, `secret` (43) carries 256 random
bits, `tag` (8) is a truncated HMAC-SHA256 (RFC 2104) over all before it. All three are base62,
so that a double click selects the whole string and secret scanners can match it.

The tag is a filter, not the proof: a string whose tag is wrong was not minted
here, and costs one HMAC instead of a database round trip and an argon2. Who
learns the tag key can pass the filter (or guess it once in about 2^46 tries)
and still has to pass argon2id. Several tag keys may be accepted at a time, of which one mints: a made-up
string costs an HMAC for each, one that was minted here usually one, and one that is in memory none.
"""

import hmac
import re
import secrets
import string
from dataclasses import dataclass
from itertools import product

from authsvc.model.tag_key import AcceptedTagKeys

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PAIRS = ["".join(pair) for pair in product(_BASE62, repeat=2)]  # half as many divisions
_LOOKUP, _SECRET, _TAG = 12, 43, 8

# The environment of session tokens; those of keys are the client's choice.
SESSION = "session"

# What follows the key prefix; the prefix is all before it.
TAIL_LENGTH = _SECRET + _TAG
MAX_LENGTH = len("bbbbbbbbbb_session_") + _LOOKUP + TAIL_LENGTH

#: The expression of a whole key string.
PATTERN = rf"[a-z][a-z0-9]{{1,9}}_(?:live|test|session)_[0-9A-Za-z]{{{_LOOKUP + TAIL_LENGTH}}}"
_FORM = re.compile(PATTERN)
# Also one that was cut: a few characters of the secret are some too many.
_ANYWHERE = re.compile(
    rf"([a-z][a-z0-9]{{1,9}}_(?:live|test|session)_[0-9A-Za-z]{{{_LOOKUP}}})[0-9A-Za-z]{{8,{TAIL_LENGTH}}}"
)

# A byte becomes a character with one C call. 256 is no multiple of 62, so eight characters are somewhat
# easier to guess than they could be (5/256 at worst, not 1/62): immaterial for a filter.
_TAG_CHARACTERS = bytes(ord(_BASE62[byte % 62]) for byte in range(256))


@dataclass(frozen=True, slots=True)
class KeyString:
    """A key string in its parts. `prefix` is public, `secret` and `text` are not."""

    prefix: str
    secret: str
    text: str

    def __repr__(self) -> str:
        return f"KeyString({self.prefix}…)"


class KeyMint:
    """Mints key strings and recognizes its own, by the tag keys that all workers share."""

    def __init__(self, tag_key: bytes, *others: bytes) -> None:
        """Take the tag key to mint under, and others to accept."""
        self._accepted = (tag_key, *others)

    def use(self, tag_keys: AcceptedTagKeys) -> bool:
        """Go on with these tag keys; return whether one is accepted no more."""
        lost = not set(self._accepted) <= set(tag_keys.secrets)
        self._accepted = tag_keys.secrets
        return lost

    def mint(self, brand: str, environment: str) -> KeyString:
        """Return a new key string for a checked `brand` and `environment`."""
        prefix = f"{brand}_{environment}_{_base62(secrets.randbelow(62**_LOOKUP), _LOOKUP)}"
        secret = _base62(secrets.randbits(256), _SECRET)
        return KeyString(prefix, secret, prefix + secret + self._tag(prefix + secret))

    def parse(self, text: str) -> KeyString | None:
        """Return the parts of a string that was minted here, None for anything else.

        Never raises, whatever the text: scripts, NUL bytes, lone surrogates.
        """
        if len(text) > MAX_LENGTH or _FORM.fullmatch(text) is None:
            return None
        body, tag = text[:-_TAG], text[-_TAG:]
        for tag_key in self._accepted:
            if hmac.compare_digest(_tag_under(tag_key, body), tag):
                return KeyString(text[:-TAIL_LENGTH], body[-_SECRET:], text)
        return None

    def _tag(self, body: str) -> str:
        return _tag_under(self._accepted[0], body)


def _tag_under(tag_key: bytes, body: str) -> str:
    digest = hmac.digest(tag_key, body.encode("ascii"), "sha256")
    return digest[:_TAG].translate(_TAG_CHARACTERS).decode("ascii")


def has_form(text: str) -> bool:
    """Say whether this looks like a key string; who minted it is for `KeyMint.parse` to say."""
    return len(text) <= MAX_LENGTH and _FORM.fullmatch(text) is not None


def redact(text: str) -> str:
    """Return the text with each key string in it, whole or not, cut down to its prefix."""
    return _ANYWHERE.sub(r"\1…", text)


def _base62(number: int, length: int) -> str:
    pairs = []
    for _ in range((length + 1) // 2):
        number, pair = divmod(number, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))[-length:]
