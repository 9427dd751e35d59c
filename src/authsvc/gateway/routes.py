"""The route table: which scopes a request needs, by method and path. First match wins; no match is refused.

    [[route]]
    path = "/health"
    public = true

    [[route]]
    methods = ["POST"]
    path = "/orders/*/cancel"
    scopes = ["orders:write"]

    [[route]]
    path = "/orders/**"
    any = true

`*` is one segment, `**` at the end any number of them. A slash at the end of a path does not count. Whether
letters are capital does; but a path that would lead to another route otherwise is refused, since to some
upstreams it does not. So it is with full-width letters and invisible characters.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from authsvc.config.file import text_of
from authsvc.config.settings import ConfigError
from authsvc.gateway.path import canonical, lenient
from authsvc.model.catalogue import Catalogue
from authsvc.model.scope import is_scope

SETTING = "AUTHSVC_ROUTES"

_METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")
# No wildcards of other tables, {id} or :id, which would be taken for a name.
_SEGMENT = re.compile(r"(?!:)[^/*%?#;{}\\\x00-\x20\x7f]+")
_KNOWN = ("path", "methods", "scopes", "public", "any")
_EXAMPLE = '[[route]] path = "/orders/**" scopes = ["orders:read"]'


class Access(NamedTuple):
    """What a route needs: nothing, when it is public, or a credential with these scopes."""

    public: bool
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Route:
    methods: frozenset[str]  # empty: all
    segments: tuple[str, ...]
    access: Access

    def takes(self, method: str) -> bool:
        return not self.methods or method in self.methods

    def covers(self, other: "_Route") -> bool:
        """Say whether nothing can reach `other` that comes after this."""
        if self.methods and not (other.methods and other.methods <= self.methods):
            return False
        mine = tuple(segment.lower() for segment in self.segments)
        others = tuple(segment.lower() for segment in other.segments)
        if mine[-1:] == ("**",):
            mine, others = mine[:-1], others[: len(mine) - 1]
        return len(mine) == len(others) and all(
            one == another or (one == "*" and another != "**")
            for one, another in zip(mine, others, strict=True)
        )


class _Matcher:
    """Finds the first of some routes in one go: one group a route, and the one that matched tells which."""

    def __init__(self, routes: Sequence[_Route]) -> None:
        self._accesses = [route.access for route in routes]
        paths = [route.segments for route in routes]
        self._exact = re.compile(_pattern(paths))
        self._loose = re.compile(_pattern([map(lenient, path) for path in paths]), re.IGNORECASE)

    def find(self, path: str) -> Access | None:
        exact, loose = self._exact.fullmatch(path), self._loose.fullmatch(lenient(path))
        if exact is None or loose is None or exact.lastindex is None or exact.lastindex != loose.lastindex:
            return None
        return self._accesses[exact.lastindex - 1]


class Routes:
    """A table that was read and found to be in order."""

    def __init__(self, routes: Sequence[_Route]) -> None:
        named = {method for route in routes for method in route.methods}
        self._by_method = {
            method: _Matcher([route for route in routes if route.takes(method)]) for method in named
        }
        self._others = _Matcher([route for route in routes if not route.methods])

    def find(self, method: str, target: str) -> Access | None:
        """Return what a request needs; None when no route names it, or when its path is ambiguous."""
        if _METHOD.fullmatch(method) is None or (path := canonical(target)) is None:
            return None
        return self._by_method.get(method, self._others).find(path)


def parse(catalogue: Catalogue, contents: Mapping[str, bytes]) -> Routes:
    """Return the table in a file of TOML; raise ConfigError that names the entry and what to do.

    A scope that no credential can have is one that was mistyped, and refused, too.
    """
    try:
        document = tomllib.loads(text_of(contents[SETTING]))
    except UnicodeDecodeError:
        raise ConfigError(f"{SETTING}: the file is not UTF-8; write it anew") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{SETTING}: the file is no TOML: {error}") from None
    tables = document.pop("route", None)
    if document:
        raise ConfigError(
            f"{SETTING}: {', '.join(sorted(document))}: unknown; entries are tables like {_EXAMPLE}"
        )
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{SETTING}: the file has no entry, so nothing would pass; write {_EXAMPLE}")
    routes: list[_Route] = []
    for number, table in enumerate(tables, 1):
        route = _route(number, table, catalogue)
        for earlier, other in enumerate(routes, 1):
            if other.covers(route):
                _wrong(
                    number, table, f"is never reached, since route {earlier} covers it; put it before that"
                )
        routes.append(route)
    return Routes(routes)


def _route(number: int, table: object, catalogue: Catalogue) -> _Route:
    if not isinstance(table, dict):
        _wrong(number, table, f"is no table; write {_EXAMPLE}")
    if unknown := sorted(table.keys() - set(_KNOWN)):
        _wrong(number, table, f"{', '.join(unknown)}: unknown; known are {', '.join(_KNOWN)}")
    return _Route(_methods(number, table), _segments(number, table), _access(number, table, catalogue))


def _segments(number: int, table: dict[str, object]) -> tuple[str, ...]:
    path = table.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        _wrong(number, table, 'path: write one that starts with a slash, for instance path = "/orders/*"')
    if path == "/":
        return ()
    segments = tuple(path[1:].split("/"))
    if segments[-1] == "":
        _wrong(number, table, f"path: leave out the slash at its end, which does not count: {path[:-1]}")
    for place, segment in enumerate(segments, 1):
        if segment == "*" or (segment == "**" and place == len(segments)):
            continue
        if _SEGMENT.fullmatch(segment) is None or segment in (".", ".."):
            _wrong(
                number,
                table,
                f"path: {segment!r} is no segment; write it decoded, * for any one, "
                "and ** at the end for any number of them",
            )
    return segments


def _methods(number: int, table: dict[str, object]) -> frozenset[str]:
    if "methods" not in table:
        return frozenset()
    methods = table["methods"]
    if not isinstance(methods, list) or not methods:
        _wrong(number, table, 'methods: write a list like ["GET", "POST"], or leave it out for all')
    for method in methods:
        if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
            _wrong(number, table, f"methods: {method!r} is no method; write capital letters, like GET")
    # A HEAD is a GET whose body nobody wants.
    return frozenset(methods) | ({"HEAD"} if "GET" in methods else frozenset())


def _access(number: int, table: dict[str, object], catalogue: Catalogue) -> Access:
    told = [name for name in ("scopes", "public", "any") if name in table]
    if len(told) != 1:
        _wrong(
            number,
            table,
            "say what it needs, once: scopes = [...], any = true for any valid credential, "
            "or public = true for none",
        )
    value = table[told[0]]
    if told[0] != "scopes":
        if value is not True:
            _wrong(number, table, f"{told[0]}: write true, or leave it out")
        return Access(public=told[0] == "public")
    if not isinstance(value, list) or not value:
        _wrong(number, table, 'scopes: write a list like ["orders:read"], or any = true')
    for scope in value:
        if not isinstance(scope, str) or not is_scope(scope):
            _wrong(number, table, f"scopes: {scope!r} is no scope; use a form like orders:read")
        if problem := catalogue.problem(scope):
            _wrong(number, table, f"scopes: {problem}")
    return Access(public=False, scopes=tuple(value))


def _wrong(number: int, table: object, problem: str) -> NoReturn:
    path = table.get("path") if isinstance(table, dict) else None
    raise ConfigError(f"{SETTING}: route {number}{f' ({path})' if isinstance(path, str) else ''}: {problem}")


def _pattern(paths: Iterable[Iterable[str]]) -> str:
    """Return an expression with one group for each path."""
    wildcards = {"*": "/[^/]+", "**": "(?:/.*)?"}
    groups = (
        "".join(wildcards.get(segment) or "/" + re.escape(segment) for segment in path) for path in paths
    )
    return "|".join(f"({group})" for group in groups) or r"(?!)"
