"""The lane holds against any client; see `tests.lane.fuzz`, which does the same for longer."""

import pytest

from tests.lane import fuzz


def test_some_plans() -> None:
    fuzz.fuzz(100)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_plans() -> None:
    fuzz.fuzz(500)
