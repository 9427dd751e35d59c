"""Characters that control a terminal are escaped."""

import codecs
import re

from hypothesis import given
from hypothesis import strategies as st

from authsvc.cli.printable import named, printable
from authsvc.model.text import faults

ESCAPE = re.compile(r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def test_what_a_terminal_obeys_is_escaped() -> None:
    """Control characters, escape sequences, the direction of text, the backslash itself; nothing else."""
    assert printable("acme\n1\x1b[2J\x9b\u202e\u2028\U000e0001\\n\0") == (
        "acme\\n1\\x1b[2J\\x9b\\u202e\\u2028\\U000e0001\\\\n\\x00"
    )
    assert printable("C:\\[x] \\ \\u202e \\\u202e") == r"C:\[x] \ \\u202e \\\u202e"
    assert printable("Zoë 😀 a_b:c@d.e-f") == "Zoë 😀 a_b:c@d.e-f"
    family = "👨\u200d👩\u200d👧 न्\u200dय 東京\u3000駅 \U0001faea"
    assert printable(family) == family


@given(st.text(st.sampled_from("\\nux[a\n\u202e\u200b\U000e0001") | st.characters(), max_size=20))
def test_what_is_shown_says_what_it_was(text: str) -> None:
    """Different texts are shown differently, and none contains characters that control a terminal."""
    shown = printable(text)
    assert list(faults(shown)) == []
    assert ESCAPE.sub(lambda escape: unescaped(escape[0]), shown) == text


def test_a_value_is_not_taken_for_several() -> None:
    """Values with whitespace, equals signs or quotation marks are quoted."""
    assert named({"method": "ListKeys", "count": "3"}) == "count=3 method=ListKeys"
    assert named({"reason": "leaked time=now", "time": "then"}) == 'reason="leaked time=now" time=then'
    assert named({"reason": 'x" time="now', "time": ""}) == 'reason="x"" time=""now" time=""'


def unescaped(escape: str) -> str:
    return codecs.decode(escape, "unicode_escape")
