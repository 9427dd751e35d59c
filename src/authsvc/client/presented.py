"""The credential that a call presents: in `authorization: Bearer …` (RFC 6750) or in `x-api-key`.

HTTP requests may also present it in a cookie, if the service says in which one.

The rules are those of `authsvc.gateway.presented`, which this package does not import. An empty header
counts as not sent. A header that is sent twice is refused, on two lines or joined with a comma. Only cookies
of one name may be repeated.
"""

from collections.abc import Collection, Iterable, Sequence

from authsvc.client.cookies import Cookies
from authsvc.client.refusal import Refusal, unauthenticated
from authsvc.client.verdict import CredentialType

_SESSION = "session"
# Cookies of one name that are verified; browsers send two or three.
_MAX_COOKIES = 4
_NO_COOKIES = Cookies(())


def presented_in(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the one credential in the metadata of a call, without surrounding whitespace.

    Raises Refusal if there is none, or one with another scheme, or several: it is unclear which one counts.
    """
    [text] = candidates_in(metadata, _NO_COOKIES)
    return text


def candidates_in(headers: Iterable[tuple[str, str | bytes]], cookies: Cookies) -> Sequence[str]:
    """Return the credentials in the headers of a request, of which at most one may be valid.

    They are several only if they are cookies of one name. Raises Refusal as `presented_in` does.
    """
    authorizations: list[str] = []
    api_keys: list[str] = []
    cookie_lines: list[str] = []
    for name, value in headers:
        if not isinstance(value, str):  # binary, so not a credential
            continue
        if name == "authorization":
            authorizations.append(value)
        elif name == "x-api-key":
            api_keys.append(value)
        elif name == "cookie":
            cookie_lines.append(value)
    in_headers = [text for text in (_bearer(_values(authorizations)), _one(_values(api_keys))) if text]
    in_cookies, are_alike = cookies.find("; ".join(cookie_lines))
    found = list(dict.fromkeys((*in_headers, *in_cookies)))
    if not found:
        raise unauthenticated("send your key: authorization: Bearer <key string>", "CREDENTIAL_MISSING")
    if len(found) > (_MAX_COOKIES if are_alike and not in_headers else 1):
        raise ambiguous()
    return found


def accepted(types: Collection[CredentialType]) -> frozenset[CredentialType]:
    """Return the accepted types of credentials. Raise ValueError if there is none."""
    found = frozenset(map(CredentialType, types))
    if not found:
        raise ValueError("accept is empty; give at least one type of credential")
    return found


def type_of(credential: str) -> CredentialType:
    """Return the type of a credential by its form: the second part of a session token is `session`."""
    parts = credential.split("_", 2)
    return CredentialType.SESSION if len(parts) == 3 and parts[1] == _SESSION else CredentialType.KEY


def _values(lines: Iterable[str]) -> list[str]:
    """Return the values of a header that are not empty. Proxies join those of several lines with commas."""
    return [text for line in lines for part in line.split(",") if (text := part.strip())]


def _one(values: Sequence[str]) -> str:
    if len(values) > 1:
        raise ambiguous()
    return values[0] if values else ""


def _bearer(values: Sequence[str]) -> str:
    # A value of another scheme can contain commas.
    if values and not any(value.split(None, 1)[0].lower() == "bearer" for value in values):
        raise unauthenticated(
            "the authorization header has an unsupported scheme; use: Bearer <key string>",
            "CREDENTIAL_SCHEME",
        )
    return "".join(_one(values).split(None, 1)[1:])


def ambiguous() -> Refusal:
    """Return the refusal of several credentials: it is unclear which one counts."""
    return unauthenticated("send exactly one credential", "CREDENTIAL_AMBIGUOUS")
