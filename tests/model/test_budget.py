"""What a worker knows of a budget, and the rules for rate limits."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.budget import Budget
from authsvc.model.errors import InvalidArgument
from authsvc.model.loan import Loan
from authsvc.model.rate_limit import RateLimit, checked_limits, loosens

TEN = RateLimit("requests", 10, 60)


def budget(limit: RateLimit = TEN) -> Budget:
    return Budget("key_1", limit, of_owner=False)


def test_nothing_is_known_at_first() -> None:
    """So the database has to be asked, but not for more than the limit."""
    one = budget()
    assert (one.wait(10, 5.0), one.wait(11, 5.0)) == (0.0, inf)
    assert (one.remaining, one.reset) == (10, 0)


def test_what_the_database_would_refuse_is_refused_without_it() -> None:
    """Until the units can have come back, counted from before the question."""
    one = budget()
    one.learn(used=9.5, asked_time=100.0)
    assert one.wait(1, 100.0) == pytest.approx(3.0)
    assert one.wait(1, 102.0) == pytest.approx(1.0)
    assert one.wait(3, 102.0) == pytest.approx(13.0)
    assert one.wait(1, 103.0) == 0.0
    one.learn(used=10.0, asked_time=103.0)
    assert one.wait(1, 103.0) == pytest.approx(6.0)


def test_the_stopwatch_of_a_question_is_never_later() -> None:
    """A look at an earlier instant than what is known takes nothing back."""
    one = budget()
    one.learn(used=10.0, asked_time=100.0)
    assert one.wait(1, 99.0) == pytest.approx(6.0)
    assert one.used == 10.0


def test_a_refusal_is_remembered_for_a_while() -> None:
    """Also when units have come back in the meantime, so that a flood does not ask again and again."""
    fast = budget(RateLimit("fast", 1_000_000, 1))
    fast.learn(used=1_000_000.0, asked_time=100.0)
    fast.refused(1, 100.0)
    assert fast.wait(1, 100.0) == pytest.approx(0.01)
    assert fast.wait(1, 100.005) == pytest.approx(0.005)
    assert fast.wait(1, 100.01) == 0.0
    slow = budget(RateLimit("slow", 100, 86_400))
    slow.learn(used=99.5, asked_time=100.0)
    slow.refused(1, 100.0)
    assert slow.wait(1, 100.0) == pytest.approx(432.0)


def test_a_loan_that_another_limit_refused_closes_nothing() -> None:
    one = budget()
    one.learn(used=3.0, asked_time=100.0)
    one.refused(1, 100.0)
    assert one.wait(1, 100.0) == 0.0


def test_units_that_are_given_back_count_as_taken_no_more() -> None:
    one = budget(RateLimit("many", 1000, 60))
    one.learn(used=10.0, asked_time=100.0)
    one.lent(10, 100.0)
    one.held -= 1
    assert (one.remaining, one.reset) == (999, 1)
    one.release()
    assert (one.held, one.used, one.remaining) == (0, 1.0, 999)


def test_what_is_borrowed() -> None:
    """As much as is needed; of a limit of 200 or more, a hundredth; nothing by who only asks."""
    small, large = budget(), budget(RateLimit("large", 1000, 60))
    loan = Loan([small, large], 1)
    loan.add(2)
    loan.add(0)
    assert [(need.least, need.most) for need in loan.needs()] == [(1, 3), (1, 10)]
    assert loan.is_sent
    large.held = 4
    assert [(need.least, need.most) for need in Loan([large], 6).needs()] == [(2, 6)]
    assert [(need.least, need.most) for need in Loan([large], 4).needs()] == [(0, 0)]
    in_a_batch = Loan([large], 4)
    in_a_batch.goes_beyond_held = True
    assert [(need.least, need.most) for need in in_a_batch.needs()] == [(0, 6)]
    assert [(need.least, need.most) for need in Loan([small], 0).needs()] == [(0, 0)]
    asked_first = Loan([small], 0)
    asked_first.add(3)
    assert [(need.least, need.most) for need in asked_first.needs()] == [(3, 3)]


@pytest.mark.parametrize(("limit", "size"), [(1, 1), (199, 1), (200, 2), (1000, 10), (10**9, 10**7)])
def test_slices(limit: int, size: int) -> None:
    """A limit below 200 is exact: nothing is borrowed in advance."""
    assert RateLimit("x", limit, 60).slice == size


@given(st.integers(1, 10**9), st.integers(1, 31 * 86_400))
def test_the_text_of_a_limit_is_read_back(limit: int, period: int) -> None:
    one = RateLimit("a-b_1", limit, period)
    assert RateLimit.parse(str(one)) == one


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("requests=100/1m", RateLimit("requests", 100, 60)),
        (" daily = 5000 / 1d ", RateLimit("daily", 5000, 86_400)),
        ("x=1/90s", RateLimit("x", 1, 90)),
        # The rules of the proto judge these.
        ("Up=2147483647/1s", RateLimit("Up", 2**31 - 1, 1)),
        ("a=0/0s", RateLimit("a", 0, 0)),
        *(
            (text, None)
            for text in (
                "",
                "100/1m",
                "a=100",
                "a=1/m",
                "a=-1/1m",
                "a=1/1w",
                "a=1/1m x",
                "a b=1/1m",
                "ä=1/1m",
            )
        ),
        *((text, None) for text in ("a=٣/1m", "a=1e3/1m", "a=1/1.5s", "a=99999999999/1s", "a=2147483648/1s")),
    ],
)
def test_texts(text: str, read: RateLimit | None) -> None:
    assert RateLimit.parse(text) == read


def test_checked_limits_are_sorted() -> None:
    assert checked_limits([("b", 1, 60), ("a", 2, 1.0)], "x") == (RateLimit("a", 2, 1), RateLimit("b", 1, 60))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_limits([("a", 1, 1.5), ("a", 1, 60)], "key.rate_limits")
    assert [each.field for each in caught.value.violations] == [
        "key.rate_limits[0].period",
        "key.rate_limits[1].name",
    ]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((TEN,), False),
        ((RateLimit("requests", 9, 60),), False),
        ((RateLimit("requests", 10, 61),), False),
        ((RateLimit("requests", 5, 31),), False),
        ((TEN, RateLimit("more", 1, 1)), False),
        ((RateLimit("requests", 11, 60),), True),
        ((RateLimit("requests", 11, 600),), True),
        ((RateLimit("requests", 5, 29),), True),
        ((RateLimit("other", 1, 60),), True),
        ((), True),
    ],
)
def test_what_is_looser(after: tuple[RateLimit, ...], expected: bool) -> None:
    """More at a time, a higher rate, or a limit that is gone; its name counts."""
    assert loosens((TEN,), after) is expected
    assert not loosens((), after)
