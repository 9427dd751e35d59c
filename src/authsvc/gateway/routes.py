"""The route table: which scopes a request needs, by method and path. First match wins; no match is refused.

    [[route]]
    path = "/health"
    public = true

    [[route]]
    methods = ["POST"]
    path = "/orders/*/cancel"
    scopes = ["orders:write"]

    [[route]]
    methods = ["GET"]
    path = "/orders/**"
    any_of_scopes = ["orders:read", "orders:write"]

    [[route]]
    path = "/orders/**"
    any = true

`*` is one segment, `**` at the end any number of them. A slash at the end of a path is ignored. Paths are
case-sensitive; but a path that would match another route if case were ignored is refused, since some
upstreams ignore case. The same holds for full-width letters and invisible characters.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from authsvc.config.reloaded_files import Contents, ReloadedFiles
from authsvc.config.scopes import checked_scope
from authsvc.config.settings import ConfigError
from authsvc.config.toml_table import TomlTable, TomlTables
from authsvc.gateway.path import canonical, lenient
from authsvc.model.catalogue import Catalogue

SETTING = "AUTHSVC_ROUTES"

_METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")
# No wildcards of other tables, {id} or :id, which would be taken for a name.
_SEGMENT = re.compile(r"(?!:)[^/*%?#;{}\\\x00-\x20\x7f]+")
_EXAMPLE = '[[route]] path = "/orders/**" scopes = ["orders:read"]'
_PATH_REMEDY = 'a path that starts with a slash, for instance path = "/orders/*"'
_TRUE_REMEDY = "true, or leave it out"


class Access(NamedTuple):
    """What a route needs: nothing if it is public, or else a credential with these scopes.

    With `any_of_scopes`, one of those, too.
    """

    public: bool
    scopes: tuple[str, ...] = ()
    any_of_scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Route:
    methods: frozenset[str]  # empty: all
    segments: tuple[str, ...]
    access: Access

    def takes(self, method: str) -> bool:
        return not self.methods or method in self.methods

    def covers(self, other: "_Route") -> bool:
        """Say whether no request reaches `other` if it comes after this route."""
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
    """Finds the first matching route by one expression with one group per route."""

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
    """A valid route table."""

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


def _read_path(value: object) -> tuple[str, ...]:
    """Return the segments of a path."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f"use {_PATH_REMEDY}")
    if value == "/":
        return ()
    segments = tuple(value[1:].split("/"))
    if segments[-1] == "":
        raise ValueError(f"leave out the slash at its end, which is ignored: {value[:-1]}")
    for place, segment in enumerate(segments, 1):
        if segment == "*" or (segment == "**" and place == len(segments)):
            continue
        if _SEGMENT.fullmatch(segment) is None or segment in (".", ".."):
            raise ValueError(
                f"{segment!r} is not a valid segment; write it decoded, * for any one segment, "
                "and ** at the end for any number of them"
            )
    return segments


def _read_method(value: object) -> str:
    if not isinstance(value, str) or _METHOD.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not a method; use capital letters, like GET")
    return value


def _check_known(scope: str, info: ValidationInfo) -> str:
    """Refuse a scope that no credential can have: it was mistyped."""
    catalogue: Catalogue = info.context  # type: ignore[assignment]  # what read_routes gives
    if problem := catalogue.problem(scope):
        raise ValueError(problem)
    return scope


def _check_true(value: bool) -> bool:
    if not value:
        raise ValueError(f"use {_TRUE_REMEDY}")
    return value


# The scopes that a route names.
_Named: TypeAlias = list[Annotated[str, BeforeValidator(checked_scope), AfterValidator(_check_known)]]


class _RouteTable(TomlTable):
    exactly_one_of = (("scopes", "any_of_scopes"), ("any",), ("public",))
    exactly_one_hint = " (any = true: any valid credential; public = true: none)"
    label_keys = ("path",)

    path: Annotated[tuple[str, ...], BeforeValidator(_read_path)] = Field(description=_PATH_REMEDY)
    methods: list[Annotated[str, BeforeValidator(_read_method)]] = Field(
        [], min_length=1, description='a list like ["GET", "POST"], or leave it out for all methods'
    )
    scopes: _Named = Field([], min_length=1, description='a list like ["orders:read"], or any = true')
    any_of_scopes: _Named = Field(
        [], min_length=1, description='a list like ["orders:read", "orders:write"], or leave it out'
    )
    public: Annotated[bool, AfterValidator(_check_true)] = Field(False, description=_TRUE_REMEDY)
    any_credential: Annotated[bool, AfterValidator(_check_true)] = Field(
        False, alias="any", description=_TRUE_REMEDY
    )

    def route(self) -> _Route:
        # A HEAD is a GET without the body of the response.
        methods = frozenset(self.methods) | ({"HEAD"} if "GET" in self.methods else frozenset())
        access = Access(self.public, tuple(self.scopes), tuple(self.any_of_scopes))
        return _Route(methods, self.path, access)


def reloaded_routes(path: Path, catalogue: Catalogue) -> ReloadedFiles[Routes]:
    """Return the route table of a file. Raises ConfigError."""

    def parse(contents: Contents) -> Routes:
        return read_routes(path, contents[SETTING], catalogue)

    return ReloadedFiles({SETTING: path}, parse)


def read_routes(path: Path, content: bytes, catalogue: Catalogue) -> Routes:
    """Return the route table in the content of a file; raise ConfigError that tells all problems."""
    tables = TomlTables(SETTING, path, content, "route", _RouteTable, context=catalogue)
    routes: dict[int, _Route] = {}
    for number, table in tables:
        route = table.route()
        covering = next((earlier for earlier, other in routes.items() if other.covers(route)), None)
        if covering is not None:
            tables.refuse(
                number, f"is never reached, since route {covering} covers it; move it before that one"
            )
        routes[number] = route
    tables.check()
    if not routes:
        raise ConfigError(
            f"{SETTING}: {path} has no route, so all requests would be refused; write {_EXAMPLE}"
        )
    return Routes(tuple(routes.values()))


def _pattern(paths: Iterable[Iterable[str]]) -> str:
    """Return an expression with one group for each path."""
    wildcards = {"*": "/[^/]+", "**": "(?:/.*)?"}
    groups = (
        "".join(wildcards.get(segment) or "/" + re.escape(segment) for segment in path) for path in paths
    )
    return "|".join(f"({group})" for group in groups) or r"(?!)"
