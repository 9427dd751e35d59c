"""Texts as literals in a statement, for messages of several statements, which take no parameters."""

from collections.abc import Iterable


def quoted(text: str | None) -> str:
    """Return a text as a literal, which means the same whatever `standard_conforming_strings` is.

    Raises ValueError for a text with a NUL, which would end the message.
    """
    if text is None:
        return "NULL"
    if "\0" in text:
        raise ValueError("PostgreSQL cannot store a NUL character in a text")
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def quoted_array(texts: Iterable[str]) -> str:
    """Return texts as the literal of an array."""
    return f"ARRAY[{', '.join(map(quoted, texts))}]::text[]"
