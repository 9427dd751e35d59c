"""Page tokens: opaque, and good for one query only (AIP-158).

A token holds a digest of the query, which is any value with a telling `repr`, and
the position of the last row, under an HMAC. Another query's token, an altered one and
rubbish are refused alike.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.tag_key import AcceptedTagKeys

_MAC = 16


class Position(NamedTuple):
    """The last item of a page: its value in the order (None: never) and its id."""

    value: str | datetime | None
    item_id: str


class PageTokens:
    """Seals and opens page tokens under keys that all workers share: those derived from the tag keys."""

    def __init__(self, tag_key: bytes, *others: bytes) -> None:
        """Take the tag key whose derivative seals, and others whose derivatives open."""
        self._keys = [_derived(secret) for secret in (tag_key, *others)]

    def use(self, tag_keys: AcceptedTagKeys) -> None:
        """Go on with these tag keys. Tokens under one that is gone are refused."""
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
        """Return the position that a token of this very query holds."""
        try:
            sealed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except ValueError:
            raise _refused() from None
        mac, payload = sealed[:_MAC], sealed[_MAC:]
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
    return hmac.digest(key, payload, "sha256")[:_MAC]


def _text(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _digest(query: object) -> str:
    return sha256(repr(query).encode()).hexdigest()[:32]


def _refused() -> InvalidArgument:
    return InvalidArgument(
        FieldViolation(
            "page_token",
            "page_token.query",
            "is not of this query, or too old: send next_page_token as it came, with the rest of the request "
            "as it was, or begin with the first page",
        )
    )
