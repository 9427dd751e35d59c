"""The checks of what was sent: each finds what is wrong. The cases are complete."""

import json
from typing import Any

import pytest

from tests.clients.calls import Call, Calls, problems
from tests.clients.scripted import VECTORS

_CALL = Call("a.B/Get", "Bearer own", 1.5, {"key_string": "x"}, at=10.0)
_LATER = Call("a.B/Get", None, None, {}, at=10.03)
_FIELDS = {"name", "why", "needs", "given", "client", "steps"}
_METHODS = {"verify_key", "verify_session", "verify_token", "rpc", "guard"}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"calls": 1}, "2 calls instead of 1"),
        ({"calls_at_least": 3}, "2 calls, fewer than 3"),
        ({"calls_at_most": 1}, "2 calls, more than 1"),
        ({"rpc": "a.B/List"}, "called a.B/Get instead of a.B/List"),
        ({"authorizations": ["Bearer own", "Bearer own"]}, "authorization was"),
        ({"timeout_at_most_seconds": 1}, "the deadline was 1.5 s"),
        ({"timeout_at_most_seconds": 2}, "the deadline was None s"),
        ({"request": {"key_string": "y"}}, "key_string was 'x' instead of 'y'"),
        ({"pauses_at_least_seconds": [0.05]}, "a pause was 0.030 s"),
        ({"pauses_at_least_seconds": [0.01, 0.01]}, "1 pauses instead of 2"),
    ],
)
def test_what_was_sent_otherwise(expected: dict[str, Any], found: str) -> None:
    """Each expectation that is not met is a problem with its values."""
    assert any(found in problem for problem in problems([_CALL, _LATER], expected))


def test_what_was_sent_as_expected() -> None:
    """Nothing is wrong, and an expectation that nobody knows is no success."""
    expected = {
        "calls": 1,
        "calls_at_least": 1,
        "calls_at_most": 1,
        "rpc": "a.B/Get",
        "authorizations": ["Bearer own"],
        "timeout_at_most_seconds": 2,
        "request": {"key_string": "x"},
        "pauses_at_least_seconds": [],
    }
    assert problems([_CALL], expected) == []
    with pytest.raises(KeyError):
        problems([_CALL], {"call": 1})


def test_calls_are_taken_once() -> None:
    """A step sees only its own calls."""
    calls = Calls()
    calls.add("a.B/Get", None, 1.0, {})
    assert [call.rpc for call in calls.taken()] == ["a.B/Get"]
    assert calls.taken() == []


def test_the_cases_say_what_they_are() -> None:
    """Each has a name of its own, its reason, and steps; each call has an expectation."""
    cases = json.loads(VECTORS.read_text("utf-8"))["cases"]
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names) >= 40
    for case in cases:
        assert set(case) <= _FIELDS
        assert case["why"].endswith(".")
        assert set(case["given"]) in ({"answers"}, {"service"})
        assert case["steps"]
        for step in case["steps"]:
            if "call" in step:
                assert step["call"]["method"] in _METHODS, case["name"]
                assert step["expect"], case["name"]
