"""Runs the README's five minutes with Envoy as written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import environment, free_port, running
from tests.gateway import proxies
from tests.gateway.conftest import new_directory


def test_a_newcomer_pastes(checkout: Path, reachable_dir: Path) -> None:
    """Envoy refuses and allows as the comments beside the lines say. Only ports and paths differ."""
    if shutil.which("curl") is None:
        pytest.skip("no curl: apt-get install curl")
    try:
        envoy = proxies.program(checkout, "envoy")
    except proxies.NoProxyError as error:
        pytest.skip(str(error))
    section = (checkout / "README.md").read_text("utf-8").partition("## In front of your services")[2]
    install, *lines = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert "pip install" in install
    expected = [status for line in lines for status in re.findall(r"^curl .*# (\d+)", line)]
    assert expected == ["401", "200", "403"]
    directory = new_directory(reachable_dir)
    (directory / "docs").mkdir()
    with running("dev", directory) as server:
        places = {
            ".venv/bin/authsvc": f"{sys.executable} -m authsvc.cli",
            ".tools/proxies/bin/envoy": str(envoy),
            "deploy/envoy/envoy.yaml": "envoy.yaml",
            "8080": str(free_port()),
            "8000": str(free_port()),
            "50051": server.address.rpartition(":")[2],
        }
        config = (checkout / "deploy/envoy/envoy.yaml").read_text("utf-8")
        script = "\n".join(lines)
        # On a busy machine it may take longer until Envoy finds authsvc healthy.
        asks = "curl -so refusal -w '%{http_code}' http://127.0.0.1:8080/"
        assert "sleep 3" in script
        script = script.replace("sleep 3", f'until [ "$({asks})" = 401 ]; do sleep 0.1; done')
        # All at once, since the number of one port may be part of another.
        known = re.compile("|".join(map(re.escape, places)))
        script, config = (known.sub(lambda found: places[found[0]], text) for text in (script, config))
        (directory / "envoy.yaml").write_text(config)
        pasted = subprocess.run(
            ["bash", "-c", f"trap 'kill $(jobs -p)' EXIT\n{script}"],
            cwd=directory,
            env=environment(data_dir=server.data_dir, address=server.address) | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert re.findall(r"HTTP/1.1 (\d+)", pasted.stdout) == expected, pasted
    assert "Orders" in pasted.stdout
