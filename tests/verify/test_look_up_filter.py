"""The filter of look-ups: it denies nothing that was added, and nearly everything else."""

from hypothesis import given
from hypothesis import strategies as st

from authsvc.verify.look_up_filter import LookUpFilter


@given(st.lists(st.text()), st.lists(st.text()))
def test_what_was_added_is_never_denied(first: list[str], second: list[str]) -> None:
    known = LookUpFilter()
    known.add(first)
    known.add(second)
    assert all(text in known for text in first + second)
    assert len(known) <= len(set(first + second))


def test_it_grows_and_denies_what_was_not_added() -> None:
    """Of 20,000 others, one is expected to be taken for added at most; memory is a few bytes for each."""
    known = LookUpFilter()
    count = 50_000
    for start in range(0, count, 1000):
        known.add(f"look-up {number}" for number in range(start, start + 1000))
    assert all(f"look-up {number}" in known for number in range(count))
    assert count - 20 <= len(known) <= count
    assert sum(f"other {number}" in known for number in range(20_000)) < 10
    assert known.size <= 64 * count


def test_it_is_empty_at_first() -> None:
    known = LookUpFilter()
    assert (len(known), known.size) == (0, 0)
    assert "" not in known
    assert known.add(["a", "a", "b"]) == 2
    assert known.add(["a", "b"]) == 0
