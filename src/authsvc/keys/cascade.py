"""RevokeKey with `cascade`: a key ends together with what it created, what that created, and so on."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from authsvc.keys.change import Changes
from authsvc.keys.last_administrator import refuse_to_end_last
from authsvc.keys.usage import refuse_outdated
from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.confirmation import Ended
from authsvc.model.errors import Conflict, PermissionDenied
from authsvc.model.key import Key, KeyState
from authsvc.model.key_event import key_events, revoked_with
from authsvc.model.session import Session
from authsvc.revocation.barrier import Change
from authsvc.revocation.descendants import Descendants, MoreDescendants
from authsvc.store import descendants as descendant_store
from authsvc.store import keys as key_store
from authsvc.store import sessions as session_store

ENDS_SESSIONS = "sessions:write"
_ATTEMPTS = 5
# Rows in one statement.
_BATCH = 500
# Above this number, one entry for the owner is cheaper than one that names each prefix.
_MAX_PREFIXES = 1000


class KeyCascade(Protocol):
    """Revokes keys with their descendants."""

    _changes: Changes
    _descendants: Descendants
    _clock: Callable[[], datetime]

    async def revoke_with_descendants(
        self,
        caller: Caller,
        key_id: str,
        *,
        reason: str,
        etag: str = "",
        allow_last_administrator: bool = False,
    ) -> Key:
        """Revoke a key and its descendants now, in one transaction (R17); return the key as revoked.

        A key that is revoked already keeps its revocation. How many descendants were revoked is noted in the
        confirmation of the caller.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            AlreadyDone: KEY_ALREADY_REVOKED, if its revocation has taken effect and no descendant is left.
            PermissionDenied: KEY_MANAGER_NOT_PERMITTED, by the owner's policy; SCOPE_MISSING, if there are
                sessions to end and the caller may not do this.
            FailedPrecondition: CASCADE_TOO_LARGE; LAST_ADMINISTRATOR_KEY, unless `allow_last_administrator`.
            Conflict: DESCENDANTS_CHANGED, if more was being created each time it was tried; ETAG_MISMATCH,
                if `etag` is not that of a preview which is still true.
        """
        known = await self._descendants.find(caller, key_id)
        for _ in range(_ATTEMPTS):
            changing = self._changes.of_keys(caller, [key_id], done="revoked", revokes=True, also=known)
            try:
                async with changing as (change, [key]):
                    if etag:
                        await refuse_outdated(change.connection, key, etag)
                    found = await self._descendants.lock_all(change.connection, caller, key_id, known)
                    revoked, ended = await self._end_all(
                        change, caller, key, found, reason=reason, allow_last=allow_last_administrator
                    )
            except MoreDescendants as more:
                known = more.known
                continue
            if caller.confirmation is not None:
                caller.confirmation.ended = ended
            return revoked
        raise Conflict(
            f"key {key_id} was not revoked, because more was being created by what it created; repeat the "
            "call, or revoke the key without cascade first",
            reason="DESCENDANTS_CHANGED",
            key_id=key_id,
        )

    async def _end_all(
        self,
        change: Change,
        caller: Caller,
        key: Key,
        descendants: Collection[str],
        *,
        reason: str,
        allow_last: bool,
    ) -> tuple[Key, Ended]:
        """Write the revocations of locked keys and sessions."""
        connection, by = change.connection, caller.credential_id
        keys = list((await key_store.find(connection, descendants)).values())
        sessions = await self._sessions(change, descendants)
        now = self._clock()  # After the waits for locks.
        keys = [each for each in keys if each.state(now) is not KeyState.REVOKED]
        # One that has been idle for too long as well: an activity may not be recorded yet.
        sessions = [each for each in sessions if each.revoke_time is None and now < each.latest_expire_time]
        if sessions and change.caller.lacks([ENDS_SESSIONS]):
            raise PermissionDenied(
                f"there are sessions among what the key created; ending them needs the scope {ENDS_SESSIONS}",
                reason="SCOPE_MISSING",
                required_scope=ENDS_SESSIONS,
            )
        await refuse_to_end_last(connection, [key, *keys], self._clock, allowed=allow_last)
        now = self._clock()  # That may have waited for a lock, and a scheduled revocation been due.
        keys = [each for each in keys if each.state(now) is not KeyState.REVOKED]
        if not keys and not sessions:
            key.refuse_if_revoked(now)
        own = key if key.state(now) is KeyState.REVOKED else key.revoked(now, at=now, by=by, reason=reason)
        counted = Ended(len(keys), len(sessions))
        for batch in _batches([own, *keys] if own is not key else keys, sessions):
            # Not all at once, since nothing else runs meanwhile.
            ended = [
                each if each is own else each.revoked_with(key.key_id, now, by=by, reason=reason)
                for each in batch
                if isinstance(each, Key)
            ]
            over = [each for each in batch if isinstance(each, Session)]
            events = _events(caller, ended, over, key.key_id, at=now, reason=reason, counted=counted)
            await descendant_store.revoke(connection, ended, over, events, at=now, by=by, reason=reason)
        _publish(change, [*keys, *sessions], key)
        return own, counted

    async def _sessions(self, change: Change, ids: Collection[str]) -> list[Session]:
        found: list[Session] = []
        asked = sorted(ids)
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            found += (await session_store.find(change.connection, batch, owner_id=None)).values()
        return found


def _batches(keys: Sequence[Key], sessions: Sequence[Session]) -> Iterator[Sequence[Key | Session]]:
    """Yield batches in the order of owners, because each batch locks the ends of their audit chains."""
    ordered: list[Key | Session] = [*keys, *sessions]
    ordered.sort(key=lambda each: each.owner_id)
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]


def _events(
    caller: Caller,
    keys: Sequence[Key],
    sessions: Sequence[Session],
    key_id: str,
    *,
    at: datetime,
    reason: str,
    counted: Ended,
) -> list[AuditEvent]:
    """Return the events of a batch; that of the key itself says how many descendants have ended."""
    count = {"cascade_keys": str(counted.keys), "cascade_sessions": str(counted.sessions)}
    events = [
        replace(event, details={**event.details, **count}) if event.target_id == key_id else event
        for event in key_events(caller, Action.KEY_REVOKED, keys, at=at)
    ]
    details = {"reason": reason, **revoked_with(key_id)}
    targets = [(each.session_id, each.owner_id, details) for each in sessions]
    return events + AuditEvent.of_each(caller, Action.SESSION_REVOKED, at=at, targets=targets)


def _publish(change: Change, ended: Sequence[Key | Session], key: Key) -> None:
    """Have workers forget what has ended: by name, or all of the owner if it is one and there is too much."""
    if len(ended) > _MAX_PREFIXES and all(each.owner_id == key.owner_id for each in ended):
        change.owner_id = key.owner_id
    else:
        change.key_prefixes.update(each.key_prefix for each in ended)
