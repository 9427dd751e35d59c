"""The credential that a call presents: in `authorization: Bearer …` (RFC 6750) or in `x-api-key`.

The rules are those of `authsvc.gateway.presented`, which this package does not import. An empty header
counts as not sent. A header that is sent twice is refused, on two lines or joined with a comma.
"""

from collections.abc import Iterable, Sequence

from authsvc.client.refusal import Refusal, unauthenticated
from authsvc.client.verdict import CredentialType

_SESSION = "session"


def presented_in(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the one credential in the metadata of a call, without surrounding whitespace.

    Raises Refusal if there is none, or one with another scheme, or several: it is unclear which one counts.
    """
    authorizations: list[str] = []
    api_keys: list[str] = []
    for name, value in metadata:
        if not isinstance(value, str):  # binary, so not a credential
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
    """Return the type of a credential by its form: the second part of a session token is `session`."""
    parts = credential.split("_", 2)
    return CredentialType.SESSION if len(parts) == 3 and parts[1] == _SESSION else CredentialType.KEY


def _values(lines: Iterable[str]) -> list[str]:
    """Return the values of a header that are not empty. Proxies join those of several lines with commas."""
    return [text for line in lines for part in line.split(",") if (text := part.strip())]


def _one(values: Sequence[str]) -> str:
    if len(values) > 1:
        raise _several()
    return values[0] if values else ""


def _bearer(values: Sequence[str]) -> str:
    # A value of another scheme can contain commas.
    if values and not any(value.split(None, 1)[0].lower() == "bearer" for value in values):
        raise unauthenticated(
            "the authorization header has an unsupported scheme; use: Bearer <key string>",
            "CREDENTIAL_SCHEME",
        )
    return "".join(_one(values).split(None, 1)[1:])


def _several() -> Refusal:
    return unauthenticated("send exactly one credential", "CREDENTIAL_AMBIGUOUS")
