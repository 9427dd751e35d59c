"""A running service for all tests of this package, and the programs that call it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import Server, running


def _new_directory(below: Path) -> Path:
    directory = Path(tempfile.mkdtemp(dir=below))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def directory(reachable_dir: Path) -> Iterator[Path]:
    """A directory for this test in which PostgreSQL works even for root."""
    directory = _new_directory(reachable_dir)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def dev(reachable_dir: Path) -> Iterator[Server]:
    """`authsvc dev`, started once for all tests that neither stop nor disturb it."""
    with running("dev", _new_directory(reachable_dir)) as server:
        yield server
