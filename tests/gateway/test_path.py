"""The canonical form of a path, or none."""

import posixpath
from unicodedata import normalize
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from authsvc.gateway.path import canonical, is_disguised


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
        # Names in any script, also very new ones.
        ("/%E8%AB%8B%E6%B1%82%E3%80%80%E6%9B%B8.pdf", "/請求\u3000書.pdf"),
        ("/%D9%85%DB%8C%E2%80%8C%D8%AE", "/\u0645\u06cc\u200c\u062e"),
        ("/%F0%9F%91%A8%E2%80%8D%F0%9F%91%A9%E2%80%8D%F0%9F%91%A7", "/👨\u200d👩\u200d👧"),
        ("/%F0%9F%AB%AF", "/\U0001faef"),  # Unicode 17
        ("/%F3%BF%BF%BD", "/\U000ffffd"),
        ("/%E4%BD%95%EF%BC%9F%EF%BC%8F.txt", "/何\uff1f\uff0f.txt"),
        ("/a%C2%A0b", "/a\u00a0b"),
        ("/a%E2%80%AE", "/a\u202e"),
        ("/e%CC%81", "/e\u0301"),
        # Some proxies pass these unchanged, and others encoded.
        ('/[1]{2}|^"`<>', '/[1]{2}|^"`<>'),
        ("/%5B1%5D%7B2%7D%7C%5E%22%60%3C%3E", '/[1]{2}|^"`<>'),
    ],
)
def test_what_everybody_reads_alike(target: str, path: str) -> None:
    """Escapes of ordinary characters are decoded; the query and a trailing slash are ignored."""
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
        "/a%C2%85",
        "/a%1fb",
        "/a[1]%2f",
        # If invisible characters are removed or the text is normalized, these have dots or empty segments.
        "/a/.%E2%80%8C./b",
        "/a/%E2%80%8D../b",
        "/a/%E2%80%8B/b",
        "/a/%EF%BC%8E%EF%BC%8E/b",
        "/a/%E2%80%A5/b",
        "/a%EF%BC%8F..%EF%BC%8Fb",
        "/a%EF%BC%BC..%EF%BC%BCb",
        "/a/..%20/b",
        "/a/%E3%80%80/b",
    ],
)
def test_what_can_be_read_in_several_ways_is_refused(target: str) -> None:
    """Disguised delimiters, dots, empty segments, parameters, double escapes, controls, invalid UTF-8."""
    assert canonical(target) is None


@pytest.mark.parametrize(
    ("target", "is_so"),
    [
        ("/a;b", True),
        ("/a%3Bb", True),
        ("/x/..;/a", True),
        ("/x/../a", True),
        ("/x/.", True),
        ("/x/.%2E?y", True),
        ("/x\\a", True),
        ("/x%5Ca", True),
        ("/x%2fa", True),
        ("/%2561", True),
        ("/%c0%ae", True),
        ("/%C1%9C", True),
        ("/%e0%80%ae", True),
        ("/%E0%9F%bf", True),
        ("/%f0%80%80%ae", True),
        ("/%F0%8F%bf%bf", True),
        ("/\xc0\xae", True),
        ("/\xc0n", True),  # if only the last six bits are used
        ("/\xc1%9c", True),
        ("/\xe0\x80\xae", True),
        ("/%e0\x80%ae", True),
        ("/\xf0\x80\x80\xae", True),
        ("/a%00", True),
        ("/a%7F", True),
        ("/a\x00", True),
        ("/a b", True),
        ("/a#b", True),
        ("", False),
        ("*", False),
        ("/?;=/../%2f", False),
        ("//a", False),
        ("/...", False),
        ("/.a/b./..c", False),
        ("/100%25", False),
        ("/C%23%3F", False),
        ("/%FF", False),
        ("/\xe9", False),
        ("/%e0%a4%95%f0%90%80%80", False),
        *(
            (f"/{name.encode().decode('latin-1')}", False)
            for name in ("кад", "कषज्ञ", "ࠀ", "😀", "\U00010000")
        ),
    ],
)
def test_what_a_proxy_and_an_upstream_may_read_differently(target: str, is_so: bool) -> None:
    """Without a table the proxy chose the route; only what an upstream may take for another is refused."""
    assert is_disguised(target) is is_so


@given(st.text(st.characters(min_codepoint=0x80, exclude_categories=["Cs"])))
def test_text_is_not_overlong(name: str) -> None:
    """Any UTF-8 may be a name, raw and encoded."""
    for target in (quote(name), name.encode().decode("latin-1")):
        assert not is_disguised(f"/{target}")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\%;?#"), max_size=20))
def test_a_name_is_a_name(name: str) -> None:
    """With any characters, unless a reader may see no name, dots, or several names."""
    assume(not {"/", "\\"} & set(normalize("NFKC", name)))
    assert canonical(f"/files/x{quote(name)}") == f"/files/x{name}"


@given(st.text(alphabet="/.%2eEfF5cC;\\aA?#", max_size=24))
def test_no_reading_leads_elsewhere(tail: str) -> None:
    """Decoding again, resolving dots, merging slashes: whatever an upstream does, the path stays the same."""
    path = canonical("/" + tail)
    if path is not None:
        assert unquote(path) == path
        assert posixpath.normpath(path or "/") == (path or "/")
        assert not set(path) & set("\\;?#%")
