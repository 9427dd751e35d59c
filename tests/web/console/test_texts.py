"""The catalogue of texts and the templates: nothing is missing, and nothing is left over."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from authsvc.model.audit_event import Action
from authsvc.web import console
from authsvc.web.console import shown
from authsvc.web.console.texts import Texts

_PACKAGE = Path(str(files(console)))


def _templates() -> str:
    return "\n".join(path.read_text("utf-8") for path in _PACKAGE.glob("templates/*.html"))


def test_every_text_that_a_template_names_is_there() -> None:
    texts, source = Texts(), _templates()
    names = {name for name in re.findall(r"[(' ]'?([a-z_]+\.[a-zA-Z_.]+)'", source) if "." in name}
    counted = set(re.findall(r"t\.count\('([^']+)'", source))
    assert len(names) > 100
    missing = {
        name
        for name in names - counted
        if name not in texts and not name.endswith((".", ".html", ".css", ".js", ".svg"))
    }
    assert missing == set()
    assert all(f"{name}.one" in texts and f"{name}.other" in texts for name in counted)


def test_no_text_is_left_over() -> None:
    texts = Texts()
    source = _templates() + "\n".join(path.read_text("utf-8") for path in _PACKAGE.rglob("*.py"))
    # Names that are put together, by what they begin with.
    beginnings = (*re.findall(r"'([a-z_]+\.(?:[a-z_]+\.)?)' ~", source), "time.")
    unused = {
        name
        for name in texts.names
        if f"'{name}'" not in source
        and f'"{name}"' not in source
        and f"'{name.rpartition('.')[0]}'" not in source
        and not name.startswith(beginnings)
    }
    assert unused == set()


def test_every_action_has_a_text() -> None:
    texts = Texts()
    assert [action for action in Action if f"actions.{action}" not in texts] == []


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "<bdi>plain</bdi>"),
        ("<b>&\"'", "<bdi>&lt;b&gt;&amp;&#34;&#39;</bdi>"),
        ("x" * 70, f"<bdi>{'x' * 59}…</bdi>"),
        ("a\u202eb", '<bdi>a<span class="hidden-character">[U+202E]</span>b</bdi>'),
        ("a\u200bb", '<bdi>a<span class="hidden-character">[U+200B]</span>b</bdi>'),
        ("\x00", '<bdi><span class="hidden-character">[U+0000]</span></bdi>'),
        ("שלום", "<bdi>שלום</bdi>"),
        ("👩\u200d💻", "<bdi>👩\u200d💻</bdi>"),
    ],
)
def test_texts_of_others(text: str, html: str) -> None:
    assert shown.text(text) == html


def test_where_no_markup_can_be() -> None:
    assert shown.plain("a\u202eb\nc") == "a[U+202E]b[U+000A]c"
    assert len(shown.plain("x" * 100)) == shown.SHORT
