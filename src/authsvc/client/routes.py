"""Which scopes an HTTP request requires, by its method and path. A request that is not listed is refused.

    {
        "/orders/**": "orders:read",            # all methods; ** is any number of segments, at the end
        "POST,PUT /orders/*": "orders:write",   # * is one segment; GET includes HEAD
        "/me": [],                              # any valid credential
    }

The most specific pattern counts, in any order of the entries: from left to right, a name takes precedence
over `*`, and that over `**`; of two patterns with the same path, the one with a method does. A slash at the
end of a path is ignored. Paths are case-sensitive; but a path that would match another pattern if case were
ignored is refused, since some applications ignore case. The same holds for full-width letters and invisible
characters. This is how `authsvc.gateway.routes` reads paths; there, the first match counts.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from authsvc.client.access import Rule, Scopes
from authsvc.client.path import lenient
from authsvc.client.scopes import scopes_of

_METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")
# No wildcards of frameworks, {id}, <id> or :id, which would be taken for a name.
_SEGMENT = re.compile(r"(?![:<])[^/*%?#;{}\\\x00-\x20\x7f]+")
_EXAMPLE = "GET /orders/*"
_WILDCARDS = {"*": "/[^/]+", "**": "(?:/.*)?"}

# The segments of a path.
_Segments = tuple[str, ...]


class _Matcher:
    """Finds the most specific of some patterns by one expression with one group per pattern."""

    def __init__(self, rules: Mapping[_Segments, Rule]) -> None:
        ordered = sorted(rules, key=lambda segments: [*map(_rank, segments)])
        self._rules = [rules[segments] for segments in ordered]
        self._exact = re.compile(_expression(ordered))
        self._loose = re.compile(
            _expression([tuple(map(lenient, segments)) for segments in ordered]), re.IGNORECASE
        )

    def find(self, path: str) -> Rule | None:
        exact, loose = self._exact.fullmatch(path), self._loose.fullmatch(lenient(path))
        if exact is None or loose is None or exact.lastindex is None or exact.lastindex != loose.lastindex:
            return None
        return self._rules[exact.lastindex - 1]


class Routes:
    """Rules by method and path, or one rule for all but the public requests."""

    def __init__(self, scopes: Scopes | Mapping[str, Scopes], public: Iterable[str]) -> None:
        """Take the scopes of all requests, or a mapping from patterns to scopes, and public patterns.

        Raises ValueError for an invalid pattern or scope, for patterns that are listed twice, and if nothing
        is listed.
        """
        if isinstance(public, str):
            raise TypeError("public takes a list of patterns, not a string")
        self._for_all = None if isinstance(scopes, Mapping) else _rule(scopes)
        # By method, or "" for all methods.
        listed: dict[str, dict[_Segments, Rule]] = {"": {}}
        for pattern, needed in scopes.items() if isinstance(scopes, Mapping) else ():
            _add(listed, pattern, _rule(needed))
        for pattern in public:
            _add(listed, pattern, Rule((), is_public=True))
        #: Whether requests differ in what they require.
        self.differ = any(listed.values())
        if self._for_all is None and not self.differ:
            raise ValueError(
                f'no path is listed, so every request would be refused; list one, like "{_EXAMPLE}"'
            )
        self._others = _Matcher(listed[""])
        self._by_method = {
            method: _Matcher({**listed[""], **rules}) for method, rules in listed.items() if method
        }

    def rule(self, method: str, path: str | None) -> Rule | None:
        """Return what a request requires, or None if it is refused. `path` is None if it is ambiguous."""
        if path is None or _METHOD.fullmatch(method) is None:
            return self._for_all
        return self._by_method.get(method, self._others).find(path) or self._for_all


def _rule(scopes: Scopes) -> Rule:
    if not isinstance(scopes, Iterable):
        raise TypeError(f"scopes takes a scope or a list of scopes, not {scopes!r}")
    return Rule(scopes_of(scopes))


def _add(listed: dict[str, dict[_Segments, Rule]], pattern: str, rule: Rule) -> None:
    for method, segments in _read(pattern):
        rules = listed.setdefault(method, {})
        if segments in rules:
            raise ValueError(
                f"{pattern!r}: {method or 'the path'} is listed twice for this path (GET includes HEAD)"
            )
        for other in {other for rules in listed.values() for other in rules} - {segments}:
            if [*map(_folded, segments)] == [*map(_folded, other)]:
                raise ValueError(f"{pattern!r}: /{'/'.join(other)} is listed, which differs only by case")
        rules[segments] = rule


def _read(pattern: str) -> Iterator[tuple[str, _Segments]]:
    """Yield each method of a pattern, or "" for all, with the segments of the path."""
    if not isinstance(pattern, str):
        raise TypeError(f"{pattern!r} is not a pattern; use a string like {_EXAMPLE!r}")
    methods, _, path = pattern.rpartition(" ")
    if not path.startswith("/"):
        raise ValueError(f"{pattern!r} is not a valid pattern; use a form like {_EXAMPLE!r} or '/orders/**'")
    segments = tuple(path[1:].split("/")) if path != "/" else ()
    if segments and segments[-1] == "":
        raise ValueError(f"{pattern!r}: leave out the slash at its end, which is ignored")
    for place, segment in enumerate(segments, 1):
        if segment == "*" or (segment == "**" and place == len(segments)):
            continue
        if _SEGMENT.fullmatch(segment) is None or segment in (".", ".."):
            raise ValueError(
                f"{pattern!r}: {segment!r} is not a valid segment; write it decoded, * for any one segment, "
                "and ** at the end for any number of them"
            )
    if not methods:
        yield "", segments
        return
    named = dict.fromkeys(method.strip() for method in methods.split(","))
    for method in named:
        if _METHOD.fullmatch(method) is None:
            raise ValueError(f"{pattern!r}: {method!r} is not a method; use capital letters, like GET")
    # A HEAD is a GET without the body of the response.
    for method in {**named, "HEAD": None} if "GET" in named else named:
        yield method, segments


def _folded(segment: str) -> str:
    return lenient(segment).casefold()


def _rank(segment: str) -> int:
    return ("*", "**").index(segment) + 1 if segment in _WILDCARDS else 0


def _expression(patterns: Iterable[_Segments]) -> str:
    """Return an expression with one group for each pattern."""
    groups = (
        "".join(_WILDCARDS.get(segment) or "/" + re.escape(segment) for segment in segments)
        for segments in patterns
    )
    return "|".join(f"({group})" for group in groups) or r"(?!)"
