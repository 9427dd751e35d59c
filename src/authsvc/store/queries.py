"""Reads the named queries of `sql/*.sql`.

A query starts with a line such as `-- name: find_key`. The comments after it describe the query and are sent
with it, so that they appear in the logs of PostgreSQL.
"""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_queries(file_name: str) -> dict[str, str]:
    """Return the queries of a file, by name."""
    text = (files("authsvc.store") / "sql" / file_name).read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {name: query.strip().rstrip(";") for name, query in zip(parts[::2], parts[1::2], strict=True)}
