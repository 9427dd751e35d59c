"""The path of a request in a form that all upstreams read alike.

A route is found by the path, so a path that the upstream could read as another path is refused:
`/public/../admin`, `/public%2f..%2fadmin`, `//admin`, `/admin;x`, and double encoding. Escapes that
everybody decodes alike are decoded, so `/%61dmin` is `/admin`. Control characters are refused. Everything
else is a name, in any script.
"""

import re
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

# Characters that a segment may hold unescaped: visible ASCII without delimiters. RFC 3986 requires some of
# them to be escaped; some proxies do that, and others do not.
_CHARACTERS = r"!\"$&'()*+,\-.0-9:<=>@A-Z\[\]^_`a-z{|}~"
_PLAIN = re.compile(rf"(?:/[{_CHARACTERS}]+)*/?")
_ESCAPED = re.compile(rf"(?:/(?:[{_CHARACTERS}]|%[0-9A-Fa-f]{{2}})+)*/?")
# Delimiters to some upstreams after decoding once or twice. `;` begins parameters, which some cut off.
_DELIMITERS = frozenset("/\\%;?#")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties: invisible, and ignored by some upstreams.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What an upstream may read otherwise than the proxy that found the route: parameters, dot segments, escaped
# delimiters, double escapes, overlong UTF-8, controls. The files in deploy/ refuse the same.
_DISGUISED = re.compile(
    r"[;\\#\x00-\x20\x7f]|%(?:3b|5c|2f|25[0-9a-f]{2}|[01][0-9a-f]|7f|c[01])|/(?:\.|%2e){1,2}(?:/|\Z)"
    # Overlong UTF-8, each byte escaped or raw; raw bytes are matched with their case.
    r"|(?-i:[\xc0\xc1])|(?:%e0|(?-i:\xe0))(?:%[89]|[\x80-\x9f])|(?:%f0|(?-i:\xf0))(?:%8|[\x80-\x8f])",
    re.IGNORECASE,
)
_SLASHES = re.compile(r"[/\\]")
# Characters. Servers should accept at least 8000 octets, with the query (RFC 9110, 4.1).
_MAX_LENGTH = 8192


def canonical(target: str) -> str | None:
    """Return the decoded path of a target without a trailing slash; None if it is to be refused.

    The root is "". The query is ignored. A path of more than 8192 characters is refused.
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
    """Return whether an upstream may read the path of a target otherwise than the proxy before it.

    The target is decoded as ISO-8859-1. This is for routes that the proxy has found, and refuses less than
    `canonical`: names in any encoding, and delimiters that appear only after decoding twice, are left to the
    upstream.
    """
    return _DISGUISED.search(target.partition("?")[0]) is not None


def lenient(path: str) -> str:
    """Return a decoded path as some file systems and frameworks read it.

    Invisible characters are removed, and the rest is normalized to NFKC, which turns full-width letters into
    ordinary ones.
    """
    return path if path.isascii() else normalize("NFKC", _IGNORABLE.sub("", path))


def _has_steps(path: str) -> bool:
    """Return whether an upstream could drop a segment of a path, or go up by one."""
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
