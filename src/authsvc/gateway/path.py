"""The path of a request, in the one form that everybody reads alike, or not at all.

A route is found by the path, so a path that the upstream could read as another one must not be matched: not
`/public/../admin`, `/public%2f..%2fadmin`, `//admin`, `/admin;x`, `/%61dmin` as it is, or what is encoded
twice.
Escapes that mean one character to everybody are decoded; whatever is left to interpretation is refused, and
so are control characters. Everything else is a name, in any script.
"""

import re
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

# What may stand in a segment as it is: visible ASCII without delimiters. RFC 3986 has some of it encoded;
# some proxies do that before they ask, and others do not.
_CHARACTERS = r"!\"$&'()*+,\-.0-9:<=>@A-Z\[\]^_`a-z{|}~"
_PLAIN = re.compile(rf"(?:/[{_CHARACTERS}]+)*/?")
_ESCAPED = re.compile(rf"(?:/(?:[{_CHARACTERS}]|%[0-9A-Fa-f]{{2}})+)*/?")
# What is a delimiter to somebody once it is decoded, or once more; `;` begins parameters, which some cut off.
_DELIMITERS = frozenset("/\\%;?#")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties: invisible, and left out by some.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What a usual upstream may read as another path than a proxy by which a route was found: parameters, steps,
# escapes of delimiters and of escapes, overlong UTF-8, controls. The files in deploy/ refuse the same.
_DISGUISED = re.compile(
    r"[;\\#\x00-\x20\x7f]|%(?:3b|5c|2f|25[0-9a-f]{2}|[01][0-9a-f]|7f|c[01])|/(?:\.|%2e){1,2}(?:/|\Z)"
    # Overlong UTF-8, each byte of it escaped or raw; raw ones are no letters with a case.
    r"|(?-i:[\xc0\xc1])|(?:%e0|(?-i:\xe0))(?:%[89]|[\x80-\x9f])|(?:%f0|(?-i:\xf0))(?:%8|[\x80-\x8f])",
    re.IGNORECASE,
)
_SLASHES = re.compile(r"[/\\]")
# What servers have to take at least is 8000 octets, the query included (RFC 9110, 4.1).
_MAX_LENGTH = 8192


def canonical(target: str) -> str | None:
    """Return the decoded path of a request's target, without a slash at its end; None for one to be refused.

    The root is "". The query does not count. A path of more than 8192 characters is refused.
    """
    path = target.partition("?")[0]
    if not path.startswith("/") or len(path) > _MAX_LENGTH:
        return None
    if _PLAIN.fullmatch(path) is None:
        decoded = _decoded(path)
        if decoded is None:
            return None
        path = decoded
    return None if _has_steps(path) else path.removesuffix("/")


def is_disguised(target: str) -> bool:
    """Say whether an upstream may read the path of a target as another one than the proxy before it.

    Bytes beyond ASCII are characters of ISO-8859-1. This is for routes that the proxy has found. It is less
    than `canonical` refuses: names in any encoding, and delimiters that are none to who decodes once, are the
    upstream's own business.
    """
    return _DISGUISED.search(target.partition("?")[0]) is not None


def lenient(path: str) -> str:
    """Return a decoded path as some file systems and frameworks read it.

    Invisible characters are left out, and the rest is normalized to NFKC, as which full-width letters are
    usual ones.
    """
    return path if path.isascii() else normalize("NFKC", _IGNORABLE.sub("", path))


def _has_steps(path: str) -> bool:
    """Say whether somebody could leave out a segment of a path, or go back by one."""
    if path.isascii() and "." not in path:
        return False
    segments = [segment.strip() for segment in _SLASHES.split(lenient(path).removesuffix("/"))]
    return "." in segments or ".." in segments or "" in segments[1:]


def _decoded(path: str) -> str | None:
    if _ESCAPED.fullmatch(path) is None:
        return None
    segments = []
    for segment in path.split("/"):
        try:
            decoded = unquote_to_bytes(segment).decode()
        except UnicodeDecodeError:
            return None
        if _CONTROLS.search(decoded) or not _DELIMITERS.isdisjoint(decoded):
            return None
        segments.append(decoded)
    return "/".join(segments)
