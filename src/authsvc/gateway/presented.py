"""The credential in a request: where it may stand, and which it is.

Two different ones in a request are refused, since the proxy, we and the upstream may each believe another. So
is a header that came twice: proxies join those by a comma, which no credential of ours has. What is empty
counts as not sent. Only cookies of one name may be several: browsers send an old one beside a new one that
was set for another path or domain.

`authsvc.client.presented` reads calls by the same rules.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from authsvc.model.key_string import PATTERN, has_form

# By names in lower case; several of one name are joined by commas.
Headers = Mapping[str, str]

BEARER, BASIC, API_KEY, COOKIE = "bearer", "basic", "x-api-key", "cookie:"
# No credential of ours is near that, with a user's name beside it.
_MAX_LENGTH = 1024
# So many cookies of one name are judged; browsers send two or three.
_MAX_COOKIES = 4


class Presented(NamedTuple):
    """What a request shows: the distinct credentials, none of them empty, and the headers that they stand in.

    No more than `most` of them may be judged; where there are more, nobody can say which one is meant.
    """

    texts: Sequence[str]
    headers: Sequence[str]
    most: int = 1

    @property
    def ambiguous(self) -> bool:
        """Whether more are shown than may be judged."""
        return len(self.texts) > self.most


NOTHING = Presented((), ())


class CredentialSources:
    """Where a credential may stand: `bearer`, `basic`, `x-api-key`, `cookie:NAME`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._schemes = frozenset(names) & {BEARER, BASIC}
        self._among_others = re.compile(
            rf"(?:\A|,)\s*(?:{'|'.join(self._schemes)})(?:[\s,]|\Z)", re.IGNORECASE
        )
        self._api_key = API_KEY in names
        self._cookie = next((name.removeprefix(COOKIE) for name in names if name.startswith(COOKIE)), "")
        # A cookie of that name. Only `;` separates cookies (RFC 6265), but to some upstreams a comma does,
        # so one behind a comma is looked at; to others, Python's `http.cookies` among them, a blank does, so
        # one behind a blank is looked at when it has the form of ours. One expression for each separator,
        # since a header can hold many others.
        name = re.escape(self._cookie)
        self._cookies = re.compile(rf"(?:\A|[;,])\s*{name}\s*(?:=([^;,]*)|(?=[;,]|\Z))")
        self._whole = re.compile(rf";\s*{name}\s*(?:=([^;]*)|(?=;|\Z))")
        self._behind_blank = re.compile(rf'(?<=[^;,\s])\s++{name}\s*=\s*("?{PATTERN}"?)(?=[;,\s]|\Z)')
        self._behind_comma = re.compile(rf",\s*{name}\s*=([^;,]*)")
        #: Whether a cookie is one of the places.
        self.has_cookie = bool(self._cookie)
        #: What a client is asked for (RFC 9110): the scheme of the first carrier that has one.
        self.scheme = next((name.title() for name in names if name in self._schemes), "ApiKey")

    def find(self, headers: Headers) -> Presented:
        """Return what a request shows, in the places where we look."""
        texts: list[str] = []
        names: list[str] = []
        most = 1
        if self._schemes and (value := headers.get("authorization")):
            found = self._authorized(value)
            if found is None:
                found, most = [value], 0
            if found:
                texts += found
                names.append("authorization")
        if self._api_key and (value := headers.get(API_KEY)):
            text = _single(value)
            if text is None:
                text, most = value, 0
            if text:
                texts.append(text)
                names.append(API_KEY)
        if self._cookie and (value := headers.get("cookie")) is not None and self._cookie in value:
            found, are_plain = self._in_cookies(value)
            if found:
                if not texts and are_plain:
                    most = _MAX_COOKIES
                texts += found
                names.append("cookie")
        if len(texts) > 1:
            texts = list(dict.fromkeys(texts))
        return Presented(texts, names, most) if names else NOTHING

    def without_cookie(self, value: str, keep: str = "") -> str:
        """Return the value of a cookie header without credentials but `keep`; all else stays as it is."""

        def kept(found: re.Match[str]) -> str:
            return found[0] if keep and _bare(found[1] or "") == keep else ""

        rest = self._whole.sub(kept, f";{value}")[1:]
        if self._cookie in rest and not keep:
            rest = self._behind_blank.sub("", rest)
            if self._behind_blank.search(rest):
                return ""  # made so that one comes of what is left
            rest = self._behind_comma.sub(lambda found: "" if has_form(_bare(found[1])) else found[0], rest)
        return rest.strip(" \t") if rest.strip("; \t") else ""

    def _in_cookies(self, value: str) -> tuple[list[str], bool]:
        """Return what our cookies hold, and whether to everybody these are the same cookies."""
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
        """Return what stands in an authorization header, nothing for a scheme of others; None for several."""
        single = _single(value)
        if single is None:
            return None if self._among_others.search(value) else []
        # By any white space: to many upstreams a tab separates as well.
        scheme, text = (*single.split(None, 1), "", "")[:2]
        if not text or (scheme := scheme.lower()) not in self._schemes:
            return []
        return [text] if scheme == BEARER else _basic(text)


def _single(value: str) -> str | None:
    """Return the value of a header without blanks around it; None if it came more than once.

    A header that was empty the other times came once.
    """
    if "," not in value:
        return value.strip()
    values = [text for part in value.split(",") if (text := part.strip())]
    return None if len(values) > 1 else "".join(values)


def _bare(value: str) -> str:
    """Return the value of a cookie without blanks and quotes around it."""
    return value.strip().strip('"')


def _basic(text: str) -> list[str]:
    """Return the credential of a user's name and password: whichever has the form of ours.

    Some clients send the key as it is, without encoding it; no base64 has an underscore. The bytes may be
    UTF-8 or Latin-1 (RFC 7617), whose ASCII is the same, and a key string has nothing else.
    """
    if "_" in text or len(text) > _MAX_LENGTH:
        return [text]
    try:
        user, _, password = b64decode(text, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return [text]
    parts = [part for part in (user.strip(), password.strip()) if part]
    return [part for part in parts if has_form(part)] or parts[-1:]
