"""Both distributions, built once, and environments to install them in."""

from pathlib import Path

import pytest

from release.packages import build
from tests.e2e.conftest import dev

__all__ = ["EPOCH", "built", "dev"]

EPOCH = 1_790_000_000


@pytest.fixture(scope="session")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheels and source distributions."""
    out = tmp_path_factory.mktemp("built")
    assert len(build(checkout, out, epoch=EPOCH)) == 4
    return out
