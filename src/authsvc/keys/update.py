"""UpdateKey."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.last_administrator import refuse_to_end_last
from authsvc.keys.minting import refuse_more
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import Conflict
from authsvc.model.key import Key, KeyState
from authsvc.model.key_event import key_events
from authsvc.model.new_key import checked_expire_time
from authsvc.model.scope import FULL_ACCESS
from authsvc.store import keys as key_store
from authsvc.store.policies import lock_count

# Fields of a key that verification does not look at: changing them is nobody else's business.
_UNSEEN = frozenset({"display_name", "description", "technical_contacts"})


class KeyUpdates(Protocol):
    """Updates keys."""

    _changes: Changes
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def update(
        self,
        caller: Caller,
        key_id: str,
        fields: Mapping[str, object],
        etag: str,
        *,
        allow_last_administrator: bool = False,
    ) -> Key:
        """Return the key with the given fields, which the owner's policy has to allow (rule 8).

        Where it has all of these values already, it stays as it is and nothing is recorded.
        """
        now = self._clock()
        if isinstance(expire_time := fields.get("expire_time"), datetime):
            checked_expire_time("key.expire_time", expire_time, now)
        seen = not _UNSEEN.issuperset(fields)
        async with self._changes.of_key(caller, key_id, seen=seen) as (change, key, policy):
            connection, caller = change.connection, change.caller
            if etag and etag != key.etag:
                raise Conflict(
                    f"key {key_id} was changed since it was read; get it again and repeat the change",
                    reason="ETAG_MISMATCH",
                    key_id=key_id,
                )
            if policy.max_active_keys and "expire_time" in fields:
                # Whoever counts keys meanwhile counts this one as it is, or as it will be.
                await lock_count(connection, key.owner_id)
            now = self._clock()  # This may have waited long, and the key may have expired meanwhile.
            key.refuse_if_revoked(now)
            added = set(_scopes(fields, key)) - set(key.scopes)
            self._catalogue.check_grant(caller, sorted(added), path="key.scopes")
            policy.check_update(key, fields)
            changed = key.changed(now, **fields)
            if added or changed.outlives(key):
                platform.refuse_credential_of(caller, key.owner_id)
            if changed.outlives(key):
                # Who has a key live longer grants for that time all that it may do.
                self._catalogue.check_held(caller, changed.scopes)
            if key.state(now) is KeyState.EXPIRED and changed.state(now) is KeyState.ACTIVE:
                # A key that comes back is one more, like a new one.
                policy.refuse_if_disabled()
                await refuse_more(
                    connection, policy, now, excluding=key_id, rotated=bool(key.rotated_to_key_id)
                )
            if FULL_ACCESS in set(key.scopes).difference(changed.scopes) or key.outlives(changed):
                await refuse_to_end_last(connection, [key], self._clock, allowed=allow_last_administrator)
            if not key.differs(fields):
                # Workers are waited for all the same: an earlier call may not have been (R7).
                return key
            await key_store.update(connection, [changed])
            events = key_events(caller, Action.KEY_UPDATED, [changed], at=now, fields=fields)
            await audit.record_many(connection, events)
        return changed


def _scopes(fields: Mapping[str, object], key: Key) -> tuple[str, ...]:
    scopes = fields.get("scopes", key.scopes)
    return scopes if isinstance(scopes, tuple) else ()
