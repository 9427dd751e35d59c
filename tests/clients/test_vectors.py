"""The cases of clients/vectors.json, with the client of each language against the same services."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import python_runner
from tests.clients.scripted import VECTORS, serving
from tests.conftest import Service
from tests.lane.tools import ended

_CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text("utf-8"))["cases"]
_SCRIPTED = [case["name"] for case in _CASES if "answers" in case["given"] and "needs" not in case]
_SERVICE = [case["name"] for case in _CASES if "service" in case["given"]]

#: By language: the program that has to be installed, and the command, in the directory of the client.
RUNNERS = {
    "go": ("go", ("go", "run", "./internal/vectors")),
    "typescript": ("npm", ("sh", "-c", "test -d node_modules || npm ci --silent; npm run --silent vectors")),
    "java": ("mvn", ("mvn", "-q", "-B", "test-compile", "exec:java")),
}
_CLIENTS = VECTORS.parent
# A cold cache of a compiler is most of it.
_SECONDS = 600


@pytest.fixture(scope="module")
def scripted() -> Iterator[dict[str, str]]:
    with serving() as environment:
        yield environment


@pytest.mark.parametrize("name", _SCRIPTED)
async def test_python(scripted: dict[str, str], tmp_path: Path, name: str) -> None:
    """The client of this package does what a case says."""
    assert await python_runner.run(name, scripted, tmp_path) == []


@pytest.mark.parametrize("name", _SERVICE)
async def test_python_with_a_real_service(service: Service, tmp_path: Path, name: str) -> None:
    """The same, with a real service."""
    with serving(service.address, service.admin_key) as environment:
        assert await python_runner.run(name, environment, tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(_SECONDS + 60)
@pytest.mark.parametrize("language", RUNNERS)
async def test_other_languages(service: Service, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    """The runner of each language runs every case, those with a real service as well, and none fails."""
    program, command = RUNNERS[language]
    if shutil.which(program) is None:
        pytest.skip(f"no {program} is installed, which the client in clients/{language} needs")
    with serving(service.address, service.admin_key) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status, output = await ended(*command, cwd=_CLIENTS / language, seconds=_SECONDS)
    lines = [line for line in output.splitlines() if line.startswith(("ok ", "not ok "))]
    assert [line for line in lines if line.startswith("not ok ")] == []
    assert status == 0, output[-2000:]
    assert [line.split()[1] for line in lines] == [case["name"] for case in _CASES]
    skipped = {line.split()[1] for line in lines if "# SKIP" in line}
    assert skipped <= {case["name"] for case in _CASES if "needs" in case}
    assert service.admin_key not in output
