"""What verification needs to know of a credential, and nothing else.

Keys and sessions are two kinds of one thing: presented, proved, judged, forgotten and
waited for in the same way. They differ in what a session has besides, its activity.

A cached credential stays in memory, so it is small: no name, no contacts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from authsvc.model.activity import Activity

ALWAYS = datetime.min.replace(tzinfo=UTC)


class CredentialKind(Enum):
    """What somebody may ask to have verified; one kind shown as the other is NOT_FOUND."""

    KEY = "key"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as a verifier sees it. Its times are judged anew at each use.

    One that was revoked at once, not scheduled, has `revoke_time` ALWAYS, so that no
    clock that was set back brings it to life (rule 16). A session has an `activity`, a
    key has none.
    """

    credential_id: str
    owner_id: str
    scopes: tuple[str, ...]
    expire_time: datetime | None
    revoke_time: datetime | None
    annotations: Mapping[str, str]
    kind: CredentialKind = CredentialKind.KEY
    activity: Activity | None = None
    # A key whose owner's policy has switched keys off; what brings it back is a change like any other.
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """A credential with its proof at rest: argon2id for a key's secret, SHA-256 for a session's (ADR 10)."""

    credential: Credential
    secret_hash: str
    secret_origin: str
