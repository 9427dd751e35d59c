"""All faults, with a given number of verifications: `python -m tests.faults [verifications] [options]`.

Runs the tests of this directory that put a load on workers, and prints a table of them.
Options are those of pytest.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.faults.table import VOLUME

_HERE = Path(__file__).parent
_FILES = (
    "kill",
    "pause",
    "partition",
    "hints",
    "database",
    "start",
    "lost_answer",
    "sessions",
    "replicas",
    "holding_clients",
    "holding_failover",
    "holding_workers",
)
_TESTS = 61


def main() -> int:
    """Run all of them; return pytest's exit code."""
    arguments = sys.argv[1:]
    wanted = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 200_000
    command = [sys.executable, "-m", "pytest", "-p", "tests.faults.table", "-o", "timeout=900", "-q"]
    files = [str(_HERE / f"test_{name}.py") for name in _FILES]
    environment = os.environ | {VOLUME: str(-(-wanted // _TESTS))}
    return subprocess.run(
        [*command, *files, *arguments], cwd=_HERE.parent.parent, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
