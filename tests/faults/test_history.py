"""The checker of histories: what it detects, and what it accepts."""

from math import inf

import pytest

from tests.faults.history import Change, Ending, History, Operation, Outcome, Verification

KILLS = [
    Operation.REVOKE,
    Operation.ROTATE,
    Operation.BATCH_REVOKE,
    Operation.OWNER_REVOKE,
    Operation.LEAK_REPORT,
    Operation.SELF_REVOKE,
    Operation.CASCADE,
    Operation.DELETE,
    Operation.SESSION_REVOKE,
    Operation.SESSION_REVOKE_ALL,
]


def seen(outcome: Outcome, invoked: float, answered: float, *, scoped: bool = False) -> Verification:
    return Verification("X", "worker 2", invoked, answered, outcome, scoped)


def changed(
    operation: Operation, invoked: float, answered: float = inf, ending: Ending = Ending.OK
) -> Change:
    return Change(operation, "X", "worker 0", invoked, answered, ending)


def violations(*events: Verification | Change) -> list[str]:
    history = History()
    for event in events:
        if isinstance(event, Verification):
            history.verifications.append(event)
        else:
            history.changes.append(event)
    return [str(violation) for violation in history.violations()]


def test_a_valid_verdict_after_the_answer_is_found() -> None:
    """It is described with its event, place and time."""
    assert violations(changed(Operation.REVOKE, 1, 2), seen(Outcome.VALID, 2.3, 2.4)) == [
        "key X VALID on worker 2, invoked 0.300 s after RevokeKey answered OK on worker 0"
    ]


@pytest.mark.parametrize("operation", KILLS)
def test_every_kind_of_revocation_counts(operation: Operation) -> None:
    """Rotation without grace, batch, owner, deletion and the end of sessions guarantee the same."""
    assert violations(changed(operation, 1, 2), seen(Outcome.VALID, 3, 4))


def test_while_a_change_is_in_flight_both_answers_are_right() -> None:
    """From its invocation to its answer, and for verifications that were in progress then."""
    for outcome in (Outcome.VALID, Outcome.REVOKED):
        for invoked, answered in ((0.5, 1.5), (1.2, 1.4), (1.5, 2.5), (0.5, 3)):
            assert not violations(changed(Operation.REVOKE, 1, 2), seen(outcome, invoked, answered))


def test_a_key_that_is_alive_is_not_refused() -> None:
    """Neither without any change, nor before the first one is begun."""
    for outcome in (Outcome.REVOKED, Outcome.NOT_FOUND, Outcome.EXPIRED):
        assert violations(seen(outcome, 0, 0.5))
    assert violations(seen(Outcome.REVOKED, 0, 0.5), changed(Operation.REVOKE, 1, 2)) == [
        "key X REVOKED on worker 2, and answered 0.500 s before any revocation was begun"
    ]


def test_a_revoked_key_is_not_lost() -> None:
    """NOT_FOUND is right only after a deletion was begun, and REVOKED until it was answered."""
    revoked, deleted = changed(Operation.REVOKE, 1, 2), changed(Operation.DELETE, 5, 6)
    assert violations(revoked, seen(Outcome.NOT_FOUND, 3, 4))
    assert violations(revoked, deleted, seen(Outcome.NOT_FOUND, 3, 4))
    assert not violations(revoked, deleted, seen(Outcome.NOT_FOUND, 3, 5.5))
    assert not violations(revoked, deleted, seen(Outcome.REVOKED, 5.5, 7))
    assert violations(revoked, deleted, seen(Outcome.REVOKED, 6.5, 7))


def test_a_change_without_an_answer_may_happen_at_any_time() -> None:
    """Both answers are right forever, or until a retry is answered."""
    lost = changed(Operation.REVOKE, 1, 2, Ending.UNKNOWN)
    for outcome in (Outcome.VALID, Outcome.REVOKED):
        assert not violations(lost, seen(outcome, 100, 101))
        assert not violations(changed(Operation.REVOKE, 1, ending=Ending.UNKNOWN), seen(outcome, 100, 101))
    assert violations(lost, seen(Outcome.REVOKED, 0, 0.5))


@pytest.mark.parametrize("ending", [Ending.OK, Ending.ALREADY])
def test_a_retry_that_is_answered_settles_it(ending: Ending) -> None:
    """The answer that it was revoked already guarantees as much as OK does."""
    lost, retry = changed(Operation.REVOKE, 1, 2, Ending.UNKNOWN), changed(Operation.REVOKE, 3, 4, ending)
    assert not violations(lost, retry, seen(Outcome.VALID, 3.5, 5))
    assert violations(lost, retry, seen(Outcome.VALID, 4.5, 5))
    assert not violations(lost, retry, seen(Outcome.REVOKED, 4.5, 5))


