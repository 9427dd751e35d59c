"""What a terminal would obey is shown instead."""

import io

import pytest
from rich.console import Console

from authsvc.cli.printable import cell, named, printable


def test_what_a_terminal_obeys_is_escaped() -> None:
    """Control characters, escape sequences, the direction of text, the backslash itself; nothing else."""
    assert printable("acme\n1\x1b[2J\x9b\u202e\u2028\U000e0001\\n\0") == (
        "acme\\n1\\x1b[2J\\x9b\\u202e\\u2028\\U000e0001\\\\n\\x00"
    )
    assert printable("Zoë 😀 a_b:c@d.e-f") == "Zoë 😀 a_b:c@d.e-f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[bold]Orders[/]", "[bold]Orders[/]"),
        ("a\\[red]", "a\\[red]"),
        ("end\\", "end\\"),
        ("\u202eDEKOVER", "\\u202eDEKOVER"),
    ],
)
def test_a_cell_shows_what_is_in_it(text: str, shown: str) -> None:
    """Neither a terminal nor the markup of tables obeys it."""
    file = io.StringIO()
    Console(file=file).print(cell(text))
    assert file.getvalue() == shown + "\n"


def test_a_value_is_not_taken_for_several() -> None:
    """What holds blanks, equals signs or quotation marks stands in quotation marks."""
    assert named({"method": "ListKeys", "count": "3"}) == "count=3 method=ListKeys"
    assert named({"reason": "leaked time=now", "time": "then"}) == 'reason="leaked time=now" time=then'
    assert named({"reason": 'x" time="now', "time": ""}) == 'reason="x"" time=""now" time=""'
