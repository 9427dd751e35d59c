"""Keys in the database whose strings were made elsewhere."""

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from authsvc.model.foreign_secret import ForeignSecret
from authsvc.model.key import Key
from authsvc.store.audit import instant_text
from authsvc.store.keys import new_columns
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("imports.sql")


class Holding(NamedTuple):
    """The key that has a look-up, and its owner."""

    key_id: str
    owner_id: str


async def find_look_ups(connection: Connection, look_ups: Collection[str]) -> dict[str, Holding]:
    """Return the keys that have these look-ups, by look-up."""
    rows = await connection.fetch(_SQL["find_look_ups"], list(look_ups))
    return {row["key_prefix"]: Holding(row["key_id"], row["owner_id"]) for row in rows}


async def insert(
    connection: Connection, keys: Sequence[tuple[Key, ForeignSecret]], request_id: str = ""
) -> set[str]:
    """Insert keys; return the ids of those that were inserted: the look-up of the others is in use.

    With a `request_id`, there is one key, and nobody else has used it for the owner: it is locked.
    """
    rows = [
        {**new_columns(key), "secret_hash": secret.stored_hash, "request_id": request_id or None}
        for key, secret in keys
    ]
    made = await connection.fetch(_SQL["insert_imported"], json.dumps(rows, default=instant_text))
    return {row["key_id"] for row in made}
