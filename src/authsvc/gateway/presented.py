"""The credential in a request: where it may be, and which one it is.

Two different credentials are refused, since the proxy, authsvc and the upstream could each use another one.
So is a repeated header: proxies join its values by a comma, which no credential of ours contains. An empty
value counts as not sent. Only cookies of one name may be repeated: browsers send an old one beside a new
one that was set for another path or domain.

`authsvc.client.presented` reads calls by the same rules.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from authsvc.model.key_string import PATTERN, has_form

# By name in lower case; repeated headers are joined by commas.
Headers = Mapping[str, str]

BEARER, BASIC, API_KEY, COOKIE = "bearer", "basic", "x-api-key", "cookie:"
# Characters of a Basic credential, far more than a credential of ours and a user name have.
_MAX_LENGTH = 1024
# Cookies of one name that are verified; browsers send two or three.
_MAX_COOKIES = 4


class Presented(NamedTuple):
    """The credentials of a request, distinct and not empty, and the names of the headers that hold them.

    At most `max_texts` of them may be verified; with more, the credential is ambiguous.
    """

    texts: Sequence[str]
    headers: Sequence[str]
    max_texts: int = 1

    @property
    def ambiguous(self) -> bool:
        """Whether there are more credentials than may be verified."""
        return len(self.texts) > self.max_texts


NOTHING = Presented((), ())


class CredentialSources:
    """Where a credential may be: `bearer`, `basic`, `x-api-key`, `cookie:NAME`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._schemes = frozenset(names) & {BEARER, BASIC}
        self._among_others = re.compile(
            rf"(?:\A|,)\s*(?:{'|'.join(self._schemes)})(?:[\s,]|\Z)", re.IGNORECASE
        )
        self._api_key = API_KEY in names
        self._cookie = next((name.removeprefix(COOKIE) for name in names if name.startswith(COOKIE)), "")
        # Cookies of that name. Only `;` separates cookies (RFC 6265). But to some upstreams a comma does,
        # so a cookie after a comma is looked at. To others, such as Python's `http.cookies`, a blank does,
        # so a cookie after a blank is looked at if it has the form of a credential of ours. There is one
        # expression for each separator, since a header can hold many other cookies.
        name = re.escape(self._cookie)
        self._cookies = re.compile(rf"(?:\A|[;,])\s*{name}\s*(?:=([^;,]*)|(?=[;,]|\Z))")
        self._whole = re.compile(rf";\s*{name}\s*(?:=([^;]*)|(?=;|\Z))")
        self._behind_blank = re.compile(rf'(?<=[^;,\s])\s++{name}\s*=\s*("?{PATTERN}"?)(?=[;,\s]|\Z)')
        self._behind_comma = re.compile(rf",\s*{name}\s*=([^;,]*)")
        #: Whether a cookie may hold a credential.
        self.has_cookie = bool(self._cookie)
        #: The scheme of the challenge (RFC 9110): that of the first source that has one.
        self.scheme = next((name.title() for name in names if name in self._schemes), "ApiKey")

    def find(self, headers: Headers) -> Presented:
        """Return the credentials of a request."""
        texts: list[str] = []
        names: list[str] = []
        max_texts = 1
        if self._schemes and (value := headers.get("authorization")):
            found = self._authorized(value)
            if found is None:
                found, max_texts = [value], 0
            if found:
                texts += found
                names.append("authorization")
        if self._api_key and (value := headers.get(API_KEY)):
            text = _single(value)
            if text is None:
                text, max_texts = value, 0
            if text:
                texts.append(text)
                names.append(API_KEY)
        if self._cookie and (value := headers.get("cookie")) is not None and self._cookie in value:
            found, are_plain = self._in_cookies(value)
            if found:
                if not texts and are_plain:
                    max_texts = _MAX_COOKIES
                texts += found
                names.append("cookie")
        if len(texts) > 1:
            texts = list(dict.fromkeys(texts))
        return Presented(texts, names, max_texts) if names else NOTHING

    def without_cookie(self, value: str, keep: str = "") -> str:
        """Return the value of a cookie header without credentials other than `keep`."""

        def kept(found: re.Match[str]) -> str:
            return found[0] if keep and _bare(found[1] or "") == keep else ""

        rest = self._whole.sub(kept, f";{value}")[1:]
        if self._cookie in rest and not keep:
            rest = self._behind_blank.sub("", rest)
            if self._behind_blank.search(rest):
                return ""  # crafted so that removing one credential leaves another
            rest = self._behind_comma.sub(lambda found: "" if has_form(_bare(found[1])) else found[0], rest)
        return rest.strip(" \t") if rest.strip("; \t") else ""

    def _in_cookies(self, value: str) -> tuple[list[str], bool]:
        """Return the values of our cookies, and whether all upstreams read the same cookies."""
        found, are_plain = [], True
        for match in self._cookies.finditer(value):
            if text := _bare(match[1] or ""):
                found.append(text)
                are_plain = are_plain and match[0][0] != "," and value[match.end() : match.end() + 1] != ","
        for match in self._behind_blank.finditer(value):
            found.append(_bare(match[1]))
            are_plain = False
        return found, are_plain

    def _authorized(self, value: str) -> list[str] | None:
        """Return the credentials of an authorization header, [] for another scheme; None if repeated."""
        single = _single(value)
        if single is None:
            return None if self._among_others.search(value) else []
        # At any white space: to many upstreams a tab separates as well.
        scheme, text = (*single.split(None, 1), "", "")[:2]
        if not text or (scheme := scheme.lower()) not in self._schemes:
            return []
        return [text] if scheme == BEARER else _basic(text)


def _single(value: str) -> str | None:
    """Return the stripped value of a header; None if it is repeated. Empty repetitions do not count.

    A comma separates repetitions.
    """
    if "," not in value:
        return value.strip()
    values = [text for part in value.split(",") if (text := part.strip())]
    return None if len(values) > 1 else "".join(values)


def _bare(value: str) -> str:
    """Return the value of a cookie without blanks and quotes around it."""
    return value.strip().strip('"')


def _basic(text: str) -> list[str]:
    """Return the credential of a user name and password: the one that has the form of a credential of ours.

    Some clients send the key without encoding it; base64 has no underscore. The bytes may be UTF-8 or Latin-1
    (RFC 7617); key strings are ASCII, which is the same in both.
    """
    if "_" in text or len(text) > _MAX_LENGTH:
        return [text]
    try:
        user, _, password = b64decode(text, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return [text]
    parts = [part for part in (user.strip(), password.strip()) if part]
    return [part for part in parts if has_form(part)] or parts[-1:]
