"""Revoking keys by one statement, which is a transaction of its own."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from authsvc.model.audit_event import AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.key import Key
from authsvc.model.policy import OwnerPolicy
from authsvc.store import authority as authority_store
from authsvc.store.audit import instant_text, plain
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries

_SQL = load_queries("keys.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """Keys of one call, as they were read and as they are when they are revoked, all alike.

    The caller has a credential. `policy` is that of the only owner whose keys it may revoke, if any.
    """

    caller: Caller
    policy: OwnerPolicy | None
    keys: Sequence[Key]
    revoked: Sequence[Key]
    events: Sequence[AuditEvent]


async def revoke(
    database: Database,
    owner_id: str,
    revocations: Sequence[Revocation],
    *,
    at_once: bool,
    default_policy: OwnerPolicy,
    clock: Callable[[], datetime],
    nonce: UUID,
) -> list[bool]:
    """Revoke keys in a slot of an owner; return for each revocation whether it was made (R6, R9).

    It was not if its caller, the policy or the keys are not as they were judged, or if it would have to wait
    for a lock and all is done `at_once`. The entry of the feed gets this `nonce`. Raises AuthorityOver
    if the time of a caller is over before the commit, and what `Database.commit` raises.
    """
    asked = [_plain(number, each) for number, each in enumerate(revocations)]
    as_text = json.dumps(asked, default=instant_text)
    made: Any = await database.commit(
        owner_id,
        _SQL["revoke_keys_at_once"],
        lambda: (as_text, at_once, default_policy.keys_enabled, clock(), nonce),
        revokes=True,
    )
    return [number in made for number in range(len(revocations))]


def _plain(number: int, revocation: Revocation) -> dict[str, object]:
    revoked = revocation.revoked[0]
    policy = revocation.policy
    return {
        "number": number,
        **authority_store.judged(revocation.caller),
        "confined_to": revocation.caller.confined_to,
        "version": None if policy is None else policy.version,
        "key_ids": [key.key_id for key in revocation.keys],
        "versions": [key.version for key in revocation.keys],
        "update_time": revoked.update_time,
        "revoke_time": revoked.revoke_time,
        "reason": revoked.revoke_reason,
        "events": plain(revocation.events),
    }
