"""The path of an HTTP request, in a form that can be read in one way only.

Scopes are found by the path, so a path is refused if the application could read it as another one:
`/public/../admin`, `//admin`, `/admin;x`, escaped slashes and double escapes. The rules are those of
`authsvc.gateway.path`, which this package does not import. Servers of WSGI and ASGI have decoded the path
already; most of them give the raw one as well.
"""

import re
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

# Characters that a raw path may hold unescaped: visible ASCII without delimiters.
_RAW = re.compile(r"/(?:[!\"$&'()*+,\-./0-9:<=>@A-Z\[\]^_`a-z{|}~]|%(?!2[fF])[0-9A-Fa-f]{2})*")
_PLAIN = re.compile(r"(?:/[!\"$&'()*+,\-0-9:<=>@A-Z\[\]^_`a-z{|}~]+)*/?")
# Delimiters to some applications, perhaps after decoding once more, and control characters.
_REFUSED = re.compile(r"[\\%;?#\x00-\x1f\x7f-\x9f]")
# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties: invisible, and ignored by some frameworks.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SLASHES = re.compile(r"[/\\]")
_MAX_LENGTH = 8192


def canonical(path: str) -> str | None:
    """Return a decoded path without a trailing slash; None if it is to be refused. The root is ""."""
    if len(path) > _MAX_LENGTH or not path.startswith("/"):
        return None
    if _PLAIN.fullmatch(path) is None and (_REFUSED.search(path) or _has_steps(path)):
        return None
    return path.removesuffix("/")


def is_plain(target: str) -> bool:
    """Return whether a raw path, perhaps with a query, can be decoded in one way only."""
    raw = target.partition("?")[0]
    if len(raw) > _MAX_LENGTH or _RAW.fullmatch(raw) is None:
        return False
    try:
        return canonical(unquote_to_bytes(raw).decode()) is not None
    except UnicodeDecodeError:
        return False


def lenient(path: str) -> str:
    """Return a decoded path as some file systems and frameworks read it: normalized, only what is visible."""
    return path if path.isascii() else normalize("NFKC", _IGNORABLE.sub("", path))


def _has_steps(path: str) -> bool:
    """Return whether an application could drop a segment of a path, or go up by one."""
    segments = [segment.strip() for segment in _SLASHES.split(lenient(path).removesuffix("/"))]
    return "." in segments or ".." in segments or "" in segments[1:]
