"""The tests of `make test-quick`, for use during development: they find most errors.

They take four minutes on two cores. They are selected by rules, so that no list has to be maintained:

- none of e2e and faults, whose tests start the service as a program, or break it;
- none that start other programs, which their fixtures show, and none that are marked as slow;
- the first one of each file with tests that need a database;
- all others.

`make test` runs everything.
"""

from pathlib import Path

import pytest

_LEFT_OUT = {"e2e", "faults"}
_TESTS = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Exclude packages before they are imported."""
    return True if collection_path.parent == _TESTS and collection_path.name in _LEFT_OUT else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect those that the rules exclude among the tests that `-k` and `-m` have selected."""
    quick: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    has_one: set[Path] = set()
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        needs_database = "postgres" in fixtures
        # A directory that other users can reach is for a PostgreSQL of the test's own, or for a proxy.
        starts_programs = "reachable_dir" in fixtures and (not needs_database or "checkout" in fixtures)
        is_another = needs_database and item.path in has_one
        if starts_programs or is_another or item.get_closest_marker("slow"):
            left_out.append(item)
        else:
            quick.append(item)
            if needs_database:
                has_one.add(item.path)
    config.hook.pytest_deselected(items=left_out)
    items[:] = quick
