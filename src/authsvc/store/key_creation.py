"""Creating a key by one statement, which is a transaction of its own."""

import json
from datetime import datetime

from authsvc.model.audit_event import AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.key import Key
from authsvc.model.policy import OwnerPolicy
from authsvc.model.text import folded
from authsvc.store import authority as authority_store
from authsvc.store.audit import events_json
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries

_SQL = load_queries("keys.sql")


async def create(
    database: Database,
    caller: Caller,
    key: Key,
    *,
    policy: OwnerPolicy,
    default_policy: OwnerPolicy,
    now: datetime,
    event: AuditEvent,
    secret_hash: str,
    secret_origin: str,
    request_id: str,
) -> bool:
    """Create a key if its caller and `policy` are as they were judged; return whether that was done (R9).

    Nothing was done otherwise, also if the policy allows no further active key, or the `request_id` was used.
    The caller has a credential. Raises AuthorityOver if its time is over before the commit, and what
    `Database.commit` raises.
    """
    judged = {
        **authority_store.judged(caller),
        "keys_enabled": default_policy.keys_enabled,
        "version": policy.version,
        "max_active_keys": policy.max_active_keys,
        "time": now.isoformat(),
    }
    given = {
        "key_id": key.key_id,
        "owner_id": key.owner_id,
        "key_prefix": key.key_prefix,
        "secret_hash": secret_hash,
        "secret_origin": secret_origin,
        "display_name": key.display_name,
        "folded_name": folded(key.display_name),
        "description": key.description,
        "scopes": key.scopes,
        "technical_contacts": [{"name": c.name, "email": c.email} for c in key.technical_contacts],
        "annotations": dict(key.annotations),
        "create_time": key.create_time.isoformat(),
        "creator_id": key.creator_id,
        "expire_time": key.expire_time and key.expire_time.isoformat(),
        "request_id": request_id or None,
        "version": key.version,
    }
    created = await database.commit(
        caller.quota_owner, _SQL["create_key"], json.dumps(judged), json.dumps(given), events_json([event])
    )
    return bool(created)
