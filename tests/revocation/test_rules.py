"""The rules R1 to R17 name the functions that implement them, and these exist."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

from authsvc import client, net, revocation, rpc, verify

_FUNCTION = re.compile(r"\b([A-Z]\w+)\.(\w+)\b")
_RULES = [f"R{number}" for number in range(1, 18)]


def _missing(table: str) -> list[str]:
    """Return the functions of a table that do not exist; it has to name some."""
    packages = (client, net, revocation, rpc, verify)
    modules = [
        import_module(f"{package.__name__}.{module.name}")
        for package in packages
        for module in pkgutil.iter_modules(package.__path__)
    ]
    named = _FUNCTION.findall(table)
    assert len(named) >= len(_RULES)
    return [
        f"{owner}.{function}"
        for owner, function in named
        if not any(callable(getattr(getattr(module, owner, None), function, None)) for module in modules)
    ]


def test_the_package() -> None:
    """Its docstring has a row for each rule, and a function in each."""
    table = "\n".join(line for line in (revocation.__doc__ or "").splitlines() if line.startswith("    "))
    rows = re.split(r"^    (?=R\d+ )", table, flags=re.MULTILINE)[1:]
    assert [row.split()[0] for row in rows] == _RULES
    assert all(_FUNCTION.search(row) for row in rows)
    assert _missing(table) == []


def test_the_document(checkout: Path) -> None:
    """So has docs/revocation.md, in the last column."""
    lines = (checkout / "docs/revocation.md").read_text("utf-8").splitlines()
    rows = [line.rstrip("| ").rsplit("|", 1)[-1] for line in lines if re.match(r"\| R\d+ \|", line)]
    assert len(rows) == len(_RULES)
    assert all(_FUNCTION.search(row) for row in rows)
    assert _missing("\n".join(rows)) == []


def test_a_function_that_is_gone_is_found() -> None:
    """Also a class that is gone, and the name of an attribute."""
    table = "Judge.verdict, " * len(_RULES) + "Verifier._judge, Feed.renew, Follower.seq"
    assert _missing(table) == ["Verifier._judge", "Feed.renew", "Follower.seq"]
