"""The route table: its decisions, the tables that are refused, and reloading."""

from pathlib import Path
from urllib.parse import quote

import pytest

from authsvc.config.settings import ConfigError
from authsvc.gateway.routes import Access, Routes, read_routes, reloaded_routes
from authsvc.model.catalogue import Catalogue
from authsvc.model.scope import Scope

_TABLE = """
[[route]]
path = "/health"
public = true

[[route]]
methods = ["OPTIONS"]
path = "/**"
public = true

[[route]]
methods = ["POST", "PUT"]
path = "/orders/*/lines"
scopes = ["orders:write", "lines:write"]

[[route]]
methods = ["GET"]
path = "/orders/**"
scopes = ["orders:read"]

[[route]]
path = "/admin/**"
scopes = ["admin"]

[[route]]
methods = ["PATCH"]
path = "/files/**"
any_of_scopes = ["files:write", "files:owner"]

[[route]]
methods = ["DELETE"]
path = "/files/**"
scopes = ["files:write"]
any_of_scopes = ["files:owner", "admin"]

[[route]]
path = "/files/**"
any = true

[[route]]
path = "/"
public = true
"""
_ANY_SCOPE = Catalogue(any_scope=True)
_PATH = Path("routes.toml")
_PUBLIC, _ANY = Access(public=True), Access(public=False)


def _read(text: str) -> Routes:
    return read_routes(_PATH, text.encode(), _ANY_SCOPE)


@pytest.mark.parametrize(
    ("method", "target", "access"),
    [
        ("GET", "/health", _PUBLIC),
        ("DELETE", "/health/?x", _PUBLIC),
        ("GET", "/", _PUBLIC),
        ("OPTIONS", "/orders/1", _PUBLIC),
        ("POST", "/orders/1/lines", Access(False, ("orders:write", "lines:write"))),
        ("GET", "/orders", Access(False, ("orders:read",))),
        ("GET", "/orders/", Access(False, ("orders:read",))),
        ("HEAD", "/orders/1/lines/2", Access(False, ("orders:read",))),
        ("GET", "/admin", Access(False, ("admin",))),
        ("PATCH", "/files/Ab", Access(False, (), ("files:write", "files:owner"))),
        ("DELETE", "/files/Ab", Access(False, ("files:write",), ("files:owner", "admin"))),
        ("GET", "/files/Ab", _ANY),
        ("GET", "/files/a%20b", _ANY),
    ],
)
def test_the_first_route_that_matches(method: str, target: str, access: Access) -> None:
    """By method and path; a GET route includes HEAD, `*` is one segment, `**` any number of segments."""
    assert _read(_TABLE).find(method, target) == access


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/orders"),
        ("POST", "/orders/1/2/lines"),
        ("POST", "/orders//lines"),
        ("get", "/orders"),
        ("GET ", "/orders"),
        ("", "/orders"),
        ("GET", "/healthz"),
        ("GET", "/Health"),
        ("GET", "/HEALTH"),
        ("GET", "/health/x"),
        ("GET", "/health;x"),
        ("GET", "/health/../admin"),
        ("GET", "/health%2f..%2fadmin"),
        ("GET", "//health"),
        ("GET", "/unknown"),
        ("GET", ""),
    ],
)
def test_what_no_route_names_is_refused(method: str, target: str) -> None:
    """A route that was forgotten is neither public nor open to any key."""
    assert _read(_TABLE).find(method, target) is None


def test_a_table_in_any_script() -> None:
    """Its paths are compared as written, including invisible characters."""
    persian, wide = "/\u0645\u06cc\u200c\u062e", "/\uff21\uff22"
    routes = _read(f'[[route]]\npath = "{persian}/*"\nany = true\n[[route]]\npath = "{wide}"\nany = true\n')
    assert routes.find("GET", f"{quote(persian)}/[1]") == _ANY
    assert routes.find("GET", quote(persian).replace("%E2%80%8C", "") + "/1") is None
    assert routes.find("GET", quote(wide)) == _ANY
    assert routes.find("GET", "/AB") is None


