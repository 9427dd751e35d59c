"""Scopes as people write them."""

from collections.abc import Iterable


def scopes_of(scopes: str | Iterable[str]) -> tuple[str, ...]:
    """Return scopes, of which one may be written by itself; raise ValueError for what is none."""
    found = (scopes,) if isinstance(scopes, str) else tuple(scopes)
    for scope in found:
        if not isinstance(scope, str) or not scope.isascii() or not scope.isprintable() or not scope.strip():
            raise ValueError(f"{scope!r} is no scope; use a form like orders:read")
    return found
