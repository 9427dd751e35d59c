"""The file of AUTHSVC_CALLERS: its valid content, and the errors for invalid content."""

import json
import logging
import re
from pathlib import Path

import pytest

from authsvc.config.settings import ConfigError
from authsvc.entrance.callers import read_callers, reloaded_callers
from authsvc.model.caller import Caller
from authsvc.model.text import fault

GOOD = """
[[caller]]
spiffe_id = "spiffe://example.org/ns/shop/sa/orders"
owner_id = "authsvc"
scopes = ["sessions:verify", "keys:verify"]

[[caller]]
subject = "CN=login,OU=Web\\\\, and more,O=Example"
owner_id = "acme"
scopes = ["sessions:write"]
"""
PATH = Path("callers.toml")
SPIFFE_ID_REMEDY = "spiffe_id: use a form like spiffe://example.org/orders, of at most 512 characters"


def entry(**fields: object) -> str:
    """Return one caller with these fields; None omits one."""
    values = {"spiffe_id": "spiffe://example.org/a", "owner_id": "acme", "scopes": ["keys:verify"]} | fields
    lines = [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if value is not None
    ]
    return "\n".join(["[[caller]]", *lines, ""])


def refusal(text: str, *scopes: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read_callers(PATH, text.encode(), scopes)
    lines = str(refused.value).splitlines()
    assert all(line.startswith("AUTHSVC_CALLERS: callers.toml") for line in lines)
    return [line.removeprefix("AUTHSVC_CALLERS: callers.toml").removeprefix(": ") for line in lines]


def test_callers_are_known_by_name() -> None:
    """By SPIFFE id or by the whole subject; each has its owner and scopes, and no credential of ours."""
    spiffe_id, subject = "spiffe://example.org/ns/shop/sa/orders", "CN=login,OU=Web\\, and more,O=Example"
    assert read_callers(PATH, GOOD.encode()) == {
        spiffe_id: Caller(spiffe_id, "authsvc", ("keys:verify", "sessions:verify"), None),
        subject: Caller(subject, "acme", ("sessions:write",), None),
    }


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    """Editors on Windows write one."""
    assert read_callers(PATH, b"\xef\xbb\xbf" + GOOD.encode()) == read_callers(PATH, GOOD.encode())


def test_the_documented_example_is_one(checkout: Path) -> None:
    """The examples in docs/operations.md can be copied."""
    text = (checkout / "docs/operations.md").read_text("utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert sorted(read_callers(PATH, example.encode())) == [
        "CN=key-rotator,OU=Platform,O=Example",
        "spiffe://example.org/ns/shop/sa/gateway",
    ]


def test_nobody_is_allowed() -> None:
    """An empty file is an empty list."""
    assert read_callers(PATH, b"") == {}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"owner_id": "Authsvc"},
            "owner_id: 'Authsvc' resembles the reserved owner authsvc; use another name",
        ),
        ({"scope": "keys:verify"}, "'scope' is not known; known are spiffe_id, subject, owner_id, scopes"),
        ({"spiffe_id": None}, "give exactly one of spiffe_id, subject"),
        ({"subject": "CN=a"}, "give exactly one of spiffe_id, subject"),
        (
            {"spiffe_id": 1},
            SPIFFE_ID_REMEDY,
        ),
        (
            {"spiffe_id": "spiffe://example.org/" + "a" * 512},
            SPIFFE_ID_REMEDY,
        ),
        *(
            (
                {"spiffe_id": bad},
                SPIFFE_ID_REMEDY,
            )
            for bad in (
                "",
                "example.org/orders",
                "https://example.org/a",
                "spiffe://example.org",
                "spiffe://example.org/",
                "spiffe://example.org/a/",
                "spiffe://example.org/a/../b",
                "spiffe://example.org/./b",
                "spiffe://EXAMPLE.org/a",
                "spiffe://example.org/*",
                "spiffe://example.org/a\n",
            )
        ),
        (
            {"spiffe_id": None, "subject": "orders"},
            "subject: use a whole subject like CN=orders,O=Example, of at most 512 characters; "
            "openssl x509 -nameopt RFC2253 prints it",
        ),
        *(
            ({"spiffe_id": None, "subject": bad}, f"subject: holds {told}. Correct the certificate as well")
            for bad, told in (
                (
                    "CN=\u202esredro,O=Example",
                    "U+202E (RIGHT-TO-LEFT OVERRIDE), which changes the direction of text; leave it out",
                ),
                (
                    "CN=orders\u200b,O=Example",
                    "U+200B (ZERO WIDTH SPACE), which people cannot see there; leave it out",
                ),
                (
                    "CN=orders\u2028,O=Example",
                    "U+2028 (LINE SEPARATOR); use one line, without control characters",
                ),
            )
        ),
        *(
            (
                {"owner_id": bad},
                "owner_id: use 1 to 128 characters of A-Z a-z 0-9 . _ : @ -; authsvc is the platform",
            )
            for bad in (None, "", "a b", "a" * 129, 7, "*")
        ),
        *(
            ({"scopes": bad}, 'scopes: use a list of at least one scope, like ["keys:verify"]')
            for bad in (None, [""][1:], "keys:verify", 1)
        ),
        ({"scopes": ["keys:*"]}, "scopes: 'keys:*' is not a valid scope; use a form like orders:read"),
        ({"scopes": [1]}, "scopes: 1 is not a valid scope; use a form like orders:read"),
        ({"scopes": ["a" * 65]}, f"scopes: '{'a' * 65}' is not a valid scope; use a form like orders:read"),
        ({"scopes": ["keys:verify", "keys:verify"]}, "scopes: a scope is listed twice; remove one of them"),
    ],
)
def test_a_bad_entry_is_told(fields: dict[str, object], told: str) -> None:
    """The error has the caller's number and name, what is wrong, and what to write."""
    [line] = refusal(entry(spiffe_id="spiffe://example.org/first") + entry(**fields))
    assert line.startswith("caller 2")
    assert line.endswith(f": {told}")
    assert not fault(line)


