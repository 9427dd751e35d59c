"""Connect's own conformance tests against the handler, as far as the config says."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.lane.tools import ended

_PLACE = Path(__file__).parent / "conformance"


@pytest.fixture(scope="session")
def connectconformance(checkout: Path) -> Path:
    """The path of Connect's runner; without it, a test that needs it is skipped."""
    found = shutil.which("connectconformance", path=f"{checkout / '.tools'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(
            "no connectconformance: GOBIN=$PWD/.tools "
            "go install connectrpc.com/conformance/cmd/connectconformance@v1.0.5"
        )
    return Path(found)


@pytest.mark.slow
async def test_conformance(checkout: Path, connectconformance: Path) -> None:
    """All cases pass."""
    server = (sys.executable, "-m", "tests.web.conformance.server")
    config = ("--mode", "server", "--conf", _PLACE / "config.yaml")
    code, output = await ended(connectconformance, *config, "--", *server, cwd=checkout)
    assert code == 0, output
    assert "Total cases: 170\n170 passed, 0 failed" in output
