"""The path of a request, in the one form that everybody reads alike, or not at all.

A route is found by the path, so a path that the upstream could read as another one must not be matched: not
`/public/../admin`, `/public%2f..%2fadmin`, `//admin`, `/admin;x`, `/%61dmin` as it is, or what is encoded
twice.
Escapes that mean one character to everybody are decoded; whatever is left to interpretation is refused.
"""

import re
from urllib.parse import unquote_to_bytes

# Segments of what RFC 3986 lets stand in a path, without `;`, which some cut off with what follows.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()*+,=:@]+)*/?")
_ESCAPED = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-Fa-f]{2})+)*/?")
# What is a delimiter to somebody once it is decoded, or once more.
_DELIMITERS = frozenset("/\\%;?#")
# What servers have to take at least is 8000 octets, the query included (RFC 9110, 4.1).
_LONGEST = 8192


def canonical(target: str) -> str | None:
    """Return the decoded path of a request's target, without a slash at its end; None for one to be refused.

    The root is "". The query does not count. A path of more than 8192 characters is refused.
    """
    path = target.partition("?")[0]
    if not path.startswith("/") or len(path) > _LONGEST:
        return None
    if _PLAIN.fullmatch(path) is None:
        decoded = _decoded(path)
        if decoded is None:
            return None
        path = decoded
    if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
        return None
    return path.removesuffix("/")


def _decoded(path: str) -> str | None:
    if _ESCAPED.fullmatch(path) is None:
        return None
    segments = []
    for segment in path.split("/"):
        try:
            decoded = unquote_to_bytes(segment).decode()
        except UnicodeDecodeError:
            return None
        if not decoded.isprintable() or not _DELIMITERS.isdisjoint(decoded):
            return None
        segments.append(decoded)
    return "/".join(segments)
