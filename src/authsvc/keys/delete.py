"""DeleteKey, BatchDeleteKeys."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.keys.naming import key_metadata, listed
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.errors import FailedPrecondition
from authsvc.model.key import KeyState
from authsvc.model.key_event import key_events
from authsvc.store import keys as key_store


class KeyDeletion(Protocol):
    """Deletes keys."""

    _changes: Changes
    _clock: Callable[[], datetime]

    async def delete(self, caller: Caller, key_ids: Sequence[str]) -> None:
        """Delete keys whose revocation has taken effect: all of them or, on an error, none (rule 18).

        Raises:
            NotFound: KEY_NOT_FOUND, with the `key_ids` that are unknown or of another owner.
            FailedPrecondition: KEY_NOT_REVOKED, with the `key_ids` that are not revoked.
            PermissionDenied: KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
        """
        now = self._clock()
        async with self._changes.of_keys(caller, key_ids, done="deleted") as (change, keys):
            not_revoked = [key.key_id for key in keys if key.state(now) is not KeyState.REVOKED]
            if not_revoked:
                raise FailedPrecondition(
                    f"{listed(not_revoked)} not revoked yet; revoke first, then delete",
                    reason="KEY_NOT_REVOKED",
                    **key_metadata(not_revoked),
                )
            # Before they are gone, because whom to tell is found in them.
            events = key_events(caller, Action.KEY_DELETED, keys, at=now)
            await audit.record_many(change.connection, events)
            await key_store.delete(change.connection, key_ids, at=now)
