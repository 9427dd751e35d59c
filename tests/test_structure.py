"""Size limits: few entries at the root of the package, short files, short functions."""

import ast
from pathlib import Path

import authsvc

_SOURCE = Path(authsvc.__file__).parent
_MAX_ENTRIES = 20
_MAX_FILE_LINES = 300
_MAX_FUNCTION_LINES = 60


def _files() -> list[Path]:
    """Return all files of ours, without generated code."""
    return [path for path in _SOURCE.rglob("*.py") if "v1" not in path.relative_to(_SOURCE).parts]


def test_the_package_has_few_entries() -> None:
    """Besides the files that Python and type checkers look for."""
    entries = {path.name for path in _SOURCE.iterdir()} - {"__init__.py", "py.typed", "__pycache__"}
    assert len(entries) <= _MAX_ENTRIES, sorted(entries)


def test_files_are_short() -> None:
    """A longer file usually has two subjects."""
    lengths = {str(path.relative_to(_SOURCE)): len(path.read_text("utf-8").splitlines()) for path in _files()}
    assert lengths
    assert {path: length for path, length in lengths.items() if length > _MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    """From the `def` to the last line, including the docstring."""
    lengths = {}
    for path in _files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                name = f"{path.relative_to(_SOURCE)}:{node.name}"
                lengths[name] = node.end_lineno - node.lineno + 1
    assert lengths
    assert {name: length for name, length in lengths.items() if length > _MAX_FUNCTION_LINES} == {}
