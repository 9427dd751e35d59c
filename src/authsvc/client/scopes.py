"""Scopes as arguments."""

from collections.abc import Iterable
from typing import TypeAlias

#: Scopes as an argument: one, or several.
Scopes: TypeAlias = str | Iterable[str]


def scopes_of(scopes: Scopes) -> tuple[str, ...]:
    """Return scopes, given as one string or several. Raise ValueError for an invalid scope."""
    found = (scopes,) if isinstance(scopes, str) else tuple(scopes)
    for scope in found:
        if not isinstance(scope, str) or not scope.isascii() or not scope.isprintable() or not scope.strip():
            raise ValueError(f"{scope!r} is not a valid scope; use a form like orders:read")
    return found
