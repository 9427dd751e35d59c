"""Creating keys by one statement, which is a transaction of its own."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from authsvc.model.audit_event import AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.key import Key
from authsvc.model.policy import OwnerPolicy
from authsvc.store import authority as authority_store
from authsvc.store.audit import instant_text, plain
from authsvc.store.keys import new_columns
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries

_SQL = load_queries("keys.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A key that a caller with a credential creates, judged by the `policy` of its owner."""

    caller: Caller
    policy: OwnerPolicy
    key: Key
    secret_hash: str = field(repr=False)
    secret_origin: str
    request_id: str
    event: AuditEvent


async def create(
    database: Database,
    owner_id: str,
    creations: Sequence[Creation],
    *,
    at_once: bool,
    default_policy: OwnerPolicy,
    clock: Callable[[], datetime],
) -> list[bool]:
    """Create keys in a slot of an owner; return for each whether it was created (R9).

    It was not if its caller or the policy is not as it was judged, if the policy allows no further active
    key, if the `request_id` was used, or if it would have to wait for a lock and all is done `at_once`.
    Raises AuthorityOver if the time of a caller is over before the commit, and what `Database.commit` raises.
    """
    asked = [_plain(number, each) for number, each in enumerate(creations)]
    as_text = json.dumps(asked, default=instant_text)
    made: Any = await database.commit(
        owner_id, _SQL["create_keys"], lambda: (as_text, at_once, default_policy.keys_enabled, clock())
    )
    return [number in made for number in range(len(creations))]


def _plain(number: int, creation: Creation) -> dict[str, object]:
    return {
        "number": number,
        **authority_store.judged(creation.caller),
        "policy_version": creation.policy.version,
        "max_active_keys": creation.policy.max_active_keys,
        "events": plain([creation.event]),
        # The function has no parameter for networks and rate limits: a key with them is never created here.
        "key": {
            **new_columns(creation.key),
            "secret_hash": creation.secret_hash,
            "secret_origin": creation.secret_origin,
            "request_id": creation.request_id or None,
        },
    }
