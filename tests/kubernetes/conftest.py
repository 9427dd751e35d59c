"""Directories for the processes that the tests start."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def directory(reachable_dir: Path) -> Iterator[Path]:
    """A directory for this test."""
    directory = Path(tempfile.mkdtemp(dir=reachable_dir))
    yield directory
    shutil.rmtree(directory)
