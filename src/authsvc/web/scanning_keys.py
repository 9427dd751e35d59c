"""The public keys of a secret scanner: a file, or an address that they are fetched from.

Both have what GitHub serves at `/meta/public_keys/secret_scanning`:

    {"public_keys": [{"key_identifier": "…", "key": "-----BEGIN PUBLIC KEY-----…", "is_current": true}]}

Mechanism: every listed key is accepted, also one that is not current any more, since a message may be signed
shortly before a rotation; the scanner takes a key off the list when it must not be accepted. A list from an
address is fetched at the first message and then each hour, and for a key that is not on it once a minute at
most. Its addresses are checked as those of webhooks are.

Failure: a list that cannot be fetched, or is broken, leaves the last one in use. Without any, messages are
answered by 503.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import httpcore
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.settings import ConfigError
from authsvc.model.errors import Unavailable
from authsvc.net.checked_connection import NETWORK_ERRORS, USER_AGENT, TooLargeError, exchange
from authsvc.net.resolver import Resolve, Resolver
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.target import read_target
from authsvc.verify.clock import Stopwatch, boottime

_log = logging.getLogger(__name__)

SETTING = "AUTHSVC_SECRET_SCANNING_KEYS"
Keys = Mapping[str, EllipticCurvePublicKey]
_MAX_KEYS = 100
_FETCH_SECONDS = 15.0
# How long a list is used before it is fetched again; the pause before the next attempt.
_LIFETIME_SECONDS, _PAUSE_SECONDS = 3600.0, 60.0
_FAILURES = (*NETWORK_ERRORS, TooLargeError, ValueError)


class ScanningKeys(Protocol):
    """The keys that sign messages."""

    async def find(self, identifier: str) -> EllipticCurvePublicKey | None:
        """Return a key, None if it is not listed. Raises Unavailable without a list."""


def parse(data: bytes) -> Keys:
    """Return the keys of a list by their identifiers. Raises ValueError, with what is wrong."""
    try:
        listed = json.loads(data)["public_keys"]
        pairs = [(str(each["key_identifier"]), str(each["key"])) for each in listed[:_MAX_KEYS]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('is not JSON like {"public_keys": [{"key_identifier": "…", "key": "…"}]}') from None
    keys = {}
    for identifier, pem in pairs:
        try:
            key: Any = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not _is_usable(key):
            raise ValueError(f"has a key {identifier[:64]!r} that is not a public key of P-256 in PEM")
        keys[identifier] = key
    if not keys:
        raise ValueError("has no keys")
    return keys


def _is_usable(key: object) -> bool:
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


class FileKeys:
    """The keys in a file, which is reloaded when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ConfigError."""
        self.file: ReloadedFiles[Keys] = ReloadedFiles({SETTING: path}, _parsed)

    async def find(self, identifier: str) -> EllipticCurvePublicKey | None:
        """Return a key, None if it is not listed."""
        return self.file.value.get(identifier)


def _parsed(contents: Contents) -> Keys:
    try:
        return parse(contents[SETTING])
    except ValueError as error:
        raise ConfigError(f"{SETTING}: the file {error}") from None


class RemoteKeys:
    """The keys at an address."""

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], stopwatch: Stopwatch = boottime) -> None:
        self._fetch, self._stopwatch = fetch, stopwatch
        self._keys: Keys = {}
        self._fresh_until = self._next_attempt = 0.0
        self._one = asyncio.Lock()

    async def find(self, identifier: str) -> EllipticCurvePublicKey | None:
        """Return a key, None if it is not listed. Raises Unavailable without a list."""
        async with self._one:
            is_fresh = self._stopwatch() < self._fresh_until
            if not (is_fresh and identifier in self._keys) and self._stopwatch() >= self._next_attempt:
                await self._refresh()
        if not self._keys:
            raise Unavailable(
                f"the public keys at {SETTING} could not be fetched; see the log of the service",
                reason="SCANNING_KEYS_UNAVAILABLE",
                retry_after=_PAUSE_SECONDS,
            )
        return self._keys.get(identifier)

    async def _refresh(self) -> None:
        self._next_attempt = self._stopwatch() + _PAUSE_SECONDS
        try:
            self._keys = parse(await self._fetch())
        except _FAILURES as error:
            _log.warning(
                "%s: the public keys could not be fetched: %s", SETTING, error or type(error).__name__
            )
        else:
            self._fresh_until = self._stopwatch() + _LIFETIME_SECONDS


class Fetch:
    """Fetches an address that the operator has named, once for each call."""

    def __init__(self, url: str, addresses: AddressRules, resolve: Resolve | None = None) -> None:
        """Raise ConfigError if the URL is not valid."""
        self._addresses = addresses
        self._resolve = resolve or Resolver(is_absolute=not addresses.networks)
        self._tls: ssl.SSLContext | None = None
        try:
            self._target = read_target(url)
        except ValueError as error:
            raise ConfigError(f"{SETTING}: the address {error}") from None

    async def __call__(self) -> bytes:
        """Return the body of the answer. Raises one of `_FAILURES`."""
        async with asyncio.timeout(_FETCH_SECONDS):
            return await self._get()

    async def _get(self) -> bytes:
        target = self._target
        found = [target.host] if target.address else await self._resolve(target.host, target.port)
        if not found or not all(self._addresses.allows(each, is_plain=False) for each in found):
            raise ValueError("its name does not resolve, or has an address that is not allowed")
        request = httpcore.Request(
            b"GET",
            httpcore.URL(scheme=b"https", host=target.host, port=target.port, target=target.path),
            headers=[
                ("host", target.authority),
                ("connection", "close"),
                ("accept", "application/json"),
                ("user-agent", USER_AGENT),
            ],
        )
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        async with exchange(request, found, self._tls) as response:
            if response.status != 200:
                raise ValueError(f"answered {response.status}")
            return await response.aread()


def keys_of(setting: str, addresses: AddressRules) -> FileKeys | RemoteKeys | None:
    """Return the keys that a setting names, None for none. Raises ConfigError."""
    if not setting:
        return None
    if setting.lower().startswith("https://"):
        return RemoteKeys(Fetch(setting, addresses))
    if "://" in setting:
        raise ConfigError(f"{SETTING}: name a file, or an address that begins with https://")
    return FileKeys(Path(setting))
