"""The barrier: a change is answered when no worker can act on the previous state any more.

Mechanism: the change and its entry in the feed are committed together; the message that commits locks the end
of the feed. Then the call waits until each registered worker has acknowledged the entry, or its lease is
certainly over, so that it cannot answer from memory. docs/revocation.md has the proof.

Bound: a few milliseconds after the commit while all workers are well. With a worker out of reach: its lease,
2 % for the drift of clocks, and a sixth of the lease as a margin.

Failure: a call that stops waiting is told that the change is durable and which workers have not confirmed it.
A repeated call waits for the rest: "already revoked" is answered after the same wait as a change.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar
from uuid import UUID

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import (
    AlreadyDone,
    AlreadyExists,
    AuthsvcError,
    DeadlineExceeded,
    NotFound,
    RetryableError,
    Unavailable,
)
from authsvc.model.feed import FeedEntry, Place
from authsvc.revocation.authority import Authority, Authorized, Claim
from authsvc.revocation.looks import Looks
from authsvc.store import feed as feed_store
from authsvc.store import publication as publication_store
from authsvc.store.pool import Connection, Database
from authsvc.store.publication import Announced, NewEntry, publication
from authsvc.store.shared_statement import SharedStatement
from authsvc.telemetry.durations import Durations
from authsvc.verify.clock import Stopwatch, boottime
from authsvc.verify.lease import certainly_over

_log = logging.getLogger(__name__)

Told = TypeVar("Told")

_RECONNECT_PAUSE_SECONDS = 1.0
# How long to look for the node that has the commit, after a failover.
_MAX_FAILOVER_SECONDS = 30.0
# Changes that wait share the statements that announce them and that list the workers.
_MAX_WAITING = 10_000
_TOO_MANY = "too many changes wait for the workers"
# How a wait ends: all workers have confirmed; the leases of the others are over; the caller's time is over.
CONFIRMED, LEASE_OVER, UNCONFIRMED = "confirmed", "lease_over", "unconfirmed"


@dataclass(slots=True)
class Change:
    """A transaction of a caller, and what workers have to drop from their caches when it is committed.

    Use `caller` and not the caller that the call began with: it has the scopes of this instant.
    """

    connection: Connection
    authorized: Authorized
    key_prefixes: set[str] = field(default_factory=set)
    # All credentials of this owner, or those of one kind.
    owner_id: str | None = None
    kind: CredentialKind | None = None
    # Workers have to reload the tag keys.
    about_tag_keys: bool = False

    @property
    def caller(self) -> Caller:
        """The caller with its current scopes."""
        return self.authorized.caller


class Barrier:
    """Commits changes and waits until they hold on every worker."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        *,
        hint: Callable[[FeedEntry | None], object] = lambda _: None,
        note_confirmed: Callable[[Caller], object] = lambda _: None,
        stopwatch: Stopwatch = boottime,
    ) -> None:
        """`note_confirmed` gets the caller of each change that was waited for, with its `confirmation`."""
        self._database = database
        self._authority = authority
        self._hint = hint
        self._note_confirmed = note_confirmed
        self._stopwatch = stopwatch
        #: How many changes wait now, and for how long changes have waited after the commit, by how it ended.
        self.waiting = 0
        self.waits = {outcome: Durations() for outcome in (CONFIRMED, LEASE_OVER, UNCONFIRMED)}
        self._looks = Looks()
        self._announcements = SharedStatement.prompt(
            self._announce_all, max_waiting=_MAX_WAITING, full=_TOO_MANY
        )
        self._lists = SharedStatement.prompt(self._list_all, max_waiting=_MAX_WAITING, full=_TOO_MANY)

    @asynccontextmanager
    async def change(
        self, caller: Caller, claim: Claim | None = None, *, done: str = "changed"
    ) -> AsyncIterator[Change]:
        """Run a transaction that holds the locks of `claim`; commit it, and wait for all workers (R6, R9).

        AlreadyDone, AlreadyExists and NotFound may be raised inside, before anything was written. They reach
        the caller after the same commit and the same wait (R7).

        `done` completes the message for a caller that cannot wait: "revoked" makes "durably revoked".

        Raises what `Authority.transaction` raises, with nothing written; Unavailable when the outcome of the
        commit is unknown; DeadlineExceeded when the caller's time is over before all workers have confirmed.
        The change is durable then.
        """
        entry: NewEntry | None = None
        refusal: AuthsvcError | None = None
        if caller.confirmation is not None:
            caller.confirmation.begin()

        def last(authorized: Authorized) -> str:
            return "" if entry is None else publication(entry, authorized.end, authorized.now)

        try:
            async with self._authority.transaction(caller, claim, last=last) as (connection, authorized):
                change = Change(connection, authorized)
                try:
                    yield change
                except (AlreadyDone, AlreadyExists, NotFound) as error:
                    # The caller may rely on this answer, too (R7). The transaction that saw it writes the
                    # entry: when the entry is on the standby, so is what it saw.
                    refusal = error
                # The entry is appended in the message that commits, because all other changes wait for the
                # lock of the feed's end.
                if (
                    refusal is not None
                    or change.key_prefixes
                    or change.owner_id is not None
                    or change.about_tag_keys
                ):
                    entry = NewEntry(
                        key_prefixes=change.key_prefixes,
                        owner_id=change.owner_id,
                        kind=change.kind,
                        about_tag_keys=change.about_tag_keys,
                    )
        except BaseException:
            self._hint(None)  # The commit may have succeeded.
            raise
        if entry is not None:
            outcome = f"durably {done}" if refusal is None else "nothing is left to do"
            await self._wait(entry, self._stopwatch(), caller, outcome)
        if refusal is not None:
            raise refusal

    async def change_at_once(
        self, caller: Caller, committing: Awaitable[NewEntry | None], *, done: str = "changed"
    ) -> bool:
        """Await a statement that commits a change with its entry; wait for all workers; return True.

        Return False if the statement has done nothing. Raises what it raises, and the same as `change` when
        the outcome is unknown or not all workers have confirmed.
        """
        try:
            entry = await committing
        except BaseException:
            self._hint(None)  # The commit may have succeeded.
            raise
        if entry is None:
            return False
        await self._wait(entry, self._stopwatch(), caller, f"durably {done}")
        return True

    async def _wait(self, entry: NewEntry, committed: float, caller: Caller, outcome: str) -> None:
        behind: dict[UUID, float] | None = None
        holders: int | None = None
        looks, pauses, deadline = 0, self._looks.pauses(), caller.deadline
        self.waiting += 1
        try:
            async with asyncio.timeout(None if deadline == inf else deadline - self._stopwatch()):
                place, holders, workers = await self._announce(entry) or (None, None, 0)
                announced = self._stopwatch()
                while behind != {}:
                    over = committed + certainly_over(max(behind.values())) if behind else inf
                    left = over - self._stopwatch()
                    if left <= 0:
                        _log.warning(
                            "change %s is answered without the confirmation of these workers, whose leases "
                            "are over: %s",
                            place and place.seq,
                            ", ".join(map(str, behind or ())),
                        )
                        break
                    await asyncio.sleep(min(next(pauses), left))
                    looks += 1
                    place = place or await self._find(entry, committed)
                    # Without a new list, the last one holds: a worker that registered later is not behind.
                    listed = place and await self._list(place, committed)
                    behind = behind if listed is None else listed
                    if caller.confirmation is not None:
                        caller.confirmation.note_workers(workers, tuple(map(str, behind or ())))
                    # Unlike the clock of the event loop, this one continues while the machine is suspended.
                    if behind != {} and self._stopwatch() >= deadline:
                        raise TimeoutError
                else:
                    self._looks.learn(looks, self._stopwatch() - announced)
        except TimeoutError as error:
            self._note(caller, holders, committed, behind, UNCONFIRMED)
            raise _unconfirmed(behind, outcome) from error
        finally:
            self.waiting -= 1
        self._note(caller, holders, committed, behind, LEASE_OVER if behind else CONFIRMED)
        self._note_confirmed(caller)

    def _note(
        self,
        caller: Caller,
        holders: int | None,
        committed: float,
        behind: dict[UUID, float] | None,
        ended: str,
    ) -> None:
        seconds = self._stopwatch() - committed
        self.waits[ended].observe(seconds)
        if caller.confirmation is not None:
            caller.confirmation.note(holders, seconds, len(behind or ()))

    async def _announce(self, entry: NewEntry) -> Announced | None:
        """Send a hint to all workers; return the place of the entry, None if nobody can tell it now."""
        try:
            return await self._announcements.ask(entry)
        except Exception as error:  # noqa: BLE001 - the change is durable, and workers see it when they poll
            _log.warning("could not notify the workers; they will see the change later: %s", error)
            self._hint(None)
            return None

    async def _announce_all(self, entries: Sequence[NewEntry]) -> list[Announced | None]:
        # Changes that were committed together have one entry.
        unique = {entry.nonce: entry for entry in entries}
        found = await publication_store.announce(self._database, list(unique.values()))
        by_nonce = dict(zip(unique, found, strict=True))
        if len(found) == 1 and found[0] is not None:
            self._hint(entries[0].at(found[0].place))
        else:
            self._hint(None)
        return [by_nonce[entry.nonce] for entry in entries]

    async def _find(self, entry: NewEntry, committed: float) -> Place | None:
        """Return the place of a committed entry; None if nobody can tell it now."""
        return await self._ask(publication_store.find_place(self._database, entry), committed)

    async def _list(self, place: Place, committed: float) -> dict[UUID, float] | None:
        """Return the workers that have not acknowledged, with their leases; None if nobody can tell now."""
        return await self._ask(self._lists.ask(place), committed)

    async def _list_all(self, places: Sequence[Place]) -> list[dict[UUID, float] | None]:
        return await feed_store.find_behind(self._database, places)

    async def _ask(self, asking: Awaitable[Told | None], committed: float) -> Told | None:
        """Return what a node tells that has the entry; None if none can be asked now."""
        try:
            told = await asking
        except RetryableError as error:
            _log.debug("the workers cannot be listed: %s", error)
            return None
        if told is None:
            await self._reconnect(committed)
        return told

    async def _reconnect(self, committed: float) -> None:
        """Leave a primary that was replaced: use new connections. Raise Unavailable after 30 s of this."""
        if self._stopwatch() - committed > _MAX_FAILOVER_SECONDS:
            raise Unavailable(
                "the change was committed, but no node of the database has it; repeat the call",
                reason="COMMIT_UNCERTAIN",
                retry_after=1,
            )
        await self._database.refresh()
        await asyncio.sleep(_RECONNECT_PAUSE_SECONDS)


def _unconfirmed(behind: dict[UUID, float] | None, outcome: str) -> DeadlineExceeded:
    if behind is None:
        missing = "an unknown number of workers"
    else:
        missing = "1 worker" if len(behind) == 1 else f"{len(behind)} workers"
    return DeadlineExceeded(
        f"{outcome}, {missing} unconfirmed; repeat the call to wait for the rest",
        reason="WORKERS_UNCONFIRMED",
        retry_after=1,
        workers=",".join(map(str, behind or ())),
    )
