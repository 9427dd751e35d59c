"""The credential that a call presents: in `authorization: Bearer …` (RFC 6750) or in `x-api-key`."""

from collections.abc import Iterable

from authsvc.client.refusal import unauthenticated
from authsvc.client.verdict import CredentialType

_SESSION = "session"


def presented_in(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the one credential in a call's metadata.

    Raises Refusal when there is none, one of another scheme, or two that differ: whose rights would count?
    """
    found = set()
    for name, value in metadata:
        text = value if isinstance(value, str) else ""  # no text, no credential
        if name == "authorization":
            scheme, _, rest = text.strip().partition(" ")
            if scheme.lower() != "bearer":
                raise unauthenticated(
                    "the authorization header has another scheme; use: Bearer <key string>",
                    "CREDENTIAL_SCHEME",
                )
            found.add(rest.strip())
        elif name == "x-api-key":
            found.add(text.strip())
    if not found:
        raise unauthenticated("send your key: authorization: Bearer <key string>", "CREDENTIAL_MISSING")
    if len(found) > 1:
        raise unauthenticated("send one credential, not several", "CREDENTIAL_AMBIGUOUS")
    return found.pop()


def type_of(credential: str) -> CredentialType:
    """Return what it is by its form: the second part of a session token is `session`."""
    parts = credential.split("_", 2)
    return CredentialType.SESSION if len(parts) == 3 and parts[1] == _SESSION else CredentialType.KEY
