"""Keys in the database whose strings were made elsewhere."""

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from authsvc.model.foreign_secret import ForeignSecret
from authsvc.model.key import Key
from authsvc.model.text import folded
from authsvc.store.audit import instant_text
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
    rows = [_plain(key, secret, request_id) for key, secret in keys]
    made = await connection.fetch(_SQL["insert_imported"], json.dumps(rows, default=instant_text))
    return {row["key_id"] for row in made}


def _plain(key: Key, secret: ForeignSecret, request_id: str) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "owner_id": key.owner_id,
        "key_prefix": key.key_prefix,
        "secret_hash": secret.stored_hash,
        "display_name": key.display_name,
        "folded_name": folded(key.display_name),
        "description": key.description,
        "scopes": key.scopes,
        "technical_contacts": [{"name": c.name, "email": c.email} for c in key.technical_contacts],
        "annotations": dict(key.annotations),
        "create_time": key.create_time,
        "creator_id": key.creator_id,
        "expire_time": key.expire_time,
        "allowed_networks": key.allowed_networks,
        "request_id": request_id or None,
    }
