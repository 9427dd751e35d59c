"""Page tokens: opaque, and valid for one query only (AIP-158).

A token contains a digest of the query (any value with a unique `repr`) and the position of the last item, and
is authenticated with an HMAC. A token of another query, an altered token and any other text are refused with
the same error.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.tag_key import AcceptedTagKeys

_MAC_BYTES = 16


class Position(NamedTuple):
    """The last item of a page: the value that it is ordered by (None: never), and its id."""

    value: str | datetime | None
    item_id: str


class PageTokens:
    """Makes and reads page tokens, with keys that all workers derive from the tag keys."""

    def __init__(self, tag_key: bytes, *others: bytes) -> None:
        """Make tokens with the key derived from `tag_key`, and accept those of the others, too."""
        self._keys = [_derived(secret) for secret in (tag_key, *others)]

    def use(self, tag_keys: AcceptedTagKeys) -> None:
        """Replace the tag keys. Tokens of keys that are gone are refused."""
        self._keys = [_derived(secret) for secret in tag_keys.secrets]

    def seal(self, query: object, position: tuple[str | datetime | None, str]) -> str:
        """Return the token for the page that follows `position`."""
        value, item_id = position
        stamp = {"t": value.isoformat()} if isinstance(value, datetime) else {"v": value}
        content = [_digest(query), stamp, item_id]
        payload = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
        return _text(_mac(self._keys[0], payload) + payload)

    def open(self, query: object, token: str) -> Position:
        """Return the position in a token of this query. Raises InvalidArgument for any other text."""
        try:
            sealed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except ValueError:
            raise _refused() from None
        mac, payload = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if _text(sealed) != token or not any(hmac.compare_digest(mac, _mac(k, payload)) for k in self._keys):
            raise _refused()
        digest, stamp, item_id = json.loads(payload.decode("utf-8", "surrogatepass"))
        if digest != _digest(query):
            raise _refused()
        value = datetime.fromisoformat(stamp["t"]) if "t" in stamp else stamp["v"]
        return Position(value, item_id)


def _derived(tag_key: bytes) -> bytes:
    return hmac.digest(tag_key, b"page token", "sha256")


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:_MAC_BYTES]


def _text(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _digest(query: object) -> str:
    return sha256(repr(query).encode()).hexdigest()[:32]


def _refused() -> InvalidArgument:
    return InvalidArgument(
        FieldViolation(
            "page_token",
            "page_token.query",
            "does not belong to this query, or is too old: send next_page_token unchanged, with the same "
            "values in all other fields, or start with the first page",
        )
    )
