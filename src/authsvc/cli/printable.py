"""Text that others wrote, as it may be shown on a terminal."""

import re
from collections.abc import Mapping

from rich.text import Text

# A value that ends where the next blank is.
_BARE = re.compile(r"[^\s\"=]+")


def printable(text: str) -> str:
    r"""Return a text with `\n`, `\x1b`, `\u202e` … for what a terminal would obey instead of showing it."""
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )


def cell(text: str) -> Text:
    """Return what shows a text in a table: as it is, if a terminal obeys nothing in it."""
    return Text(text if text.isprintable() else printable(text))


def named(values: Mapping[str, str]) -> str:
    """Return values as `name=value`, by name; in quotation marks what could be taken for several."""
    return " ".join(
        f"{name}={value if _BARE.fullmatch(value) else _quoted(value)}"
        for name, value in sorted(values.items())
    )


def _quoted(value: str) -> str:
    # Not by a backslash, which `printable` escapes.
    return '"' + value.replace('"', '""') + '"'
