"""The policies of owners. An owner without a row has the operator's default policy."""

from collections.abc import Collection, Mapping
from datetime import datetime

import asyncpg

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.policy import KeyEdits, KeyManagers, OwnerPolicy
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries
from authsvc.store.rate_limits import as_json, from_json

_SQL = load_queries("policies.sql")


class PolicyStore:
    """Reads and writes policies."""

    def __init__(self, default: OwnerPolicy) -> None:
        self.default = default

    async def find(self, connection: Connection, owner_id: str) -> OwnerPolicy:
        """Return the current policy of an owner."""
        row = None
        if owner_id != PLATFORM_OWNER:
            row = await connection.fetchrow(_SQL["find_policy"], owner_id)
        return self.default.of(owner_id) if row is None else _from_row(row)

    async def find_all(self, connection: Connection, owner_ids: Collection[str]) -> Mapping[str, OwnerPolicy]:
        """Return the current policy of each of these owners."""
        rows = await connection.fetch(_SQL["find_policies"], list(owner_ids))
        own = {row["owner_id"]: _from_row(row) for row in rows}
        own.pop(PLATFORM_OWNER, None)
        return {owner_id: own.get(owner_id) or self.default.of(owner_id) for owner_id in owner_ids}


async def save(connection: Connection, policy: OwnerPolicy) -> None:
    """Write the policy of an owner."""
    await connection.execute(
        _SQL["save_policy"],
        policy.owner_id,
        policy.keys_enabled,
        policy.max_active_keys,
        policy.allowed_scopes,
        policy.max_key_lifetime,
        policy.expiration_required,
        policy.contacts_required,
        policy.key_edits.value,
        policy.key_managers.value,
        policy.brand,
        policy.rotation_period,
        policy.update_time,
        policy.version,
        policy.allowed_networks,
        as_json(policy.rate_limits),
    )


async def lock_count(connection: Connection, owner_id: str) -> None:
    """Keep other transactions from counting an owner's active keys until this one ends."""
    await connection.execute(_SQL["lock_count"], owner_id)


async def count_active(
    connection: Connection, owner_id: str, *, now: datetime, rotated: bool, excluding: str, limit: int
) -> int:
    """Return the number of an owner's active keys besides `excluding`, at most `most`.

    With `rotated`, only keys in the grace period of a rotation are counted, otherwise only the others. Until
    this transaction ends, no other transaction that counts can add one.
    """
    await lock_count(connection, owner_id)
    count: int = await connection.fetchval(_SQL["count_active"], owner_id, now, rotated, excluding, limit)
    return count


def _from_row(row: asyncpg.Record) -> OwnerPolicy:
    return OwnerPolicy(
        owner_id=row["owner_id"],
        keys_enabled=row["keys_enabled"],
        max_active_keys=row["max_active_keys"],
        allowed_scopes=tuple(row["allowed_scopes"]),
        max_key_lifetime=row["max_key_lifetime"],
        expiration_required=row["expiration_required"],
        contacts_required=row["contacts_required"],
        key_edits=KeyEdits(row["key_edits"]),
        key_managers=KeyManagers(row["key_managers"]),
        brand=row["brand"],
        rotation_period=row["rotation_period"],
        update_time=row["update_time"],
        version=row["version"],
        allowed_networks=tuple(row["allowed_networks"]),
        rate_limits=from_json(row["rate_limits"]),
    )
