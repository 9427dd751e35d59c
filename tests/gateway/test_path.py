"""The one form of a path, or none."""

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.gateway.path import canonical


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", ""),
        ("/?x", ""),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a/b?c=/d/../e", "/a/b"),
        ("/a.b/..c/...", "/a.b/..c/..."),
        ("/%61/b", "/a/b"),
        ("/a%20b", "/a b"),
        ("/%C3%A9", "/é"),
        ("/a:b@c,d=e&f+g$h!i'(j)*~", "/a:b@c,d=e&f+g$h!i'(j)*~"),
        ("/a%40b", "/a@b"),
    ],
)
def test_what_everybody_reads_alike(target: str, path: str) -> None:
    """Escapes of ordinary characters are decoded; the query and a slash at the end do not count."""
    assert canonical(target) == path


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a",
        "*",
        "http://other/a",
        "//a",
        "/a//b",
        "/a//",
        "/.",
        "/./a",
        "/..",
        "/a/../b",
        "/a/..",
        "/a/.?x",
        "/%2e%2e/a",
        "/%2E/a",
        "/.%2e/a",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a;b",
        "/a;b=c/d",
        "/a%3bb",
        "/a%3fb",
        "/a%23b",
        "/a#b",
        "/a%00",
        "/a%0a",
        "/a%7f",
        "/a\nb",
        "/a b",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%u0041",
        "/a%2561",
        "/%252e%252e/a",
        "/a%25",
        "/%c0%ae%c0%ae/a",
        "/%c0%af",
        "/%ff",
        "/é",
        "/\xc3\xa9",
        "/a|b",
        "/a{b}",
        "/a%E2%80%AE",
    ],
)
def test_what_can_be_read_in_several_ways_is_refused(target: str) -> None:
    """Delimiters in disguise, dots, empty segments, parameters, escapes twice, bytes that are no text."""
    assert canonical(target) is None


@given(st.text(alphabet="/.%2eEfF5cC;\\aA?#", max_size=24))
def test_no_reading_leads_elsewhere(tail: str) -> None:
    """Decoding once more, resolving dots, merging slashes: whatever an upstream does, it stays that path."""
    path = canonical("/" + tail)
    if path is not None:
        assert unquote(path) == path
        assert posixpath.normpath(path or "/") == (path or "/")
        assert not set(path) & set("\\;?#%")
