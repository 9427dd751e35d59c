"""Orders, confirmations and hints as bytes, between the processes of one replica.

Both ends are forked from one program, so the format has no versions: four bytes of length, then JSON.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.orders import Advance, Apply, Drop, Forget, Grant, Order, Reconnect, Start

_log = logging.getLogger(__name__)

_LENGTH_BYTES = 4


class Hello(NamedTuple):
    """Who attaches, up to where it has memory, and until when it has a lease of an earlier follower."""

    pid: int
    place: Place | None
    until: float


class Confirmed(NamedTuple):
    """The number of orders that were carried out."""

    number: int


class Hint(NamedTuple):
    """A change that was just committed here, or None: look at the feed."""

    entry: FeedEntry | None


Answer: TypeAlias = Confirmed | Hint
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Hello, Confirmed, Hint, Start, Apply, Forget, Advance, Grant, Drop, Reconnect)
}


def encode(message: Hello | Answer | Order) -> bytes:
    """Return a message as bytes."""
    text = json.dumps([type(message).__name__, *map(_plain, message)], separators=(",", ":")).encode()
    return len(text).to_bytes(_LENGTH_BYTES, "big") + text


def decode(text: bytes) -> Any:
    """Return the message; `text` is without its length."""
    kind, *fields = json.loads(text)
    return _KINDS[kind](*map(_rich, fields))


def _plain(value: object) -> object:
    match value:
        case FeedEntry(place, key_prefixes, owner_id, kind, tag_keys):
            return {
                "entry": [_plain(place), list(key_prefixes), owner_id, kind and kind.value, _plain(tag_keys)]
            }
        case Place(seq, nonce):
            return {"place": [seq, nonce.hex]}
        case AcceptedTagKeys(secrets):
            return {"tag_keys": [secret.hex() for secret in secrets]}
        case datetime():
            return {"time": value.isoformat()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value


def _rich(value: Any) -> Any:
    match value:
        case {"entry": [place, key_prefixes, owner_id, kind, tag_keys]}:
            kind = kind and CredentialKind(kind)
            return FeedEntry(_rich(place), key_prefixes, owner_id, kind, _rich(tag_keys))
        case {"place": [seq, nonce]}:
            return Place(seq, UUID(nonce))
        case {"tag_keys": secrets}:
            return AcceptedTagKeys(tuple(map(bytes.fromhex, secrets)))
        case {"time": text}:
            return datetime.fromisoformat(text)
        case list():
            return [_rich(each) for each in value]
        case _:
            return value


class Connection(asyncio.Protocol):
    """One end of a channel: calls `on_message` for each message, and `on_end` when there are no more.

    `on_end` gets the error that has ended it, if any: an OSError, or what `on_message` raised. `on_batch` is
    called when all messages that have arrived together were handled.
    """

    def __init__(
        self,
        on_message: Callable[[Any], None],
        *,
        on_end: Callable[[Exception | None], None],
        on_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_message = on_message
        self._on_batch = on_batch
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self.has_ended = False
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # Those of uvloop do not inherit from it.

    def send(self, message: Hello | Answer | Order) -> None:
        """Send a message after all earlier ones; do nothing at the end."""
        if self._transport is not None:
            self._transport.write(encode(message))

    def close(self) -> None:
        """End it now, with what was not sent."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Handle the messages that are complete."""
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH_BYTES:
            end = start + _LENGTH_BYTES + int.from_bytes(received[start : start + _LENGTH_BYTES], "big")
            if len(received) < end:
                break
            self._on_message(decode(bytes(received[start + _LENGTH_BYTES : end])))
            start = end
        del received[:start]
        self._on_batch()

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self._transport, self.has_ended = None, True
        self._on_end(error)
