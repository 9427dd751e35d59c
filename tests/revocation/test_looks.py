"""When changes look at the acknowledgements."""

from itertools import islice

from authsvc.revocation.looks import Looks


def first(looks: Looks) -> float:
    return next(looks.pauses())


def test_pauses_grow_up_to_a_second() -> None:
    """The first look of all is made after a millisecond; later ones are further and further apart."""
    pauses = list(islice(Looks().pauses(), 60))
    assert pauses[0] < 0.001
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_the_first_look_is_made_when_it_is_usual() -> None:
    """Changes that are acknowledged after 5 ms move it there; others that need one look move it back."""
    looks = Looks()
    for _ in range(100):
        looks.learn(4, 0.005)
    assert 0.0045 < first(looks) <= 0.005
    assert next(islice(looks.pauses(), 1, None)) < 0.001
    for _ in range(100):
        looks.learn(1, 0.005)
    assert first(looks) < 0.001


def test_a_lost_worker_delays_no_later_change() -> None:
    """A change that waited for a whole lease does not make the next ones wait for long."""
    looks = Looks()
    for _ in range(100):
        looks.learn(50, 36.0)
    assert first(looks) <= 0.02
