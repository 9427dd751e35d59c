"""A credential as verification sees it.

Keys and sessions are two kinds of credential, and are verified and revoked in the same way. A session has an
activity in addition.

Credentials are cached, so they are small: they have no name and no contacts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from authsvc.model.activity import Activity
from authsvc.model.allowed_networks import AllowedNetworks
from authsvc.model.key_string import TAIL_LENGTH
from authsvc.model.rate_limit import RateLimits

_MAX_ANSWER_BYTES = 256

ALWAYS = datetime.min.replace(tzinfo=UTC)
FOREVER = datetime.max.replace(tzinfo=UTC)


class CredentialKind(Enum):
    """The kinds of credential. One that is presented as the other kind is NOT_FOUND."""

    KEY = "key"
    SESSION = "session"

    __hash__ = object.__hash__  # see VerdictCode


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential. Its times are compared with the clock at each use.

    A credential that was revoked immediately, not by schedule, has the `revoke_time` ALWAYS, so that it stays
    revoked when a clock is set back (rule 16). A session has an `activity`, a key has none.
    """

    credential_id: str
    owner_id: str
    scopes: tuple[str, ...]
    expire_time: datetime | None
    revoke_time: datetime | None
    annotations: Mapping[str, str]
    kind: CredentialKind = CredentialKind.KEY
    activity: Activity | None = None
    # Until when a key is disabled, by itself or by its owner's policy; FOREVER: until it is enabled.
    disabled_until: datetime | None = None
    # A key that may be used from some networks only.
    networks: AllowedNetworks | None = None
    # What an imported key is found by; empty for a key whose string begins with its prefix.
    look_up: str = ""
    # A key that has rate limits or credits, or whose owner has rate limits.
    limits: RateLimits | None = None
    # What a transport answers while the credential is valid, or the part of that which does not change; empty
    # until it was answered once. It is derived from the fields above, and is dropped with them.
    answer: bytes = field(default=b"", init=False, compare=False, repr=False)

    def prefix_of(self, text: str) -> str:
        """Return the prefix by which memory and the feed know this credential, whose string is `text`."""
        return self.look_up or text[:-TAIL_LENGTH]

    def keep_answer(self, answer: bytes) -> None:
        """Keep an answer, unless it is long: credentials are cached, so their size is bounded."""
        if len(answer) <= _MAX_ANSWER_BYTES:
            object.__setattr__(self, "answer", answer)


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """A credential with the stored hash of its secret: argon2id for keys, SHA-256 for sessions (ADR 10)."""

    credential: Credential
    secret_hash: str
    secret_origin: str
