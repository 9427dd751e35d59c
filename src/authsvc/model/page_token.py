"""Page tokens: opaque, and good for one query only (AIP-158).

A token holds a digest of the query and the position of the last row, under an
HMAC. Another query's token, an altered one and rubbish are refused alike.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import sha256

from authsvc.errors import FieldViolation, InvalidArgument
from authsvc.model.key_query import KeyQuery, Position

_MAC = 16


class PageTokens:
    """Seals and opens page tokens under a key that all workers share."""

    def __init__(self, tag_key: bytes) -> None:
        self._key = hmac.digest(tag_key, b"page token", "sha256")

    def seal(self, query: KeyQuery, position: Position) -> str:
        """Return the token for the page that follows `position`."""
        value, key_id = position
        stamp = {"t": value.isoformat()} if isinstance(value, datetime) else {"v": value}
        content = [_digest(query), stamp, key_id]
        payload = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
        return _text(self._mac(payload) + payload)

    def open(self, query: KeyQuery, token: str) -> Position:
        """Return the position that a token of this very query holds."""
        try:
            sealed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except ValueError:
            raise _refused() from None
        mac, payload = sealed[:_MAC], sealed[_MAC:]
        if _text(sealed) != token or not hmac.compare_digest(mac, self._mac(payload)):
            raise _refused()
        digest, stamp, key_id = json.loads(payload.decode("utf-8", "surrogatepass"))
        if digest != _digest(query):
            raise _refused()
        value = datetime.fromisoformat(stamp["t"]) if "t" in stamp else stamp["v"]
        return Position(value, key_id)

    def _mac(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")[:_MAC]


def _text(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _digest(query: KeyQuery) -> str:
    return sha256(repr(query).encode()).hexdigest()[:32]


def _refused() -> InvalidArgument:
    return InvalidArgument(
        FieldViolation(
            "page_token",
            "page_token.query",
            "is not of this query: send next_page_token as it came, with the same owner_id, filter, order_by",
        )
    )
