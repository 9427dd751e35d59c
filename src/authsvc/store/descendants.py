"""The descendants of keys in the database: what they created, what that created, and so on."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from authsvc.model.audit_event import AuditEvent
from authsvc.model.key import Key
from authsvc.model.session import Session
from authsvc.store.audit import events_json
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("descendants.sql")


class Descendant(NamedTuple):
    """A key or session that a key created, directly or not."""

    credential_id: str
    owner_id: str
    is_key: bool


async def find(
    connection: Connection,
    key_ids: Collection[str],
    *,
    owner_id: str | None,
    settled_before: datetime,
    limit: int,
) -> dict[str, Descendant]:
    """Return the descendants of keys by id; with `owner_id`, only those of this owner. At most `limit`.

    Those are left out that were revoked by a transaction, or whose time was over at `settled_before`. What
    these created is among the descendants.
    """
    rows = await connection.fetch(_SQL["find_descendants"], key_ids, owner_id, settled_before, limit)
    return {row["credential_id"]: Descendant(*row) for row in rows}


async def lock_free(connection: Connection, descendants: Collection[Descendant]) -> bool:
    """Lock descendants as changed, as far as their locks are free; return whether all are locked."""
    owners = {each.owner_id for each in descendants if each.is_key}
    ids = [each.credential_id for each in descendants]
    return bool(await connection.fetchval(_SQL["lock_free"], ids, list(owners)))


async def revoke(
    connection: Connection,
    keys: Sequence[Key],
    sessions: Sequence[Session],
    events: Sequence[AuditEvent],
    *,
    at: datetime,
    by: str,
    reason: str,
) -> None:
    """Write the revocations of locked keys and sessions, and their audit events, in one round trip.

    It locks the heads of audit chains, as `audit.record` does.
    """
    await connection.execute(
        _SQL["revoke_descendants"],
        [key.key_id for key in keys],
        [key.revoked_with_key_id for key in keys],
        [session.session_id for session in sessions],
        at,
        by,
        reason,
        events_json(events),
    )
