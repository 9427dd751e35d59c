"""The checker detects each part of R9 and R17 that is left out, and finds nothing if none is."""

import pytest

from tests.faults.authority_mutants import MUTANTS, run


@pytest.mark.parametrize("part", MUTANTS)
async def test_with_all_of_it_nothing_is_changed_too_late(part: str, database_url: str) -> None:
    """The scenario that needs the part ends well with it, and there was something to compare."""
    history = await run(part, database_url, mutated=False)
    assert history.violations() == []
    assert history.comparisons() == 1


@pytest.mark.parametrize("part", MUTANTS)
async def test_without_the_part_it_is_caught(part: str, database_url: str) -> None:
    """Without the part, the same scenario has a change that the checker finds."""
    history = await run(part, database_url, mutated=True)
    assert len(history.violations()) == 1
