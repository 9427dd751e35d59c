"""The keys that sign tokens: Ed25519 keys in a file of the operator, of which the first signs.

Mechanism: a token is a JWS (RFC 7515) with an Ed25519 signature (RFC 8037). Every token that a key signs has
the same header, so a token is recognized by the text of its header. Nothing in the header of a presented
token is interpreted: no algorithm, type, key id or URL that it could name is followed.

Bound: a token has at most `MAX_LENGTH` characters, and a file at most 16 keys.

Failure: a file that is broken stops the start. Later the last good version stays in use.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from authsvc.config.file import text_of
from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.settings import PREFIX, ConfigError

#: The longest token that is looked at. One with all fields at their longest has 7,000.
MAX_LENGTH = 8192
_MAX_KEYS = 16
_SETTING = f"{PREFIX}TOKEN_KEYS_FILE"
_REMEDY = "make one with `openssl genpkey -algorithm ed25519`"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class TokenKeys:
    """Signs tokens, and recognizes them again."""

    def __init__(self, keys: Sequence[OKPKey]) -> None:
        """Take the private keys. The first signs; tokens of all of them are recognized."""
        published: list[dict[str, Any]] = []
        self._public: dict[str, Ed25519PublicKey] = {}
        for key in keys:
            key_id = key.thumbprint()  # RFC 7638
            public = {"kid": key_id, "use": "sig", "alg": "EdDSA"}
            published.append(public | {name: key.get(name) for name in ("kty", "crv", "x")})
            self._public[_header(key_id)] = _public(key)
        signing: Any = keys[0].private_key
        self._private: Ed25519PrivateKey = signing
        self._header = next(iter(self._public))
        #: The public keys, as a JSON document (RFC 7517).
        self.published = json.dumps({"keys": published}).encode()

    def sign(self, payload: bytes) -> str:
        """Return a token with this payload."""
        signed = f"{self._header}.{_encoded(payload)}"
        return f"{signed}.{_encoded(self._private.sign(signed.encode()))}"

    def payload(self, token: str) -> bytes | None:
        """Return what one of the keys has signed; None for any other text. Never raises."""
        if len(token) > MAX_LENGTH or not token.isascii():
            return None
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        key = self._public.get(header)
        if key is None:
            return None
        try:
            key.verify(_decoded(signature), signed.encode())
            return _decoded(payload)
        except (InvalidSignature, ValueError):
            return None


def new_token_key() -> str:
    """Return a new private key, as PEM."""
    return OKPKey.generate_key("Ed25519").as_pem(private=True).decode().strip()


def reloaded_token_keys(path: Path) -> ReloadedFiles[TokenKeys]:
    """Return the keys in a file, reloaded when it changes. Raises ConfigError, which shows no key."""
    if "PRIVATE KEY" in str(path) or '"kty"' in str(path):
        raise ConfigError(f"{_SETTING}: is a key; write it into a file, and set the path of that")

    def parse(contents: Contents) -> TokenKeys:
        return TokenKeys(_keys(path, contents[_SETTING]))

    return ReloadedFiles({_SETTING: path}, parse)


def _keys(path: Path, content: bytes) -> list[OKPKey]:
    try:
        text = text_of(content).strip()
        found: list[Any] = _jwks(text) if text.startswith(("{", "[")) else _pems(text)
    except ValueError:
        raise ConfigError(f"{_SETTING}: {path} is neither PEM nor a JSON Web Key (Set); {_REMEDY}") from None
    if not 1 <= len(found) <= _MAX_KEYS:
        raise ConfigError(f"{_SETTING}: {path} has {len(found)} keys; use 1 to {_MAX_KEYS}. {_REMEDY}")
    keys = [_key(path, number, each) for number, each in enumerate(found, 1)]
    thumbprints = [key.thumbprint() for key in keys]
    for number, thumbprint in enumerate(thumbprints):
        if (first := thumbprints.index(thumbprint)) != number:
            raise ConfigError(
                f"{_SETTING}: keys {first + 1} and {number + 1} of {path} are the same; remove one of them"
            )
    return keys


def _pems(text: str) -> list[str]:
    return [found.group() for found in _PEM.finditer(text)]


def _jwks(text: str) -> list[Any]:
    found = json.loads(text)
    if isinstance(found, dict):
        found = found.get("keys", [found])
    if not isinstance(found, list):
        raise ValueError("no list")  # noqa: TRY004 - told like text that is no JSON
    return found


def _key(path: Path, number: int, found: str | dict[str, Any]) -> OKPKey:
    problem = f"{_SETTING}: key {number} of {path} is not a private Ed25519 key without a password; {_REMEDY}"
    try:
        if isinstance(found, dict):
            found = {name: found[name] for name in ("kty", "crv", "x", "d")}
        key = OKPKey.import_key(found)
        if not isinstance(key.private_key, Ed25519PrivateKey):
            raise ConfigError(problem)
        # The public part of a JWK is written down beside the private one, and may be that of another key.
        if _public(key) != key.private_key.public_key():
            raise ConfigError(problem)
    except (JoseError, ValueError, TypeError, KeyError):
        raise ConfigError(problem) from None
    return key


def _public(key: OKPKey) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(_decoded(str(key.get("x"))))


def _header(key_id: str) -> str:
    return _encoded(
        json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": key_id}, separators=(",", ":")).encode()
    )


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """Return what a text encodes; raise ValueError for any but the one text that encodes it."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encoded(data) != text:
        raise ValueError("not in the canonical form")
    return data
