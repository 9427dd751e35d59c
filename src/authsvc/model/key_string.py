"""The key string: `<brand>_<environment>_<lookup><secret><tag>`.

A session token has the same form, with the environment `session`. `lookup` (12 characters) is random and
public. `secret` (43 characters) has 256 random bits. `tag` (8 characters) is a truncated HMAC-SHA256 (RFC
2104) over everything before it. All three are base62, so that a double click selects the whole string and
secret scanners can match it.

The tag is a filter and not the proof. A string with a wrong tag was not minted by this service, and costs one
HMAC instead of a database round trip and an argon2id. An attacker who has the tag key passes the filter, as
does one guess in about 2^46, and still has to pass argon2id. Several tag keys may be accepted at a time, of
which one mints. A forged string costs one HMAC for each, a minted one usually one, and one in memory none.
"""

import hmac
import re
import secrets
import string
from base64 import b64encode
from dataclasses import dataclass
from itertools import product

from authsvc.model.tag_key import AcceptedTagKeys

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PAIRS = ["".join(pair) for pair in product(_BASE62, repeat=2)]  # Pairs need half as many divisions.
# The lengths of the parts, in characters.
_LOOKUP, _SECRET, _TAG = 12, 43, 8

# The environment of session tokens. Clients choose that of keys.
SESSION = "session"

# The length of what follows the key prefix.
TAIL_LENGTH = _SECRET + _TAG
# Where the last underscore is, from the end.
_LAST_SEPARATOR = -(_LOOKUP + TAIL_LENGTH + 1)
_MIN_LENGTH = len("bb_live_") + _LOOKUP + TAIL_LENGTH
MAX_LENGTH = len("bbbbbbbbbb_session_") + _LOOKUP + TAIL_LENGTH

#: Regular expressions that match a whole key prefix, and a whole key string.
PREFIX_PATTERN = rf"[a-z][a-z0-9]{{1,9}}_(?:live|test|session)_[0-9A-Za-z]{{{_LOOKUP}}}"
PATTERN = rf"[a-z][a-z0-9]{{1,9}}_(?:live|test|session)_[0-9A-Za-z]{{{_LOOKUP + TAIL_LENGTH}}}"
_FORM = re.compile(PATTERN)
# Matches truncated key strings, too: even a part of the secret must not be logged.
_ANYWHERE = re.compile(
    rf"([a-z][a-z0-9]{{1,9}}_(?:live|test|session)_[0-9A-Za-z]{{{_LOOKUP}}})[0-9A-Za-z]{{8,{TAIL_LENGTH}}}"
)

# The secret of a webhook, in base64. It is no key string, but must not be logged either.
_WEBHOOK_SECRET_PREFIX = "whsec_"  # noqa: S105 - no secret
_WEBHOOK_SECRET = re.compile(rf"({_WEBHOOK_SECRET_PREFIX})[0-9A-Za-z+/=_-]{{8,}}")

# The private key of age, which somebody may send instead of a public one.
_AGE_IDENTITY_PREFIX = "age-secret-key-"
_AGE_IDENTITY = re.compile(rf"({_AGE_IDENTITY_PREFIX})[0-9a-z-]{{8,}}", re.IGNORECASE)

# How each token begins that is derived from a key or a session (keys/token_keys.py): algorithm and type.
_TOKEN_PREFIX = b64encode(b'{"alg":"EdDSA","typ":"at+jwt",').decode()
_TOKEN = re.compile(rf"({_TOKEN_PREFIX})[0-9A-Za-z_.-]{{8,}}")

# Maps bytes to characters in one C call. 256 is not a multiple of 62, so some characters are more frequent
# (5/256 instead of 1/62). For a filter, this does not matter.
_TAG_CHARACTERS = bytes(ord(_BASE62[byte % 62]) for byte in range(256))


@dataclass(frozen=True, slots=True)
class KeyString:
    """The parts of a key string. `prefix` is public, `secret` and `text` are not."""

    prefix: str
    secret: str
    text: str

    def __repr__(self) -> str:
        return f"KeyString({self.prefix}…)"


@dataclass(frozen=True, slots=True)
class ForeignString(KeyString):
    """A string that was made elsewhere, and one of its look-ups as `prefix` (`look_up`).

    `secret` is all of it. An empty `prefix` means that it is not known yet which keys were imported.
    """

    def __repr__(self) -> str:
        return "ForeignString(…)"


class KeyMint:
    """Mints key strings and recognizes them again, with the tag keys that all workers share."""

    def __init__(self, tag_key: bytes, *others: bytes) -> None:
        """`tag_key` mints and is accepted; the others are only accepted."""
        self._accepted = (tag_key, *others)

    def use(self, tag_keys: AcceptedTagKeys) -> bool:
        """Replace the tag keys; return whether one of the old ones is no longer accepted."""
        lost = not set(self._accepted) <= set(tag_keys.secrets)
        self._accepted = tag_keys.secrets
        return lost

    def mint(self, brand: str, environment: str) -> KeyString:
        """Return a new key string. `brand` and `environment` must have been validated."""
        prefix = f"{brand}_{environment}_{_base62(secrets.randbelow(62**_LOOKUP), _LOOKUP)}"
        secret = _base62(secrets.randbits(256), _SECRET)
        return KeyString(prefix, secret, prefix + secret + self._tag(prefix + secret))

    def parse(self, text: str) -> KeyString | None:
        """Return the parts of a string that was minted under an accepted tag key; None for anything else.

        Never raises, whatever the text contains, for instance NUL bytes and lone surrogates.
        """
        # Looks that cost less than the tag. The form is matched last, since a forged string has it, too.
        if not _MIN_LENGTH <= len(text) <= MAX_LENGTH or text[_LAST_SEPARATOR] != "_" or not text.isascii():
            return None
        data = text.encode("ascii")
        body, tag = data[:-_TAG], data[-_TAG:]
        for tag_key in self._accepted:
            if hmac.compare_digest(_tag_under(tag_key, body), tag) and _FORM.fullmatch(text):
                return KeyString(text[:-TAIL_LENGTH], text[-TAIL_LENGTH:-_TAG], text)
        return None

    def _tag(self, body: str) -> str:
        return _tag_under(self._accepted[0], body.encode("ascii")).decode("ascii")


def _tag_under(tag_key: bytes, body: bytes) -> bytes:
    return hmac.digest(tag_key, body, "sha256")[:_TAG].translate(_TAG_CHARACTERS)


def has_form(text: str) -> bool:
    """Return whether this has the form of a key string; `KeyMint.parse` checks who minted it."""
    return len(text) <= MAX_LENGTH and _FORM.fullmatch(text) is not None


def redact(text: str) -> str:
    """Return the text with each key string in it, complete or truncated, cut down to its prefix.

    So are the secrets of webhooks, identities of age, and tokens.
    """
    text = _ANYWHERE.sub(r"\1…", text)
    if _AGE_IDENTITY_PREFIX in text.lower():
        text = _AGE_IDENTITY.sub(r"\1…", text)
    if _TOKEN_PREFIX in text:
        text = _TOKEN.sub(r"\1…", text)
    return _WEBHOOK_SECRET.sub(r"\1…", text) if _WEBHOOK_SECRET_PREFIX in text else text


def _base62(number: int, length: int) -> str:
    pairs = []
    for _ in range((length + 1) // 2):
        number, pair = divmod(number, len(_PAIRS))
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))[-length:]
