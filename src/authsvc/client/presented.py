"""The credential that a call presents: in `authorization: Bearer …` (RFC 6750) or in `x-api-key`.

The rules are those of `authsvc.gateway.presented`, which this package does not load: what is empty counts as
not sent, and a header that came twice is refused, whether each has a line or both are joined by a comma.
"""

from collections.abc import Iterable, Sequence

from authsvc.client.refusal import Refusal, unauthenticated
from authsvc.client.verdict import CredentialType

_SESSION = "session"


def presented_in(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the one credential in a call's metadata, without blanks around it.

    Raises Refusal when there is none, one of another scheme, or several: whose rights would count?
    """
    authorizations: list[str] = []
    api_keys: list[str] = []
    for name, value in metadata:
        if not isinstance(value, str):  # no text, no credential
            continue
        if name == "authorization":
            authorizations.append(value)
        elif name == "x-api-key":
            api_keys.append(value)
    found = {text for text in (_bearer(_values(authorizations)), _one(_values(api_keys))) if text}
    if not found:
        raise unauthenticated("send your key: authorization: Bearer <key string>", "CREDENTIAL_MISSING")
    if len(found) > 1:
        raise _several()
    return found.pop()


def type_of(credential: str) -> CredentialType:
    """Return what it is by its form: the second part of a session token is `session`."""
    parts = credential.split("_", 2)
    return CredentialType.SESSION if len(parts) == 3 and parts[1] == _SESSION else CredentialType.KEY


def _values(lines: Iterable[str]) -> list[str]:
    """Return the values of a header that are not empty; proxies join those of several lines by commas."""
    return [text for line in lines for part in line.split(",") if (text := part.strip())]


def _one(values: Sequence[str]) -> str:
    if len(values) > 1:
        raise _several()
    return values[0] if values else ""


def _bearer(values: Sequence[str]) -> str:
    # Other schemes have commas in one value.
    if values and not any(value.split(None, 1)[0].lower() == "bearer" for value in values):
        raise unauthenticated(
            "the authorization header has another scheme; use: Bearer <key string>", "CREDENTIAL_SCHEME"
        )
    return "".join(_one(values).split(None, 1)[1:])


def _several() -> Refusal:
    return unauthenticated("send one credential, once", "CREDENTIAL_AMBIGUOUS")
