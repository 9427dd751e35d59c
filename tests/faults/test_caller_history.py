"""The checker of what callers did: what it finds, and what it lets pass."""

from tests.faults.caller_history import Call, CallerHistory, Look, Positions, Taken, Taking
from tests.faults.history import History


def taken(invoked: float, answered: float, caller: str = "A") -> Taken:
    return Taken(caller, Taking.REVOKED, "worker 0", invoked, answered)


def let(invoked: float, answered: float) -> Call:
    return Call("A", "CreateKey", "worker 1", invoked, answered)


def look(invoked: float, *made: str) -> Look:
    return Look("A", invoked, frozenset(made))


def found(*events: Taken | Call | Look | Positions) -> list[str]:
    history = CallerHistory()
    for event in events:
        match event:
            case Taken():
                history.taken.append(event)
            case Call():
                history.calls.append(event)
            case Look():
                history.looks.append(event)
            case Positions():
                history.positions.append(event)
    whole = History(callers=history)
    return [str(violation) for violation in whole.violations()]


def test_a_call_after_the_answer_is_found() -> None:
    """It is told in words that say who, what, where and when."""
    assert found(taken(1, 2), let(2.25, 3)) == [
        "caller A was let CreateKey on worker 1, invoked 0.250 s after RevokeKey answered OK on worker 0"
    ]


def test_a_call_that_was_under_way_may_be_let() -> None:
    """It was committed before, as far as answers tell; and what was never answered promises nothing."""
    assert not found(taken(1, 2), let(1.9, 5))
    assert not found(let(2.5, 3))
    assert not found(taken(1, 2, caller="B"), let(2.5, 3))


def test_the_first_answer_counts() -> None:
    """A retry that is answered later takes nothing back."""
    assert found(taken(1, 2), taken(3, 9), let(5, 6))


def test_what_is_made_later_is_found() -> None:
    """Against the first list that was asked for after the answer."""
    assert found(taken(1, 2), look(2.1, "key 1"), look(5, "key 1", "key 2")) == [
        "caller A made key 2 and that was not there after RevokeKey answered OK on worker 0"
    ]
    assert found(taken(1, 2), look(2.1), look(5), look(9, "key 1"))


def test_lists_from_before_the_answer_are_not_compared() -> None:
    """What was made between them was made in time; and what is gone was there."""
    assert not found(taken(1, 2), look(1.5), look(2.5, "key 1"), look(5, "key 1"))
    assert not found(taken(1, 2), look(2.5, "key 1"), look(5))
    assert not found(look(2.5), look(5, "key 1"))


def test_the_order_in_the_audit_chain_is_the_order_of_commits() -> None:
    """An event of the caller after the one that took its authority away is a change that came too late."""
    assert not found(taken(1, 2), Positions("A", 7, (3, 6)))
    assert found(taken(1, 2), Positions("A", 7, (3, 6, 8))) == [
        "caller A committed events [8], and 7 took its authority away"
    ]


def test_comparisons_are_counted() -> None:
    """Lists that had one to be compared with, and chains."""
    history = CallerHistory(
        taken=[taken(1, 2)],
        looks=[look(1.5), look(2.5), look(3), look(9)],
        positions=[Positions("A", 7, ())],
    )
    assert history.comparisons() == 3
