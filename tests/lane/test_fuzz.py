"""The lane holds against any client; see `tests.lane.fuzz`, which does the same for longer."""

import pytest

from tests.lane import fuzz


def test_some_plans() -> None:
    fuzz.fuzz(100)


@pytest.mark.slow
def test_many_plans() -> None:
    fuzz.fuzz(1000)