def test_scopes_have_to_be_known_where_the_operator_lists_them() -> None:
    """The scopes of authsvc itself always are."""
    read_callers(PATH, entry(scopes=["keys:verify", "orders:read"]).encode(), ["orders:read"])
    assert refusal(entry(scopes=["keys:verfy"]), "orders:read") == [
        "caller 1 (spiffe://example.org/a): scopes: keys:verfy is not known here; "
        "correct it, or add it to AUTHSVC_SCOPES"
    ]


def test_one_name_stands_for_one_caller() -> None:
    """The same name twice is refused, whatever the two entries contain."""
    assert refusal(entry() + entry(owner_id="globex")) == [
        "caller 2 (spiffe://example.org/a): is listed twice; remove one of them"
    ]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """One line for each error."""
    assert len(refusal(entry(scope=1, owner_id="") + entry(scopes=[]) + "[other]\n")) == 4


@pytest.mark.parametrize("text", ["[[caller]", "caller", "\udcff"])
def test_what_is_no_toml(text: str) -> None:
    """The error has the line."""
    with pytest.raises(ConfigError, match=r"^AUTHSVC_CALLERS: callers.toml is not valid TOML: "):
        read_callers(PATH, text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("text", ["caller = 1", "[caller]\nowner_id = 'a'"])
def test_callers_are_a_list(text: str) -> None:
    """A missing bracket is the likely mistake."""
    assert refusal(text) == ["write [[caller]] with two brackets, since there can be several"]


def test_a_caller_is_a_table() -> None:
    """And nothing else is named."""
    assert refusal("caller = [1]") == ["caller 1: is not a table; write [[caller]] and its keys below it"]


async def test_a_change_is_taken_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new list takes effect at once; a broken one is reported once, and the previous one stays."""
    path = tmp_path / "callers.toml"
    path.write_text(GOOD)
    watched = reloaded_callers(path, ())
    assert len(watched.value) == 2
    path.write_text(entry())
    await watched.look()
    assert list(watched.value) == ["spiffe://example.org/a"]
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        for broken in (entry(scopes=[]), "[[caller]\n"):
            path.write_text(broken)
            await watched.look()
            await watched.look()
        path.unlink()
        await watched.look()
    assert [line.rpartition("; until")[2] for line in caplog.messages] == [
        " this is corrected, the previous version is used"
    ] * 3
    assert caplog.messages[2].startswith(f"AUTHSVC_CALLERS: there is no file {path}; check the setting; ")
    assert list(watched.value) == ["spiffe://example.org/a"]
    assert watched.is_stale
    path.write_text(entry())
    await watched.look()
    assert not watched.is_stale


def test_a_file_that_may_not_be_read_stops_the_start(tmp_path: Path) -> None:
    """A directory is not a valid file, either."""
    with pytest.raises(ConfigError, match=r"^AUTHSVC_CALLERS: .* cannot be read: Is a directory$"):
        reloaded_callers(tmp_path, ())
