"""The secrets of webhooks. They are derived from keys of the operator, so none is stored.

A secret is HMAC-SHA256 under one of these keys, over the id of the webhook and the generation of the secret.
Whoever reads the database, or a backup of it, cannot sign.
"""

import hmac
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

from authsvc.model.webhook import SecretVersion

_PREFIX = "whsec_"


class SigningKeys:
    """Derives the secrets of webhooks. The first key is that of new secrets."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._by_id = {_id_of(key): key for key in keys}
        #: The id of the key for new secrets; "" without any key.
        self.current_id = _id_of(keys[0]) if keys else ""

    def has(self, key_id: str) -> bool:
        """Return whether the key with this id is among those of the operator."""
        return key_id in self._by_id

    def secret(self, webhook_id: str, version: SecretVersion) -> bytes:
        """Return a secret, 32 bytes; raise LookupError if its key is not among those of the operator."""
        return hmac.digest(
            self._by_id[version.key_id], f"authsvc webhook {webhook_id} {version.generation}".encode(), sha256
        )

    def shown(self, webhook_id: str, version: SecretVersion) -> str:
        """Return a secret as receivers get it (Standard Webhooks 1.0): `whsec_` and base64."""
        return _PREFIX + b64encode(self.secret(webhook_id, version)).decode()


def _id_of(key: bytes) -> str:
    return hmac.digest(key, b"authsvc webhook key id", sha256).hex()[:16]