def test_capital_letters_do_not_lead_around_a_route() -> None:
    """A path that matches another route if case is ignored is refused; otherwise case is free."""
    routes = _read('[[route]]\npath = "/admin/**"\nscopes = ["admin"]\n[[route]]\npath = "/**"\nany = true\n')
    for target in ("/Admin", "/ADMIN/x", "/%41dmin", "/adm%C4%B1n"):
        assert routes.find("GET", target) is None, target
    # The same with invisible or full-width letters, which file systems ignore or frameworks normalize.
    for target in (
        "/ad%E2%80%8Cmin",
        "/admin%E2%80%8D/x",
        "/%EF%BD%81dmin",
        "/%EF%BC%A1dmin",
        "/ad%C2%ADmin",
    ):
        assert routes.find("GET", target) is None, target
    assert routes.find("GET", "/Orders/AB") == _ANY
    assert routes.find("GET", "/%D9%85%DB%8C%E2%80%8C%D8%AE") == _ANY
    assert routes.find("GET", "/admin/%D9%85%DB%8C%E2%80%8C%D8%AE") == Access(False, ("admin",))
    assert routes.find("GET", "/admin/AB") == Access(False, ("admin",))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "routes.toml has no route, so all requests would be refused; write [[route]] path ="),
        ("route = []", "routes.toml has no route"),
        ("route = 1", "write [[route]] with two brackets"),
        ("[route]\npath = '/a'", "write [[route]] with two brackets"),
        ("route = [1]", "route 1: is not a table; write [[route]] and its keys below it"),
        ("[[routes]]\npath = '/'", "'routes' is not known here; write each route as a table [[route]]"),
        ("[[route]]\npath = ", "routes.toml is not valid TOML"),
        ("\xff", "is not valid TOML"),
        ("[[route]]\nany = true", "route 1: path: use a path that starts with a slash"),
        ("[[route]]\npath = 'a'\nany = true", "route 1 (a): path: use a path that starts with a slash"),
        ("[[route]]\npath = '/a/'\nany = true", "leave out the slash at its end"),
        ("[[route]]\npath = '/**/a'\nany = true", "'**' is not a valid segment"),
        ("[[route]]\npath = '/a*'\nany = true", "'a*' is not a valid segment"),
        ("[[route]]\npath = '/{id}'\nany = true", "'{id}' is not a valid segment"),
        ("[[route]]\npath = '/:id'\nany = true", "':id' is not a valid segment"),
        ("[[route]]\npath = '/a%20b'\nany = true", "write it decoded"),
        ("[[route]]\npath = '/a//b'\nany = true", "'' is not a valid segment"),
        ("[[route]]\npath = '/../b'\nany = true", "'..' is not a valid segment"),
        ("[[route]]\npath = '/a'", "give exactly one of scopes and/or any_of_scopes, any, public"),
        (
            "[[route]]\npath = '/a'\nany = true\npublic = true",
            "give exactly one of scopes and/or any_of_scopes, any, public",
        ),
        ("[[route]]\npath = '/a'\npublic = false", "public: use true"),
        ("[[route]]\npath = '/a'\npublic = 'yes'", "public: use true"),
        ("[[route]]\npath = '/a'\nscopes = []", "scopes: use a list"),
        ("[[route]]\npath = '/a'\nany_of_scopes = []", "any_of_scopes: use a list"),
        ("[[route]]\npath = '/a'\nany_of_scopes = ['A b']", "any_of_scopes: 'A b' is not a valid scope"),
        ("[[route]]\npath = '/a'\nany = true\nany_of_scopes = ['a']", "give exactly one of scopes and/or"),
        ("[[route]]\npath = '/a'\nscopes = 'a'", "scopes: use a list"),
        ("[[route]]\npath = '/a'\nscopes = ['A b']", "'A b' is not a valid scope"),
        (
            "[[route]]\npath = '/a'\nscope = ['a']",
            "'scope' is not known; known are path, methods, scopes, any_of_scopes, public, any",
        ),
        ("[[route]]\npath = '/a'\nany = true\nmethods = []", "methods: use a list"),
        ("[[route]]\npath = '/a'\nany = true\nmethods = 'GET'", "methods: use a list"),
        ("[[route]]\npath = '/a'\nany = true\nmethods = ['get']", "'get' is not a method"),
        (
            "[[route]]\npath = '/**'\nany = true\n[[route]]\npath = '/a'\npublic = true",
            "route 2 (/a): is never reached, since route 1 covers it",
        ),
        (
            "[[route]]\npath = '/a/*'\nany = true\n[[route]]\npath = '/A/b'\npublic = true",
            "route 2 (/A/b): is never reached",
        ),
        (
            "[[route]]\npath = '/a'\nany = true\n[[route]]\npath = '/a'\nmethods = ['GET']\npublic = true",
            "route 2 (/a): is never reached",
        ),
    ],
)
def test_a_table_that_is_wrong_is_refused(text: str, problem: str) -> None:
    """The message names the entry and the remedy."""
    with pytest.raises(ConfigError) as caught:
        _read(text)
    assert str(caught.value).startswith("AUTHSVC_ROUTES: routes.toml")
    assert problem in str(caught.value)


