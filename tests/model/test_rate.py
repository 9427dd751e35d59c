"""The rate limit, by a stopwatch that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.rate import UNLIMITED, Limiter, Rate


class Stopwatch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


def test_a_burst_passes_and_the_next_waits(stopwatch: Stopwatch) -> None:
    """The burst at once; then the wait until there is room for one."""
    limiter = Limiter(Rate(2, 3), stopwatch)
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_after_the_wait_there_is_room_for_one(stopwatch: Stopwatch) -> None:
    """Exactly then, and not before; a wait longer than that for the whole burst has no further effect."""
    limiter = Limiter(Rate(2, 3), stopwatch)
    for _ in range(3):
        limiter.take("a")
    stopwatch.now += 0.25
    assert limiter.take("a") == 0.25
    stopwatch.now += 0.25
    assert [limiter.take("a") for _ in range(2)] == [0, 0.5]
    stopwatch.now += 1e6
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_the_rate_holds_in_the_long_run(stopwatch: Stopwatch) -> None:
    """A caller that always tries gets the rate and the first burst, not more and not less."""
    limiter = Limiter(Rate(8, 4), stopwatch)
    taken = 0
    for _ in range(16 * 100):  # a hundred seconds
        taken += limiter.take("a") == 0
        stopwatch.now += 0.0625
    assert taken == 4 + 8 * 100 - 1


def test_what_was_refused_does_not_count(stopwatch: Stopwatch) -> None:
    """A caller that keeps trying does not wait longer for it."""
    limiter = Limiter(Rate(1, 1), stopwatch)
    limiter.take("a")
    for _ in range(100):
        assert limiter.take("a") == 1
    stopwatch.now += 1
    assert limiter.take("a") == 0


def test_names_do_not_share(stopwatch: Stopwatch) -> None:
    """One that is at its limit does not affect another."""
    limiter = Limiter(Rate(1, 1), stopwatch)
    limiter.take("a")
    assert (limiter.take("a"), limiter.take("b")) == (1, 0)


def test_to_look_takes_nothing(stopwatch: Stopwatch) -> None:
    """A check has the same result as a request, for a known name and an unknown one."""
    limiter = Limiter(Rate(1, 2), stopwatch)
    assert limiter.wait("a") == 0
    assert len(limiter) == 0
    limiter.take("a")
    assert [limiter.wait("a") for _ in range(3)] == [0, 0, 0]
    limiter.take("a")
    assert limiter.wait("a") == limiter.take("a") == 1


def test_no_limit(stopwatch: Stopwatch) -> None:
    """Nothing is kept and no caller waits."""
    limiter = Limiter(UNLIMITED, stopwatch)
    assert {limiter.take("a") for _ in range(10_000)} == {0}
    assert len(limiter) == 0


def test_the_table_is_bounded(stopwatch: Stopwatch) -> None:
    """The name that was counted least recently is forgotten, and starts over."""
    limiter = Limiter(Rate(1, 1), stopwatch, max_names=2)
    limiter.take("a")
    limiter.take("b")
    stopwatch.now += 1
    limiter.take("a")
    limiter.take("c")
    assert len(limiter) == 2
    assert (limiter.wait("a"), limiter.wait("b"), limiter.wait("c")) == (1, 0, 1)


@pytest.mark.parametrize(
    ("rate", "text"), [(Rate(50, 200), "50/200"), (Rate(0.5, 1), "0.5/1"), (UNLIMITED, "0")]
)
def test_a_rate_is_written_as_it_is_set(rate: Rate, text: str) -> None:
    """The list of settings shows it so."""
    assert str(rate) == text


@given(st.integers(1, 20), st.integers(1, 20), st.lists(st.floats(0, 3), max_size=60))
def test_no_stretch_of_time_has_more(rate: int, burst: int, pauses: list[float]) -> None:
    """In any interval there are at most the burst and what the rate gives; no caller waits in vain."""
    stopwatch = Stopwatch()
    limiter = Limiter(Rate(rate, burst), stopwatch)
    taken: list[float] = []
    for pause in pauses:
        stopwatch.now += pause
        if wait := limiter.take("a"):
            stopwatch.now += wait + 1e-6
            assert limiter.take("a") == 0
        taken.append(stopwatch.now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - start) + 1e-3
