"""The generated code of the clients is that of the protos."""

import subprocess
import sys
from pathlib import Path

import pytest

_CLIENTS = Path(__file__).parents[2] / "clients"


def _generated(language: str, out: Path) -> None:
    command = [sys.executable, str(_CLIENTS / "generate.py"), language, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def _differences(language: str, out: Path, below: str) -> list[str]:
    fresh, committed = (
        {file.relative_to(place): file.read_bytes() for file in (place / below).rglob("*") if file.is_file()}
        for place in (out, _CLIENTS / language)
    )
    assert fresh
    return [str(name) for name in sorted({*fresh, *committed}) if fresh.get(name) != committed.get(name)]


def test_the_descriptors_for_java_are_fresh(tmp_path: Path) -> None:
    """If not, run `python clients/generate.py java` and commit the change."""
    _generated("java", tmp_path)
    assert _differences("java", tmp_path, "src/main/protobuf") == []


def test_the_code_for_typescript_is_fresh(tmp_path: Path) -> None:
    """If not, run `python clients/generate.py typescript` and commit the change."""
    if not (_CLIENTS / "typescript" / "node_modules").exists():
        pytest.skip("the plugin is not installed: npm ci --prefix clients/typescript")
    _generated("typescript", tmp_path)
    assert _differences("typescript", tmp_path, "src/gen") == []
