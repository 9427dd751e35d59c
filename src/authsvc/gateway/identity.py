"""Who a request comes from, as the upstream is told: headers that nobody else can set."""

from collections.abc import Iterable

from authsvc.model.credential import Credential, CredentialKind

KEY_ID, SESSION_ID = "x-auth-key-id", "x-auth-session-id"
OWNER_ID, SCOPES, KIND = "x-auth-owner-id", "x-auth-scopes", "x-auth-credential-type"
NAMES = (KEY_ID, SESSION_ID, OWNER_ID, SCOPES, KIND)

_ID = {CredentialKind.KEY: KEY_ID, CredentialKind.SESSION: SESSION_ID}


def headers(credential: Credential) -> list[tuple[str, str]]:
    """Return what the upstream is told of a credential; of what is not in it, it is told nothing."""
    return [
        (_ID[credential.kind], credential.credential_id),
        (OWNER_ID, credential.owner_id),
        (SCOPES, " ".join(credential.scopes)),
        (KIND, credential.kind.value),
    ]


def imitations(names: Iterable[str]) -> list[str]:
    """Return those of a request's header names that some upstreams take for ours: `x_auth_owner_id`.

    To CGI and its heirs a hyphen and an underscore are one.
    """
    return [name for name in names if "_" in name and name.lower().replace("_", "-") in NAMES]
