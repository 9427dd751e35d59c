"""The setting of the keys that the secrets of webhooks are derived from."""

import binascii
from base64 import b64decode
from typing import Annotated

from pydantic import BeforeValidator, SecretBytes
from pydantic_settings import NoDecode

from authsvc.config.comma_separated import split

#: The length of a key.
KEY_BYTES = 32
_REMEDY = "make one with `openssl rand -base64 32`"


def read_keys(text: str) -> tuple[SecretBytes, ...]:
    """Return comma-separated keys, each in base64. Raises ValueError, with a message that shows none."""
    keys: list[bytes] = []
    for number, item in enumerate(split(text), 1):
        try:
            key = b64decode(item, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"key {number} is not base64; {_REMEDY}") from None
        if len(key) != KEY_BYTES:
            raise ValueError(f"key {number} has {len(key)} bytes instead of {KEY_BYTES}; {_REMEDY}")
        if key in keys:
            raise ValueError(f"keys {keys.index(key) + 1} and {number} are the same; remove one of them")
        keys.append(key)
    return tuple(map(SecretBytes, keys))


def _read(value: object) -> object:
    return read_keys(value) if isinstance(value, str) else value


WebhookKeys = Annotated[tuple[SecretBytes, ...], NoDecode, BeforeValidator(_read)]
"""Comma-separated keys of 32 bytes in base64, the current one first."""
