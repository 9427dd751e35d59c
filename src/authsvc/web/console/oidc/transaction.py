"""A sign-in that has begun, as the browser keeps it in a cookie until the provider sends it back.

Mechanism: the cookie has a random text, its expiry, and the page to go on to, with an HMAC. `state`, `nonce`
and the verifier of PKCE are HMACs of all of that, so none of them is in the cookie. The key is derived from
the API key of the console, which all workers of all replicas have. So any of them can answer the callback,
and nothing is stored.

Bound: ten minutes.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from secrets import token_urlsafe

#: How long somebody may take to sign in at the provider.
SECONDS = 600
# A cookie has room for 4096 bytes.
_MAX_NEXT = 1500


class Transaction:
    """One attempt of one browser to sign in."""

    def __init__(self, text: str, key: str) -> None:
        """Take what `begin` or `read` has put together."""
        self._text = text
        self._key = hmac.digest(key.encode(), b"authsvc console oidc", sha256)

    @classmethod
    def begin(cls, next_page: str, key: str, now: datetime) -> "Transaction":
        """Begin a sign-in that leads to a page of ours."""
        page = next_page if len(next_page) <= _MAX_NEXT else "/"
        encoded = urlsafe_b64encode(page.encode()).decode().rstrip("=")
        return cls(f"{token_urlsafe(32)}.{int(now.timestamp()) + SECONDS}.{encoded}", key)

    @classmethod
    def read(cls, cookie: str, key: str, now: datetime) -> "Transaction | None":
        """Return the sign-in that a cookie has; None if there is none, or it has taken too long."""
        text, _, _ = cookie.rpartition(".")
        found = cls(text, key)
        if not hmac.compare_digest(found.cookie.encode(), cookie.encode()):
            return None
        return found if now.timestamp() <= int(text.split(".")[1]) else None

    @property
    def cookie(self) -> str:
        """What the browser keeps."""
        return f"{self._text}.{self._derived('cookie')}"

    @property
    def next_page(self) -> str:
        """The page to go on to."""
        encoded = self._text.split(".")[2]
        return urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()

    @property
    def state(self) -> str:
        """What the provider sends back unchanged."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """What the ID token has to have."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """What proves that the code is exchanged by whoever asked for it (PKCE)."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier: S256."""
        return urlsafe_b64encode(sha256(self.verifier.encode()).digest()).decode().rstrip("=")

    def is_answered_by(self, state: str) -> bool:
        """Return whether a browser was sent back for this sign-in."""
        return hmac.compare_digest(self.state.encode(), state.encode())

    def _derived(self, what: str) -> str:
        mac = hmac.digest(self._key, f"{what}\0{self._text}".encode(), sha256)
        return urlsafe_b64encode(mac).decode().rstrip("=")
