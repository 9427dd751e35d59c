"""Makes text from others safe to show on a terminal."""

import re
from collections.abc import Iterator, Mapping

from authsvc.model.text import faults

# A value that needs no quotation marks.
_BARE = re.compile(r"[^\s\"=]+")

# What follows the backslash in the escapes that `printable` writes, and the backslash itself.
_AFTER_BACKSLASH = frozenset("\\nrtuUx")


def printable(text: str) -> str:
    r"""Return a text with the characters that control a terminal escaped, as `\n`, `\x1b` or `\u202e`.

    A backslash that could be read as the beginning of such an escape is doubled.
    """
    wrong = frozenset(faults(text))
    return "".join(_shown(text, wrong)) if wrong or "\\" in text else text


def _shown(text: str, wrong: frozenset[int]) -> Iterator[str]:
    for index, character in enumerate(text):
        if index in wrong:
            yield character.encode("unicode_escape").decode()
        elif character == "\\" and (index + 1 in wrong or text[index + 1 : index + 2] in _AFTER_BACKSLASH):
            yield "\\\\"
        else:
            yield character


def named(values: Mapping[str, str]) -> str:
    """Return values as `name=value`, sorted by name; quoted if they could be read as several values."""
    return " ".join(
        f"{name}={value if _BARE.fullmatch(value) else _quoted(value)}"
        for name, value in sorted(values.items())
    )


def _quoted(value: str) -> str:
    # Not with a backslash, which `printable` would escape.
    return '"' + value.replace('"', '""') + '"'
