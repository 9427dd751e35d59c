"""What a terminal would obey is shown instead."""

from authsvc.cli.printable import printable


def test_what_a_terminal_obeys_is_escaped() -> None:
    """Control characters, escape sequences, the direction of text, the backslash itself; nothing else."""
    assert printable("acme\n1\x1b[2J\x9b\u202e\u2028\U000e0001\\n\0") == (
        "acme\\n1\\x1b[2J\\x9b\\u202e\\u2028\\U000e0001\\\\n\\x00"
    )
    assert printable("Zoë 😀 a_b:c@d.e-f") == "Zoë 😀 a_b:c@d.e-f"
