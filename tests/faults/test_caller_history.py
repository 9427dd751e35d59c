"""The checker of callers' histories: what it detects, and what it accepts."""

from tests.faults.caller_history import Call, CallerHistory, Cascade, Look, Positions, Taken, Taking
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
    """It is described with its caller, call, place and time."""
    assert found(taken(1, 2), let(2.25, 3)) == [
        "caller A was let CreateKey on worker 1, invoked 0.250 s after RevokeKey answered OK on worker 0"
    ]


def test_a_call_that_was_under_way_may_be_let() -> None:
    """As far as answers show, it was committed before; and an unanswered revocation guarantees nothing."""
    assert not found(taken(1, 2), let(1.9, 5))
    assert not found(let(2.5, 3))
    assert not found(taken(1, 2, caller="B"), let(2.5, 3))


def test_the_first_answer_counts() -> None:
    """A retry that is answered later does not change this."""
    assert found(taken(1, 2), taken(3, 9), let(5, 6))


def test_what_is_made_later_is_found() -> None:
    """It is compared with the first list that was requested after the answer."""
    assert found(taken(1, 2), look(2.1, "key 1"), look(5, "key 1", "key 2")) == [
        "caller A made key 2 and that was not there after RevokeKey answered OK on worker 0"
    ]
    assert found(taken(1, 2), look(2.1), look(5), look(9, "key 1"))


def test_lists_from_before_the_answer_are_not_compared() -> None:
    """What was created between them was in time; and what does not exist any more did exist."""
    assert not found(taken(1, 2), look(1.5), look(2.5, "key 1"), look(5, "key 1"))
    assert not found(taken(1, 2), look(2.5, "key 1"), look(5))
    assert not found(look(2.5), look(5, "key 1"))


def test_the_order_in_the_audit_chain_is_the_order_of_commits() -> None:
    """An event of the caller after the one that revoked its authority is a change that came too late."""
    assert not found(taken(1, 2), Positions("A", 7, (3, 6)))
    assert found(taken(1, 2), Positions("A", 7, (3, 6, 8))) == [
        "caller A committed events [8], and 7 took its authority away"
    ]


def test_what_a_cascade_has_left_is_found() -> None:
    """Whatever a key created, and is alive after the answer."""
    history = CallerHistory(cascades=[Cascade("A", "worker 0", 2, frozenset())])
    assert history.violations() == []
    history.cascades.append(Cascade("A", "worker 0", 2, frozenset({"key 2", "key 1"})))
    assert [str(violation) for violation in history.violations()] == [
        "caller A created key 1, key 2, alive after a cascade answered OK on worker 0"
    ]
    assert history.comparisons() == 2


def test_comparisons_are_counted() -> None:
    """Lists that were compared with another one, and chains."""
    history = CallerHistory(
        taken=[taken(1, 2)],
        looks=[look(1.5), look(2.5), look(3), look(9)],
        positions=[Positions("A", 7, ())],
    )
    assert history.comparisons() == 3