def test_dead_without_a_cause() -> None:
    """The answer that a key was revoked already is true only if some caller has begun to revoke it."""
    assert violations(changed(Operation.REVOKE, 1, 2, Ending.ALREADY))
    assert not violations(
        changed(Operation.REVOKE, 0, 5, Ending.UNKNOWN), changed(Operation.REVOKE, 1, 2, Ending.ALREADY)
    )


def test_a_refused_change_has_not_happened() -> None:
    """The key is alive as before."""
    refused = changed(Operation.REVOKE, 1, 2, Ending.REFUSED)
    assert not violations(refused, seen(Outcome.VALID, 3, 4))
    assert violations(refused, seen(Outcome.REVOKED, 3, 4))


def test_a_scope_that_was_taken_is_missed() -> None:
    """If the scope is required, and not before the change or after it was added again."""
    taken, given = changed(Operation.TAKE_SCOPE, 1, 2), changed(Operation.GIVE_SCOPE, 5, 6)
    assert violations(taken, seen(Outcome.VALID, 3, 4, scoped=True)) == [
        "key X VALID on worker 2, invoked 1.000 s after"
        " UpdateKey that takes the scope answered OK on worker 0"
    ]
    assert not violations(taken, seen(Outcome.VALID, 3, 4))
    assert not violations(taken, seen(Outcome.INSUFFICIENT_SCOPE, 3, 4, scoped=True))
    assert not violations(taken, seen(Outcome.VALID, 1.5, 4, scoped=True))
    assert violations(taken, seen(Outcome.INSUFFICIENT_SCOPE, 0, 0.5, scoped=True))
    assert violations(seen(Outcome.INSUFFICIENT_SCOPE, 0, 0.5))
    for outcome in (Outcome.VALID, Outcome.INSUFFICIENT_SCOPE):
        assert not violations(taken, given, seen(outcome, 5.5, 7, scoped=True))
    assert violations(taken, given, seen(Outcome.INSUFFICIENT_SCOPE, 7, 8, scoped=True))
    assert not violations(taken, given, seen(Outcome.VALID, 7, 8, scoped=True))


@pytest.mark.parametrize(
    ("confined", "freed"),
    [(Operation.CONFINE, Operation.FREE), (Operation.CONFINE_OWNER, Operation.FREE_OWNER)],
)
def test_a_key_at_another_address(confined: Operation, freed: Operation) -> None:
    """Whether it is confined itself or by its owner: valid only before and after that."""
    taken, given = changed(confined, 1, 2), changed(freed, 5, 6)
    assert violations(taken, given, seen(Outcome.VALID, 3, 4))
    assert not violations(taken, given, seen(Outcome.ADDRESS_NOT_ALLOWED, 3, 4))
    assert violations(taken, given, seen(Outcome.ADDRESS_NOT_ALLOWED, 7, 8))
    assert not violations(taken, given, seen(Outcome.VALID, 7, 8))


def test_a_scope_change_without_an_answer_leaves_both() -> None:
    """It may be carried out late, even after the next one."""
    lost, taken = changed(Operation.GIVE_SCOPE, 1, 2, Ending.UNKNOWN), changed(Operation.TAKE_SCOPE, 3, 4)
    for outcome in (Outcome.VALID, Outcome.INSUFFICIENT_SCOPE):
        assert not violations(lost, taken, seen(outcome, 5, 6, scoped=True))


def test_a_scope_says_nothing_of_the_dead() -> None:
    """INSUFFICIENT_SCOPE after a revocation is as wrong as VALID."""
    events = changed(Operation.TAKE_SCOPE, 1, 2), changed(Operation.REVOKE, 3, 4)
    assert violations(*events, seen(Outcome.INSUFFICIENT_SCOPE, 5, 6, scoped=True))
    assert not violations(*events, seen(Outcome.REVOKED, 5, 6, scoped=True))


def test_no_verdict_is_no_violation() -> None:
    """UNAVAILABLE is allowed at any time; each test states how much of it is."""
    assert not violations(seen(Outcome.UNAVAILABLE, 0, 1))
    assert violations(seen(Outcome.UNAUTHENTICATED, 0, 1))
