"""The credential in a request: where it may stand, and which it is.

Two different ones in a request are refused, since the proxy, we and the upstream may each believe another. So
is a header that came twice: proxies join those by a comma, which no credential of ours has.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from authsvc.model.key_string import has_form

# By names in lower case; several of one name are joined by commas.
Headers = Mapping[str, str]

BEARER, BASIC, API_KEY, COOKIE = "bearer", "basic", "x-api-key", "cookie:"
# No credential of ours is near that, with a user's name beside it.
_LONGEST = 1024
# Another credential in a header that was sent twice.
_ANOTHER = re.compile(r",\s*(?:bearer|basic)\s", re.IGNORECASE)


class Presented(NamedTuple):
    """What a request shows: the distinct credentials, and the names of the headers that they stand in."""

    texts: Sequence[str]
    headers: Sequence[str]


NOTHING = Presented((), ())


class Carriers:
    """Where a credential may stand: `bearer`, `basic`, `x-api-key`, `cookie:NAME`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._schemes = frozenset(names) & {BEARER, BASIC}
        self._api_key = API_KEY in names
        self._cookie = next((name.removeprefix(COOKIE) for name in names if name.startswith(COOKIE)), "")
        # A cookie of that name. Only `;` separates cookies (RFC 6265), but to some upstreams a comma does,
        # so one behind a comma is looked at. One expression, since a header can hold many others.
        name = re.escape(self._cookie)
        self._cookies = re.compile(rf"(?:\A|[;,])\s*{name}\s*(?:=([^;,]*)|(?=[;,]|\Z))")
        self._whole = re.compile(rf";\s*{name}\s*(?:=[^;]*|(?=;|\Z))")
        self._behind_comma = re.compile(rf",\s*{name}\s*=([^;,]*)")
        #: Whether a cookie is one of the places.
        self.has_cookie = bool(self._cookie)
        #: What a client is asked for (RFC 9110): the scheme of the first carrier that has one.
        self.scheme = next((name.title() for name in names if name in self._schemes), "ApiKey")

    def find(self, headers: Headers) -> Presented:
        """Return what a request shows, in the places where we look."""
        texts: list[str] = []
        names: list[str] = []
        if (value := headers.get("authorization")) is not None and (found := self._authorized(value)):
            texts += found
            names.append("authorization")
        if self._api_key and (value := headers.get(API_KEY)) is not None:
            texts += (value, "") if "," in value else (value.strip(),)
            names.append(API_KEY)
        if self._cookie and (value := headers.get("cookie")) is not None and self._cookie in value:
            found = [_bare(match[1] or "") for match in self._cookies.finditer(value)]
            if found:
                texts += found
                names.append("cookie")
        if len(texts) > 1:
            texts = list(dict.fromkeys(texts))
        return Presented(texts, names) if names else NOTHING

    def without_cookie(self, value: str) -> str:
        """Return the value of a cookie header without the credential; all else stays as it is."""
        rest = self._whole.sub("", f";{value}")[1:]
        if self._cookie in rest:
            rest = self._behind_comma.sub(lambda found: "" if has_form(_bare(found[1])) else found[0], rest)
        return rest.strip(" \t") if rest.strip("; \t") else ""

    def _authorized(self, value: str) -> list[str]:
        """Return what stands in an authorization header; nothing when it has a scheme of others."""
        # By any white space: to many upstreams a tab separates as well.
        scheme, text = (*value.split(None, 1), "", "")[:2]
        scheme, text = scheme.lower(), text.strip()
        if "," in value and (scheme in self._schemes or _ANOTHER.search(value)):
            return [value, text]
        if scheme not in self._schemes:
            return []
        return [text] if scheme == BEARER else _basic(text)


def _bare(value: str) -> str:
    """Return the value of a cookie without blanks and quotes around it."""
    return value.strip().strip('"')


def _basic(text: str) -> list[str]:
    """Return the credential of a user's name and password: whichever has the form of ours.

    Some clients send the key as it is, without encoding it; no base64 has an underscore.
    """
    if "_" in text or len(text) > _LONGEST:
        return [text]
    try:
        user, _, password = b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return [text]
    return [part for part in (user, password) if has_form(part)] or [password or user]
