"""Revokes keys by one statement, which those that are revoked at the same time share (R6, R9).

Mechanism: the keys and the policy are read without a lock, and the call is judged by them. The statement
compares this under its locks. If it differs, or something is to be refused, nothing is done and the call has
to be judged under locks, in a transaction of several messages. `store.shared_commit` has the bounds and what
happens on failures. A batch has a statement of its own.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from authsvc.keys.last_administrator import is_administrator
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.model.policy import OwnerPolicy
from authsvc.revocation.barrier import Barrier
from authsvc.store import key_revocation
from authsvc.store import keys as key_store
from authsvc.store.driver_errors import AuthorityOver
from authsvc.store.key_revocation import Revocation
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.store.publication import NewEntry
from authsvc.store.shared_commit import SharedCommit
from authsvc.store.shared_statement import SharedStatement

_MAX_WAITING_READS = 1000
_FULL = "too many keys are being revoked"


class Revocations:
    """Revokes keys for which there is nothing to refuse."""

    def __init__(
        self, database: Database, policies: PolicyStore, barrier: Barrier, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._policies = policies
        self._barrier = barrier
        self._clock = clock
        self._reads = SharedStatement.prompt(self._read_all, max_waiting=_MAX_WAITING_READS, full=_FULL)
        self._commits = SharedCommit(self._execute)

    async def revoke(
        self, caller: Caller, key_ids: Sequence[str], *, reason: str, revoke_in: timedelta = timedelta()
    ) -> Sequence[Key]:
        """Revoke keys and wait for all workers. Return them; or none, if it has to be judged under locks.

        A caller without a credential always has to be, because its file is read once more after the last wait
        for a lock. Raises what `Database.commit` and `Barrier.change_at_once` raise.
        """
        if caller.kind is None:
            return ()
        keys, policy = await self._read(caller, key_ids)
        now = self._clock()
        if (
            len(keys) < len(key_ids)
            or any(key.revoke_time or is_administrator(key, now) for key in keys)
            or (policy and not policy.allows_manager(caller))
        ):
            return ()
        by = caller.credential_id
        revoked = [key.revoked(now, at=now + revoke_in, by=by, reason=reason) for key in keys]
        events = key_events(caller, Action.KEY_REVOKED, revoked, at=now)
        revocation = Revocation(caller=caller, policy=policy, keys=keys, revoked=revoked, events=events)
        try:
            done = await self._barrier.change_at_once(caller, self._commit(revocation), done="revoked")
        except AuthorityOver:
            return ()
        return revoked if done else ()

    async def _read(self, caller: Caller, key_ids: Sequence[str]) -> tuple[list[Key], OwnerPolicy | None]:
        """Return those of the keys that the caller may see, and the policy of its owner if it is confined."""
        policy = None
        if caller.confined_to is None and len(key_ids) == 1:
            found = await self._reads.ask(key_ids[0])
            return ([] if found is None else [found]), None
        async with self._database.connection() as connection:
            keys = await key_store.find(connection, key_ids, owner_id=caller.confined_to)
            if caller.confined_to is not None:
                policy = await self._policies.find(connection, caller.confined_to)
        return [keys[key_id] for key_id in key_ids if key_id in keys], policy

    async def _read_all(self, key_ids: Sequence[str]) -> list[Key | None]:
        async with self._database.connection() as connection:
            found = await key_store.find(connection, key_ids)
        return [found.get(key_id) for key_id in key_ids]

    async def _commit(self, revocation: Revocation) -> NewEntry | None:
        """Make a revocation; return its entry in the feed, None if it was not made."""
        if len(revocation.keys) == 1:
            return await self._commits.make(revocation.caller, revocation)
        return await self._commits.make_alone(revocation.caller, revocation)

    async def _execute(
        self, owner_id: str, revocations: Sequence[Revocation], at_once: bool
    ) -> list[NewEntry | None]:
        """Make revocations in a slot of an owner; return the entry of the feed for those that were made."""
        prefixes = {key.key_prefix for revocation in revocations for key in revocation.keys}
        entry = NewEntry(key_prefixes=prefixes)
        made = await key_revocation.revoke(
            self._database,
            owner_id,
            revocations,
            at_once=at_once,
            default_policy=self._policies.default,
            clock=self._clock,
            nonce=entry.nonce,
        )
        return [entry if each else None for each in made]
