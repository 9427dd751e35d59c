"""Reads the named queries of `sql/*.sql`.

A query starts with a line `-- name: find_key`; the comments that follow say what
it is for and stay with it, so that they show in PostgreSQL's own logs.
"""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_queries(file_name: str) -> dict[str, str]:
    """Return the queries of a file by name."""
    text = (files("authsvc.store") / "sql" / file_name).read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {name: query.strip().rstrip(";") for name, query in zip(parts[::2], parts[1::2], strict=True)}
