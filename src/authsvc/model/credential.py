"""What verification needs to know of a credential, and nothing else.

A cached credential stays in memory, so it is small: no name, no contacts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as a verifier sees it. Its times are judged anew at each use.

    One that was revoked at once, not scheduled, has `revoke_time` ALWAYS, so that no
    clock that was set back brings it to life (rule 16).
    """

    credential_id: str
    owner_id: str
    scopes: tuple[str, ...]
    expire_time: datetime | None
    revoke_time: datetime | None
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """A credential with its proof at rest: `secret_hash` is an argon2id string."""

    credential: Credential
    secret_hash: str
    secret_origin: str
