"""The checker detects each rule for clients that is left out, and finds nothing if none is."""

import pytest

from tests.e2e.process import on_linux
from tests.faults.history import Outcome
from tests.faults.holder_mutants import MUTANTS, run
from tests.faults.mutants import ASKED

pytestmark = on_linux


@pytest.mark.parametrize("rule", MUTANTS)
async def test_with_the_rule_nothing_is_violated(rule: str, database_url: str) -> None:
    """The scenario that needs the rule ends well with it."""
    history = await run(rule, database_url, mutated=False)
    assert history.violations() == []
    # It reached the relevant point: the revocation was answered, and the key verified after that.
    answered = history.changes[-1].answered
    late = [seen.outcome for seen in history.verifications if seen.invoked > answered]
    assert len(late) >= ASKED
    assert set(late) <= {Outcome.REVOKED, Outcome.UNAVAILABLE}


@pytest.mark.parametrize("rule", MUTANTS)
async def test_without_the_rule_it_is_caught(rule: str, database_url: str) -> None:
    """Without the rule, the same scenario has verifications that the checker finds."""
    history = await run(rule, database_url, mutated=True)
    violations = history.violations()
    assert len(violations) >= ASKED, history
    assert all("VALID" in violation.text for violation in violations)
