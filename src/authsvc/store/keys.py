"""Keys in the database."""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import islice

import asyncpg

from authsvc.model.audit_event import AuditEvent
from authsvc.model.delivery import ANSWERED_WITHIN, Delivery
from authsvc.model.key import Key, RevokeCause, TechnicalContact
from authsvc.model.pause import Pause
from authsvc.model.text import folded
from authsvc.store.audit import events_json
from authsvc.store.credits import from_column
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries
from authsvc.store.rate_limits import as_json, from_json

_SQL = load_queries("keys.sql")
# How many rows are read before other tasks run. A thousand of the largest keys take half a second.
_ROWS_AT_A_TIME = 25


async def insert(
    connection: Connection, key: Key, *, secret_hash: str, secret_origin: str, request_id: str
) -> bool:
    """Insert a key; return False, with nothing done, if its owner has used this request_id before.

    With a request_id, the delivery of the key string is pending.
    """
    inserted = await connection.fetchval(
        _SQL["insert_key"],
        key.key_id,
        key.owner_id,
        key.key_prefix,
        secret_hash,
        secret_origin,
        key.display_name,
        folded(key.display_name),
        key.description,
        key.scopes,
        _contacts_json(key),
        json.dumps(dict(key.annotations)),
        key.create_time,
        key.creator_id,
        key.update_time,
        key.expire_time,
        key.revoke_time,
        key.revoker_id,
        key.revoke_reason,
        key.rotated_from_key_id,
        key.rotated_to_key_id,
        request_id or None,
        key.version,
        Delivery.PENDING.value if request_id else None,
        key.allowed_networks,
        as_json(key.rate_limits),
        key.budget_id,
    )
    return inserted is not None


def new_columns(key: Key) -> dict[str, object]:
    """Return the columns of a new key, for statements that take keys as JSON.

    Instants become texts by `instant_text`. A statement reads those columns that it names.
    """
    return {
        "key_id": key.key_id,
        "owner_id": key.owner_id,
        "key_prefix": key.key_prefix,
        "display_name": key.display_name,
        "folded_name": folded(key.display_name),
        "description": key.description,
        "scopes": key.scopes,
        "technical_contacts": _plain_contacts(key),
        "annotations": dict(key.annotations),
        "create_time": key.create_time,
        "creator_id": key.creator_id,
        "expire_time": key.expire_time,
        "allowed_networks": key.allowed_networks,
        "rate_limits": key.rate_limits,
        "budget_id": key.budget_id,
        "version": key.version,
    }


async def find_request(connection: Connection, owner_id: str, request_id: str) -> str | None:
    """Return the id of the key that this request created, even if it was deleted; None if there is none."""
    key_id: str | None = await connection.fetchval(_SQL["find_request"], owner_id, request_id)
    return key_id


async def give_up_request(connection: Connection, key_id: str) -> None:
    """Release the request_id of a locked key, so that another key can take it over."""
    await connection.execute(_SQL["give_up_request"], key_id)


async def record_answers(connection: Connection, sent: Mapping[str, bool]) -> int:
    """Record for each key whether the answer with its string was sent; return how many were lost.

    Keys that do not exist are ignored.
    """
    lost: int = await connection.fetchval(_SQL["record_answers"], list(sent), list(sent.values()))
    return lost


async def lock_request(connection: Connection, owner_id: str, request_id: str) -> None:
    """Keep other transactions from creating a key for this request until this one ends."""
    await connection.execute(_SQL["lock_request"], owner_id, request_id)


async def find(
    connection: Connection, key_ids: Collection[str], *, owner_id: str | None = None
) -> dict[str, Key]:
    """Return the existing ones of these keys by id; with `owner_id`, only those of this owner."""
    rows = await connection.fetch(_SQL["find_keys"], key_ids, owner_id)
    found = {}
    for row in rows:
        found[row["key_id"]] = from_row(row)
        if len(found) % _ROWS_AT_A_TIME == 0:
            await asyncio.sleep(0)
    return found


async def update(connection: Connection, keys: Collection[Key]) -> None:
    """Write the mutable fields of these keys."""
    await connection.executemany(
        _SQL["update_key"],
        [
            (
                key.key_id,
                key.display_name,
                folded(key.display_name),
                key.description,
                key.scopes,
                _contacts_json(key),
                json.dumps(dict(key.annotations)),
                key.update_time,
                key.expire_time,
                key.revoke_time,
                key.revoker_id,
                key.revoke_reason,
                key.rotated_to_key_id,
                key.version,
                key.allowed_networks,
                *_pause_columns(key.pause),
                as_json(key.rate_limits),
            )
            for key in keys
        ],
    )


async def revoke(connection: Connection, keys: Collection[Key], events: Sequence[AuditEvent]) -> None:
    """Write the revocations of locked keys, which are all alike, and their audit events, in one round trip.

    It locks the heads of audit chains, as `audit.record` does.
    """
    for key in islice(keys, 1):
        await connection.execute(
            _SQL["revoke_keys"],
            [each.key_id for each in keys],
            key.update_time,
            key.revoke_time,
            key.revoker_id,
            key.revoke_reason,
            events_json(events),
        )


