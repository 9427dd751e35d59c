"""Which scopes each method requires. A method that is not listed is refused."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from authsvc.client.scopes import scopes_of

_PATTERN = re.compile(r"/?([A-Za-z_][A-Za-z0-9_.]*/(?:[A-Za-z_][A-Za-z0-9_]*|\*))")

Scopes = str | Iterable[str]


class Rule(NamedTuple):
    """What a method requires of its caller: all of these scopes, or no credential if it is public."""

    scopes: tuple[str, ...]
    is_public: bool = False


class Access:
    """Rules by method. A method's own rule takes precedence over its service's, and that over the default."""

    def __init__(self, scopes: Scopes | Mapping[str, Scopes], public: Iterable[str]) -> None:
        """Take the scopes of all methods, or a mapping from patterns to scopes, and public patterns.

        A pattern is `package.Service/Method` or `package.Service/*`. Raises ValueError for an invalid
        pattern or scope, and for a pattern that is listed twice.
        """
        if isinstance(public, str):
            raise TypeError("public takes a list of patterns, not a string")
        self._for_all = None if isinstance(scopes, Mapping) else Rule(scopes_of(scopes))
        self._rules: dict[str, Rule] = {}
        for pattern, needed in scopes.items() if isinstance(scopes, Mapping) else ():
            self._add(pattern, Rule(scopes_of(needed)))
        for pattern in public:
            self._add(pattern, Rule((), is_public=True))

    def rule(self, method: str) -> Rule | None:
        """Return the rule for `/package.Service/Method`, or None if it is not listed."""
        of_service = method.rpartition("/")[0] + "/*"
        return self._rules.get(method) or self._rules.get(of_service) or self._for_all

    def _add(self, pattern: str, rule: Rule) -> None:
        match = _PATTERN.fullmatch(pattern)
        if match is None:
            raise ValueError(
                f"{pattern!r} is not a valid pattern; use package.Service/Method or package.Service/*"
            )
        method = f"/{match[1]}"
        if method in self._rules:
            raise ValueError(f"{method} is listed twice")
        self._rules[method] = rule
