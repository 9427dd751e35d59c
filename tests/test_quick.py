"""The rules by which `make test-quick` excludes tests."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import quick

HERE = Path(__file__)
NEEDS_DATABASE = ("service", "postgres", "reachable_dir")


def item(name: str, *fixtures: str, path: Path = HERE, slow: bool = False) -> Any:
    mark = pytest.mark.slow if slow else None
    return SimpleNamespace(name=name, path=path, fixturenames=fixtures, get_closest_marker=lambda _: mark)


def test_what_is_left_out() -> None:
    items = [
        item("pure"),
        item("slow", slow=True),
        item("slow with a database", *NEEDS_DATABASE, slow=True),
        item("of a proxy", *NEEDS_DATABASE, "checkout"),
        item("of a server of its own", "reachable_dir"),
        item("of a document", "checkout"),
        item("first", *NEEDS_DATABASE),
        item("second", *NEEDS_DATABASE),
        item("first of another file", *NEEDS_DATABASE, path=HERE.parent / "test_rules.py"),
    ]
    told: list[Any] = []
    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: told.extend(items)))
    everything = list(items)
    quick.pytest_collection_modifyitems(config, items)
    assert [item.name for item in items] == ["pure", "of a document", "first", "first of another file"]
    assert sorted([*items, *told], key=everything.index) == everything


@pytest.mark.parametrize(
    ("path", "ignored"), [("e2e", True), ("faults", True), ("rpc", None), ("rpc/e2e", None)]
)
def test_packages_that_are_left_out(path: str, ignored: bool | None) -> None:
    assert quick.pytest_ignore_collect(HERE.parent / path) is ignored
