"""The cases of clients/vectors.json, with the client of each language against the same services."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import python_runner
from tests.clients.scripted import VECTORS, serving
from tests.conftest import Service

_CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text("utf-8"))["cases"]
_SCRIPTED = [case["name"] for case in _CASES if "answers" in case["given"] and "needs" not in case]
_SERVICE = [case["name"] for case in _CASES if "service" in case["given"]]


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
