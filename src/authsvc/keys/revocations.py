"""Revokes keys by one statement; what is revoked at the same time shares it, and its commit (R6, R9).

Mechanism: the keys and the policy are read without a lock, and the call is judged by them. The statement
compares this under its locks. If it differs, or something is to be refused, nothing is done and the call has
to be judged under locks, in a transaction of several messages. Of revocations that share a statement, those
are left out that would have to wait for a lock, and each of them gets a statement of its own.

Bound: 32 revocations in a statement, one statement at a time for callers of the platform and one for all
others; those that arrive meanwhile share the next. Of one owner, 100 revocations share statements; further
ones, and batches, have statements of their own, in slots of the owner.

Failure: an error of the database is raised for all revocations of the statement. If the time of one caller is
over before the commit, each gets a statement of its own.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from authsvc.keys.last_administrator import is_administrator
from authsvc.model.audit_event import Action
from authsvc.model.caller import PLATFORM_OWNER, Caller
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
from authsvc.store.shared_statement import SharedStatement
from authsvc.store.uncancelled import uncancelled

_MAX_WAITING, _MAX_SHARING, _MAX_SHARING_OF_OWNER = 1000, 32, 100
# How long a revocation waits for one that is under way, before it gets a statement of its own.
_MAX_TURN_SECONDS = 1.0
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
        self._reads = SharedStatement(
            self._read_all, max_waiting=_MAX_WAITING, full=_FULL, quiet_passes=0, max_wait=_MAX_TURN_SECONDS
        )
        # Apart, so that the platform does not wait for others.
        self._of_platform = self._shared(PLATFORM_OWNER)
        self._of_others = self._shared("")
        self._sharing: Counter[str] = Counter()  # revocations by owner

    def _shared(self, owner_id: str) -> SharedStatement[Revocation, NewEntry | None]:
        async def execute(revocations: Sequence[Revocation]) -> list[NewEntry | None]:
            return await self._execute(owner_id, revocations)

        return SharedStatement(
            execute,
            max_waiting=_MAX_WAITING,
            full=_FULL,
            max_sharing=_MAX_SHARING,
            quiet_passes=0,
            max_wait=_MAX_TURN_SECONDS,
        )

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
        if len(key_ids) == 1:
            found, policy = await self._reads.ask((key_ids, caller.confined_to))
        else:
            [(found, policy)] = await self._read_all([(key_ids, caller.confined_to)])
        return [found[key_id] for key_id in key_ids if key_id in found], policy

    async def _read_all(
        self, asked: Sequence[tuple[Sequence[str], str | None]]
    ) -> list[tuple[dict[str, Key], OwnerPolicy | None]]:
        owner_ids = dict.fromkeys(owner_id for _, owner_id in asked)
        found, policies = {}, {}
        async with self._database.connection() as connection:
            for owner_id in owner_ids:
                ids = {key_id for key_ids, whose in asked if whose == owner_id for key_id in key_ids}
                found[owner_id] = await key_store.find(connection, ids, owner_id=owner_id)
                if owner_id is not None:
                    policies[owner_id] = await self._policies.find(connection, owner_id)
        return [(found[owner_id], policies.get(owner_id or "")) for _, owner_id in asked]

    async def _commit(self, revocation: Revocation) -> NewEntry | None:
        """Make a revocation; return its entry in the feed, None if it was not made."""
        owner_id = revocation.caller.quota_owner
        if len(revocation.keys) == 1 and self._sharing[owner_id] < _MAX_SHARING_OF_OWNER:
            shared = self._of_platform if revocation.caller.confined_to is None else self._of_others
            self._sharing[owner_id] += 1
            try:
                # Not cancelled, so that workers hear of what is committed.
                entry = await uncancelled(shared.ask(revocation))
            finally:
                self._sharing[owner_id] -= 1
                if not self._sharing[owner_id]:
                    del self._sharing[owner_id]
            if entry is not None:
                return entry
        [entry] = await self._execute(owner_id, [revocation])
        return entry

    async def _execute(self, owner_id: str, revocations: Sequence[Revocation]) -> list[NewEntry | None]:
        """Make revocations in a slot of an owner; return the entry of the feed for those that were made."""
        prefixes = {key.key_prefix for revocation in revocations for key in revocation.keys}
        entry = NewEntry(key_prefixes=prefixes)
        made = await key_revocation.revoke(
            self._database,
            owner_id,
            revocations,
            default_policy=self._policies.default,
            now=self._clock(),
            nonce=entry.nonce,
        )
        return [entry if each else None for each in made]
