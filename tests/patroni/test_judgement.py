"""The comparison of what was acknowledged with what is there finds each kind of loss."""

from tests.faults.history import Change, Ending, History, Operation, Outcome, Verification
from tests.patroni.judgement import judge
from tests.patroni.load import Answers


def change(key: str, ending: Ending, operation: Operation = Operation.REVOKE) -> Change:
    """Return a change at the first second, answered at the second one."""
    return Change(operation, key, "replica 0", 1.0, 2.0, ending)


def seen(key: str, at: float, outcome: Outcome) -> Verification:
    """Return a verification that begins at an instant."""
    return Verification(key, "replica 1", at, at + 0.1, outcome)


def test_nothing_is_wrong() -> None:
    """Keys that are alive, revoked, deleted, and some whose revocation was never answered."""
    history = History(
        verifications=[seen("revoked", 3, Outcome.REVOKED), seen("alive", 3, Outcome.VALID)],
        changes=[
            change("revoked", Ending.OK),
            change("deleted", Ending.OK, Operation.DELETE),
            change("unknown", Ending.UNKNOWN),
            change("other", Ending.UNKNOWN, Operation.DELETE),
        ],
    )
    created = ["alive", "revoked", "deleted", "unknown", "other"]
    found = judge(history, created, {"alive": False, "revoked": True, "unknown": True})
    assert (found.lost, found.undone, found.accepted, found.others) == (set(), set(), [], [])


def test_a_creation_is_lost() -> None:
    """It was acknowledged, and the key is not there; or it is there, revoked by nobody."""
    history = History(changes=[change("revoked", Ending.OK)])
    assert judge(history, ["alive", "revoked"], {}).lost == {"alive", "revoked"}
    assert judge(history, ["alive", "revoked"], {"alive": True, "revoked": True}).lost == {"alive"}


def test_a_revocation_is_undone() -> None:
    """It was acknowledged, and the key is active; one that was not acknowledged may be."""
    history = History(changes=[change("revoked", Ending.ALREADY), change("unknown", Ending.UNKNOWN)])
    history.changes.append(change("revoked", Ending.UNKNOWN))
    assert judge(history, [], {"revoked": False, "unknown": False}).undone == {"revoked"}


def test_a_revoked_key_is_accepted() -> None:
    """After the revocation was acknowledged; a refusal of an active key is something else."""
    history = History(
        verifications=[
            seen("revoked", 1.5, Outcome.VALID),
            seen("revoked", 2.5, Outcome.VALID),
            seen("alive", 2.5, Outcome.NOT_FOUND),
        ],
        changes=[change("revoked", Ending.OK)],
    )
    found = judge(history, [], {"alive": False, "revoked": True})
    assert len(found.accepted) == len(found.others) == 1
    assert "revoked VALID" in found.accepted[0]
    assert "alive NOT_FOUND" in found.others[0]


def test_gaps() -> None:
    """The longest time between two answers, or to the end, that touches the interval."""
    answers = Answers("warm", [1.0, 2.0, 6.0, 6.5])
    assert answers.gap(1.5, 7) == 4
    assert answers.gap(4, 7) == 4
    assert answers.gap(6.1, 10) == 3.5
    assert answers.gap(6.6, 6.7) == 6.7 - 6.5
    assert Answers("nothing").gap(3, 10) == 7
