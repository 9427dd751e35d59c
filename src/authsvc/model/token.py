"""A short-lived token: a signed statement about a key or a session, and what it is worth.

The claims are those of RFC 9068, with three of our own: the kind and id of the credential (`key_id` or
`session_id`), its owner (`owner_id`), and its prefix (`key_prefix`), by which verification finds its state.
Whoever verifies offline needs none of these.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.scope import FULL_ACCESS

DEFAULT_LIFETIME = timedelta(minutes=5)
MAX_LIFETIME = timedelta(hours=1)

_ID_CLAIMS = {CredentialKind.KEY: "key_id", CredentialKind.SESSION: "session_id"}


@dataclass(frozen=True, slots=True)
class Token:
    """The content of a token. Times are whole seconds."""

    token_id: str
    issuer: str
    audience: str
    kind: CredentialKind
    credential_id: str
    key_prefix: str
    owner_id: str
    scopes: tuple[str, ...]
    issue_time: datetime
    expire_time: datetime

    def claims(self) -> bytes:
        """Return the claims as JSON."""
        return json.dumps(
            {
                "iss": self.issuer,
                "sub": self.owner_id,
                "aud": self.audience,
                "exp": int(self.expire_time.timestamp()),
                "iat": int(self.issue_time.timestamp()),
                "jti": self.token_id,
                "client_id": self.credential_id,
                "scope": " ".join(self.scopes),
                "owner_id": self.owner_id,
                _ID_CLAIMS[self.kind]: self.credential_id,
                "key_prefix": self.key_prefix,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def read(cls, claims: bytes) -> "Token | None":
        """Return the token with these claims, whose signature was verified.

        None if they are not those of such a token: another program may sign with the same key.
        """
        try:
            found = json.loads(claims)
            kind = CredentialKind.KEY if "key_id" in found else CredentialKind.SESSION
            return cls(
                token_id=_text(found, "jti"),
                issuer=_text(found, "iss"),
                audience=_text(found, "aud"),
                kind=kind,
                credential_id=_text(found, _ID_CLAIMS[kind]),
                key_prefix=_text(found, "key_prefix"),
                owner_id=_text(found, "owner_id"),
                scopes=tuple(_text(found, "scope").split()),
                issue_time=_instant(found, "iat"),
                expire_time=_instant(found, "exp"),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def restrict(self, credential: Credential) -> Credential | None:
        """Return its credential with no more scopes and no more time than the token; None if it is another.

        Scopes that the credential has got since the token was issued are not added.
        """
        if (credential.credential_id, credential.owner_id, credential.kind) != (
            self.credential_id,
            self.owner_id,
            self.kind,
        ):
            return None
        ends = [end for end in (self.expire_time, credential.expire_time) if end is not None]
        return replace(credential, scopes=common(self.scopes, credential.scopes), expire_time=min(ends))


def common(some: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes that both grant."""
    if FULL_ACCESS in others:
        return tuple(some)
    if FULL_ACCESS in some:
        return tuple(others)
    return tuple(scope for scope in some if scope in others)


def end_of(credential: Credential, now: datetime, lifetime: timedelta) -> datetime:
    """Return when a token ends that is derived from a credential at `now`: not after the credential.

    A session without further activity ends with its idle timeout. Fractions of a second are cut off.
    """
    ends = [now + lifetime, credential.expire_time, credential.revoke_time]
    if credential.activity is not None:
        ends.append(credential.activity.idle_end)
    return min(end for end in ends if end is not None).replace(microsecond=0)


def _text(found: dict[str, Any], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _instant(found: dict[str, Any], name: str) -> datetime:
    value = found[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(name)
    return datetime.fromtimestamp(value, UTC)
