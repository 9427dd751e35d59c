"""What is remembered of texts, and that nothing else is."""

import re
import sys
import tracemalloc
from pathlib import Path

from authsvc.model.memo import Memo

SOURCE = Path(sys.modules["authsvc"].__file__ or "").parent


def test_a_short_text_is_computed_once() -> None:
    """And a long one each time; both have the same result."""
    calls: list[str] = []

    def upper(text: str) -> str:
        calls.append(text)
        return text.upper()

    memo = Memo(upper, max_entries=10, max_length=3)
    assert [memo(text) for text in ("abc", "abc", "abcd", "abcd")] == ["ABC", "ABC", "ABCD", "ABCD"]
    assert calls == ["abc", "abcd", "abcd"]


def test_texts_count_together() -> None:
    """The sum of the lengths of several texts is limited."""
    memo = Memo(lambda one, other: one + other, max_entries=10, max_length=4)
    assert memo("ab", "cd") == "abcd"
    assert memo("ab", "cde") == "abcde"
    assert memo.cache_info().currsize == 1


def test_what_is_remembered_is_bounded_in_bytes() -> None:
    """With the longest possible texts nothing is kept, and with short ones `most` results."""
    memo = Memo(lambda text: text * 2, max_entries=100, max_length=64)
    tracemalloc.start()
    try:
        for number in range(50):
            memo(f"{number}" * 500_000)
        for number in range(10_000):
            memo(f"{number:064}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memo.cache_info().currsize == 100
    # 64 and 128 characters, their headers, and the links of the cache.
    assert kept < 100 * 600 + 10_000


def test_nothing_else_is_remembered_by_text() -> None:
    """The caches of functools are limited in entries, not in bytes; only the memo keeps texts in one."""
    # By types of messages and what else the protos have, which limit them; within one look at a text, or at a
    # batch of events; by files that the operator names; once for an application.
    by_other_things = {
        "client/asgi.py",
        "rpc/field_values.py",
        "model/text.py",
        "model/audit_event.py",
        "store/driver_files.py",
        "web/json_message.py",
        "web/openapi/__init__.py",
        "web/openapi/described.py",
        "web/openapi/rules.py",
    }
    used = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if re.search(
            r"\b(?:lru_cache|cached_property|functools\.cache)\b|import .*\bcache\b", path.read_text()
        )
    }
    assert used == {"model/memo.py", *by_other_things}
