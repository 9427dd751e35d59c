"""Revoking keys by one statement, which is a transaction of its own."""

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from authsvc.model.audit_event import AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.key import Key
from authsvc.model.policy import OwnerPolicy
from authsvc.store import authority as authority_store
from authsvc.store.audit import events_json
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries

_SQL = load_queries("keys.sql")


async def revoke(
    database: Database,
    caller: Caller,
    keys: Sequence[Key],
    revoked: Key,
    *,
    policy: OwnerPolicy | None,
    default_policy: OwnerPolicy,
    now: datetime,
    events: Sequence[AuditEvent],
    nonce: UUID,
) -> bool:
    """Revoke keys if they, the caller and its policy are as they were judged; return whether that was done.

    The keys are given as they were read, and one of them as it is when it is `revoked`; `policy` is that of
    the only owner whose keys the caller may revoke. The entry of the feed gets this `nonce` (R6, R9). The
    caller has a credential. Raises AuthorityOver if its time is over before the commit, and what
    `Database.commit` raises.
    """
    judged = {
        **authority_store.judged(caller, default_policy, now),
        "confined_to": caller.confined_to,
        "version": None if policy is None else policy.version,
    }
    done = await database.commit(
        caller.quota_owner,
        _SQL["revoke_keys_at_once"],
        json.dumps(judged),
        [key.key_id for key in keys],
        [key.version for key in keys],
        revoked.update_time,
        revoked.revoke_time,
        revoked.revoke_reason,
        events_json(events),
        nonce,
        revokes=True,
    )
    return bool(done)
