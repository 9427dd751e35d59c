"""Text that others wrote, as it may be shown on a terminal."""

from collections.abc import Iterator

from authsvc.model.text import faults

# What follows the backslash in the escapes that `printable` writes, and the backslash itself.
_AFTER_BACKSLASH = frozenset("\\nrtuUx")


def printable(text: str) -> str:
    r"""Return a text with `\n`, `\x1b`, `\u202e` … for what a terminal would obey instead of showing it.

    A backslash that could be taken for the beginning of such an escape is doubled.
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
