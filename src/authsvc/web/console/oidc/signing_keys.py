"""The keys of a provider that sign ID tokens (RFC 7517).

Keys for encryption, of other kinds, with RSA below 2048 bits, and what is no key, are left out. So are keys
that have a private part or are symmetric.
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

_MAX_KEYS = 100
_MIN_RSA_BITS = 2048
# Of an algorithm: the kind of its keys.
KINDS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
PublicKey = RSAKey | ECKey | OKPKey
_TYPES: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class _Known(NamedTuple):
    key_id: str | None
    algorithm: str | None
    kind: str
    key: PublicKey


class SigningKeys:
    """A set of public keys."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        """Read a set as a provider publishes it."""
        keys = found.get("keys")
        each = keys[:_MAX_KEYS] if isinstance(keys, list) else []
        self._keys = [known for known in map(_known, each) if known is not None]

    def has(self, key_id: str | None) -> bool:
        """Return whether there is a key of this id; any will do if there is no id."""
        return any(key_id in (None, known.key_id) for known in self._keys)

    def find(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """Return the only key that can have signed by an algorithm; None if there is none, or several."""
        found = [
            known.key
            for known in self._keys
            if key_id in (None, known.key_id)
            and known.kind == KINDS.get(algorithm)
            and known.algorithm in (None, algorithm)
        ]
        return found[0] if len(found) == 1 else None


def _known(data: object) -> _Known | None:
    if not isinstance(data, dict) or data.get("use", "sig") != "sig" or "d" in data:
        return None
    kind, key_id, algorithm = data.get("kty"), data.get("kid"), data.get("alg")
    if not isinstance(kind, str) or kind not in _TYPES or not isinstance(key_id, str | None):
        return None
    # Only what is needed: a provider may add what the library does not know.
    needed = {name: value for name, value in data.items() if name in ("kty", "n", "e", "crv", "x", "y")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of short keys, which are left out
            key = _TYPES[kind].import_key(needed)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey) and key.public_key.key_size < _MIN_RSA_BITS:
        return None
    return _Known(key_id, algorithm if isinstance(algorithm, str) else None, kind, key)
