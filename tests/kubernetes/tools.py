"""The programs that the tests run, and where `.ci/run` installs them."""

import shutil
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
_OURS = CHECKOUT / ".tools/kubernetes"


def tool(name: str, remedy: str = "see .ci/run") -> str:
    """Return a program; skip the test if there is none."""
    ours = _OURS / name
    if found := shutil.which(name) or (str(ours) if ours.exists() else None):
        return found
    pytest.skip(f"no {name}: {remedy}")


def schemas() -> Path:
    """Return the JSON schemas of Kubernetes and of operators; skip the test if there are none."""
    directory = _OURS / "schemas"
    if not directory.is_dir():
        pytest.skip("no JSON schemas of Kubernetes: see .ci/run")
    return directory
