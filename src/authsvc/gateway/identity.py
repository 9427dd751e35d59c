"""The headers that tell the upstream whose request it is; clients cannot set them."""

from collections.abc import Iterable

from authsvc.model.credential import Credential, CredentialKind

KEY_ID, SESSION_ID = "x-auth-key-id", "x-auth-session-id"
OWNER_ID, SCOPES, KIND = "x-auth-owner-id", "x-auth-scopes", "x-auth-credential-type"
NAMES = (KEY_ID, SESSION_ID, OWNER_ID, SCOPES, KIND)

_ID = {CredentialKind.KEY: KEY_ID, CredentialKind.SESSION: SESSION_ID}


def headers(credential: Credential | None) -> list[tuple[str, str]]:
    """Return the headers for the upstream; none without a credential."""
    if credential is None:
        return []
    return [
        (_ID[credential.kind], credential.credential_id),
        (OWNER_ID, credential.owner_id),
        (SCOPES, " ".join(credential.scopes)),
        (KIND, credential.kind.value),
    ]


def absent(credential: Credential | None) -> list[str]:
    """Return the names of our headers that are not set, and which the client may have sent."""
    if credential is None:
        return [*NAMES]
    return [SESSION_ID if credential.kind is CredentialKind.KEY else KEY_ID]


def imitations(names: Iterable[str]) -> list[str]:
    """Return the header names of a request that some upstreams confuse with ours: `x_auth_owner_id`.

    CGI and its successors do not distinguish hyphens from underscores.
    """
    return [name for name in names if "_" in name and name.lower().replace("_", "-") in NAMES]