def test_all_that_is_wrong_with_a_table_is_told_at_once() -> None:
    """One line per route, by its number."""
    with pytest.raises(ConfigError) as caught:
        _read(
            "other = 1\n"
            "[[route]]\npath = 'a'\nmethods = ['get', 'put', 1]\npublic = 1\n"
            "[[route]]\npath = '/a/**'\nany = true\n"
            "[[route]]\npath = 7\n"
            "[[route]]\npath = '/a/b'\npublic = true\n"
        )
    assert str(caught.value).replace("AUTHSVC_ROUTES: routes.toml: ", "").splitlines() == [
        "'other' is not known here; write each route as a table [[route]]",
        'route 1 (a): path: use a path that starts with a slash, for instance path = "/orders/*"',
        "route 1 (a): methods: 'get' is not a method; use capital letters, like GET",
        "route 1 (a): methods: 'put' is not a method; use capital letters, like GET",
        "route 1 (a): methods: 1 is not a method; use capital letters, like GET",
        "route 1 (a): public: use true, or leave it out",
        "route 3: give exactly one of scopes and/or any_of_scopes, any, public (any = true: any valid "
        "credential; public = true: none)",
        'route 3: path: use a path that starts with a slash, for instance path = "/orders/*"',
        "route 4 (/a/b): is never reached, since route 2 covers it; move it before that one",
    ]


def test_bytes_that_are_no_text() -> None:
    """The message says that the file is not UTF-8."""
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_routes(_PATH, b"\xff", _ANY_SCOPE)


def test_a_byte_order_mark_is_no_part_of_the_table() -> None:
    """Windows editors write one."""
    routes = read_routes(_PATH, b"\xef\xbb\xbf" + _TABLE.encode(), _ANY_SCOPE)
    assert routes.find("GET", "/health") == _PUBLIC


@pytest.mark.parametrize(
    ("scope", "problem"),
    [
        ("order:read", "order:read is not known here; did you mean orders:read?"),
        (
            "invoices",
            "invoices is not known here; see ListScopes. The operator adds others to AUTHSVC_SCOPES",
        ),
    ],
)
def test_a_scope_that_nobody_can_have(scope: str, problem: str) -> None:
    """It would make the route unreachable, so it is reported immediately."""
    catalogue = Catalogue([Scope("orders:read")])
    text = f"[[route]]\npath = '/a'\nscopes = ['keys:read', 'orders:read', '{scope}']"
    with pytest.raises(ConfigError) as caught:
        read_routes(_PATH, text.encode(), catalogue)
    assert str(caught.value) == f"AUTHSVC_ROUTES: routes.toml: route 1 (/a): scopes: {problem}"


async def test_a_broken_file_keeps_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged; the previous table stays in force until the file is valid."""
    file = tmp_path / "routes.toml"
    file.write_text(_TABLE)
    watched = reloaded_routes(file, _ANY_SCOPE)
    file.write_text('[[route]]\npath = "/health"\n')
    await watched.look()
    assert "route 1 (/health): give exactly one of scopes and/or any_of_scopes, any, public" in caplog.text
    assert watched.value.find("GET", "/health") == _PUBLIC
    file.unlink()
    await watched.look()
    assert watched.value.find("GET", "/health") == _PUBLIC
    file.write_text('[[route]]\npath = "/health"\nscopes = ["health"]\n')
    await watched.look()
    assert watched.value.find("GET", "/health") == Access(False, ("health",))
    assert watched.value.find("GET", "/orders") is None