async def revoke_leaked(connection: Connection, keys: Sequence[Key], events: Sequence[AuditEvent]) -> None:
    """Write that locked keys were revoked by one caller because they have leaked, each for its own reason.

    It locks the heads of audit chains, as `audit.record` does.
    """
    for key in keys[:1]:
        await connection.execute(
            _SQL["revoke_leaked_keys"],
            [each.key_id for each in keys],
            key.revoke_time,
            key.revoker_id,
            [each.revoke_reason for each in keys],
            events_json(events),
        )


async def revoke_owner(
    connection: Connection, owner_id: str, *, at: datetime, by: str, reason: str
) -> dict[str, str]:
    """Revoke all keys of a locked owner; return the prefixes, by id, of those that were not revoked yet."""
    # An owner may have very many keys, and all are revoked in one transaction.
    rows = await connection.fetch(_SQL["revoke_owner"], owner_id, at, by, reason, timeout=3600)
    return {row["key_id"]: row["key_prefix"] for row in rows}


async def delete(connection: Connection, key_ids: Collection[str], *, at: datetime) -> None:
    """Delete keys and everything that belongs to them, except for their request ids, which stay in use."""
    await connection.execute(_SQL["delete_keys"], key_ids, at)


async def alone_for_administrator(connection: Connection) -> None:
    """Keep other transactions from minting an administrator's key until this one ends."""
    await connection.execute(_SQL["alone_for_administrator"])


async def has_active_owner_key(connection: Connection, owner_id: str, scope: str, now: datetime) -> bool:
    """Return whether an owner has an active key with a scope."""
    began = now - ANSWERED_WITHIN
    return bool(await connection.fetchval(_SQL["has_active_owner_key"], owner_id, scope, now, began))


async def has_lasting_key(
    connection: Connection, owner_id: str, scope: str, now: datetime, *, excluding: Collection[str]
) -> bool:
    """Return whether an owner has another active key with a scope and without a scheduled revocation."""
    began = now - ANSWERED_WITHIN
    return bool(await connection.fetchval(_SQL["has_lasting_key"], owner_id, scope, now, began, excluding))


def from_row(row: asyncpg.Record) -> Key:
    """Return the key in a row of `key_records`."""
    return Key(
        key_id=row["key_id"],
        owner_id=row["owner_id"],
        key_prefix=row["key_prefix"],
        display_name=row["display_name"],
        description=row["description"],
        scopes=tuple(row["scopes"]),
        technical_contacts=_contacts(row["technical_contacts"]),
        annotations={} if row["annotations"] == "{}" else json.loads(row["annotations"]),
        create_time=row["create_time"],
        creator_id=row["creator_id"],
        update_time=row["update_time"],
        expire_time=row["expire_time"],
        revoke_time=row["revoke_time"],
        revoker_id=row["revoker_id"],
        revoke_reason=row["revoke_reason"],
        revoke_cause=_cause(row),
        revoked_with_key_id=row["revoked_with_key_id"],
        last_use_time=row["last_use_time"],
        last_use_ip=row["last_use_ip"],
        rotated_from_key_id=row["rotated_from_key_id"],
        rotated_to_key_id=row["rotated_to_key_id"],
        delivery=Delivery(row["answer"]) if row["answer"] else None,
        allowed_networks=tuple(row["allowed_networks"]),
        rate_limits=from_json(row["rate_limits"]),
        budget_id=row["budget_id"],
        credits=from_column(row["credits"]),
        pause=_pause(row),
        version=row["version"],
    )


def _cause(row: asyncpg.Record) -> RevokeCause:
    return RevokeCause.CREATOR_REVOKED if row["revoked_with_key_id"] else RevokeCause(row["revoke_cause"])


def _pause(row: asyncpg.Record) -> Pause | None:
    if row["disable_time"] is None:
        return None
    return Pause(
        disable_time=row["disable_time"],
        until=row["disabled_until"],
        disabler_id=row["disabler_id"],
        reason=row["disable_reason"],
        by_platform=row["disabled_by_platform"],
    )


def _pause_columns(pause: Pause | None) -> tuple[datetime | None, datetime | None, str, str, bool]:
    if pause is None:
        return None, None, "", "", False
    return pause.disable_time, pause.until, pause.disabler_id, pause.reason, pause.by_platform


def _contacts(text: str) -> tuple[TechnicalContact, ...]:
    # Most keys have none, and a page has a thousand keys.
    return () if text == "[]" else tuple(TechnicalContact(**each) for each in json.loads(text))


def _contacts_json(key: Key) -> str:
    return json.dumps(_plain_contacts(key))


def _plain_contacts(key: Key) -> list[dict[str, str]]:
    return [{"name": c.name, "email": c.email} for c in key.technical_contacts]
