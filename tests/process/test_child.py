"""What a child loads."""

import subprocess
import sys


def test_a_child_loads_no_transport_and_no_database() -> None:
    """It reports any OperatorError by its base class, so it does not import the packages that raise them."""
    program = "import sys, authsvc.process.child; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "authsvc.process.child" in loaded
    assert not loaded & {"grpc", "asyncpg", "pydantic", "authsvc.process.devpg"}
    ours = {name for name in loaded if name.startswith("authsvc.")}
    assert {name.split(".")[1] for name in ours} == {"process", "model", "telemetry"}
