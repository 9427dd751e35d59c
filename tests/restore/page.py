"""The commands of docs/backup.md, by the second word of the line that begins each block."""

import re
import textwrap
from pathlib import Path


def blocks(page: Path) -> dict[str, str]:
    """Return the fenced blocks that have a name, without the indentation of the list that they are in."""
    found: dict[str, str] = {}
    for _, name, text in re.findall(
        r"^( *)```\w+ (\w+)\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        assert name not in found, name
        found[name] = textwrap.dedent(text)
    return found
