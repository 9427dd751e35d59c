"""The route table: what it says, what it refuses to say, and how it is read anew."""

from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from authsvc.config.reloaded_files import ReloadedFiles
from authsvc.config.settings import ConfigError
from authsvc.gateway.routes import Access, Routes, parse
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
path = "/files/**"
any = true

[[route]]
path = "/"
public = true
"""
_ANY_SCOPE = Catalogue(any_scope=True)
_PUBLIC, _ANY = Access(public=True), Access(public=False)


def _read(text: str) -> Routes:
    return parse(_ANY_SCOPE, {"AUTHSVC_ROUTES": text.encode()})


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
        ("GET", "/files/Ab", _ANY),
        ("GET", "/files/a%20b", _ANY),
    ],
)
def test_the_first_route_that_matches(method: str, target: str, access: Access) -> None:
    """By method and path; a GET covers a HEAD, `*` one segment, `**` any number."""
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
    """Nothing is public, or open to any key, because nobody thought of it."""
    assert _read(_TABLE).find(method, target) is None


def test_a_table_in_any_script() -> None:
    """Its paths are compared as they are written, with all that is invisible in them."""
    persian, wide = "/\u0645\u06cc\u200c\u062e", "/\uff21\uff22"
    routes = _read(f'[[route]]\npath = "{persian}/*"\nany = true\n[[route]]\npath = "{wide}"\nany = true\n')
    assert routes.find("GET", f"{quote(persian)}/[1]") == _ANY
    assert routes.find("GET", quote(persian).replace("%E2%80%8C", "") + "/1") is None
    assert routes.find("GET", quote(wide)) == _ANY
    assert routes.find("GET", "/AB") is None


def test_capital_letters_do_not_lead_around_a_route() -> None:
    """A path that is another route's when its case does not count is refused; elsewhere case is free."""
    routes = _read('[[route]]\npath = "/admin/**"\nscopes = ["admin"]\n[[route]]\npath = "/**"\nany = true\n')
    for target in ("/Admin", "/ADMIN/x", "/%41dmin", "/adm%C4%B1n"):
        assert routes.find("GET", target) is None, target
    # Nor do invisible or full-width letters, which file systems leave out, or frameworks normalize.
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
        ("", "has no entry"),
        ("route = 1", "has no entry"),
        ("[[routes]]\npath = '/'", "routes: unknown"),
        ("[[route]]\npath = ", "is no TOML"),
        ("\xff", "is no TOML"),
        ("[[route]]\nany = true", "route 1: path: write one"),
        ("[[route]]\npath = 'a'\nany = true", "route 1 (a): path: write one"),
        ("[[route]]\npath = '/a/'\nany = true", "leave out the slash at its end"),
        ("[[route]]\npath = '/**/a'\nany = true", "'**' is no segment"),
        ("[[route]]\npath = '/a*'\nany = true", "'a*' is no segment"),
        ("[[route]]\npath = '/{id}'\nany = true", "'{id}' is no segment"),
        ("[[route]]\npath = '/:id'\nany = true", "':id' is no segment"),
        ("[[route]]\npath = '/a%20b'\nany = true", "write it decoded"),
        ("[[route]]\npath = '/a//b'\nany = true", "'' is no segment"),
        ("[[route]]\npath = '/../b'\nany = true", "'..' is no segment"),
        ("[[route]]\npath = '/a'", "say what it needs, once"),
        ("[[route]]\npath = '/a'\nany = true\npublic = true", "say what it needs, once"),
        ("[[route]]\npath = '/a'\npublic = false", "public: write true"),
        ("[[route]]\npath = '/a'\npublic = 'yes'", "public: write true"),
        ("[[route]]\npath = '/a'\nscopes = []", "scopes: write a list"),
        ("[[route]]\npath = '/a'\nscopes = 'a'", "scopes: write a list"),
        ("[[route]]\npath = '/a'\nscopes = ['A b']", "'A b' is no scope"),
        ("[[route]]\npath = '/a'\nscope = ['a']", "scope: unknown; known are"),
        ("[[route]]\npath = '/a'\nany = true\nmethods = []", "methods: write a list"),
        ("[[route]]\npath = '/a'\nany = true\nmethods = 'GET'", "methods: write a list"),
        ("[[route]]\npath = '/a'\nany = true\nmethods = ['get']", "'get' is no method"),
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
    """The message names the entry and says what to do."""
    with pytest.raises(ConfigError) as caught:
        _read(text)
    assert str(caught.value).startswith("AUTHSVC_ROUTES: ")
    assert problem in str(caught.value)


def test_bytes_that_are_no_text() -> None:
    """A file that is not UTF-8 is said to be so."""
    with pytest.raises(ConfigError, match="not UTF-8"):
        parse(_ANY_SCOPE, {"AUTHSVC_ROUTES": b"\xff"})


def test_a_byte_order_mark_is_no_part_of_the_table() -> None:
    """Editors of Windows write one."""
    routes = parse(_ANY_SCOPE, {"AUTHSVC_ROUTES": b"\xef\xbb\xbf" + _TABLE.encode()})
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
    """It would lock everybody out of the route, so it is told at once."""
    catalogue = Catalogue([Scope("orders:read")])
    text = f"[[route]]\npath = '/a'\nscopes = ['keys:read', 'orders:read', '{scope}']"
    with pytest.raises(ConfigError) as caught:
        parse(catalogue, {"AUTHSVC_ROUTES": text.encode()})
    assert str(caught.value) == f"AUTHSVC_ROUTES: route 1 (/a): scopes: {problem}"


async def test_a_broken_file_keeps_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong is logged; the table that was read stays in force until the file is right again."""
    file = tmp_path / "routes.toml"
    file.write_text(_TABLE)
    watched = ReloadedFiles({"AUTHSVC_ROUTES": file}, partial(parse, _ANY_SCOPE))
    file.write_text('[[route]]\npath = "/health"\n')
    await watched.look()
    assert "route 1 (/health): say what it needs" in caplog.text
    assert watched.value.find("GET", "/health") == _PUBLIC
    file.unlink()
    await watched.look()
    assert watched.value.find("GET", "/health") == _PUBLIC
    file.write_text('[[route]]\npath = "/health"\nscopes = ["health"]\n')
    await watched.look()
    assert watched.value.find("GET", "/health") == Access(False, ("health",))
    assert watched.value.find("GET", "/orders") is None
