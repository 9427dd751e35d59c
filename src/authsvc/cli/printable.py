"""Text that others wrote, as it may be shown on a terminal."""


def printable(text: str) -> str:
    r"""Return a text with `\n`, `\x1b`, `\u202e` … for what a terminal would obey instead of showing it."""
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )
