"""Callers of three real workers lose their authority while they call: nothing is changed after the answer."""

from pathlib import Path

import pytest

from tests.faults.callers import KINDS, flood
from tests.faults.workers import fleet

# A few: `python -m tests.faults.callers` runs a thousand of each.
_TRIALS = 10


@pytest.mark.parametrize("kind", KINDS)
async def test_callers_under_a_flood(kind: str, tmp_path: Path, database_url: str) -> None:
    """Over gRPC only, as callers see it."""
    async with fleet(tmp_path, database_url, lease=5.0) as on:
        tally = await flood(on, kind, _TRIALS)
        assert tally.trials == _TRIALS
        assert tally.violations == 0, tally
        assert not on.faults()
