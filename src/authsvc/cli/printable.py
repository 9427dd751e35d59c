"""Text that others wrote, as it may be shown on a terminal."""

from authsvc.model.text import faults


def printable(text: str) -> str:
    r"""Return a text with `\n`, `\x1b`, `\u202e` … for what a terminal would obey instead of showing it."""
    wrong = set(faults(text))
    return "".join(
        char.encode("unicode_escape").decode() if index in wrong or char == "\\" else char
        for index, char in enumerate(text)
    )
