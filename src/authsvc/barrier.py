"""The barrier: a change is answered when no worker anywhere can act on what was before.

Mechanism: the change and its entry in the feed commit together. Then this waits
until every registered worker has acknowledged the entry, or the lease of those who
have not is over for certain: they cannot answer from memory then. docs/revocation.md has the proof.

Bound: with all workers well, a few milliseconds after the commit. With one out of
reach, its lease, 2 % for clocks that run apart, and a sixth of it as a margin.

Failure: who gives up earlier is told that the change is durable and who has not confirmed
it. Asking again waits for the rest: "already revoked" is answered like a change.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from uuid import UUID

from authsvc.authority import Authority, Authorized, Claim
from authsvc.clock import Stopwatch, boottime
from authsvc.errors import (
    AlreadyDone,
    AlreadyExists,
    AuthsvcError,
    DeadlineExceeded,
    NotFound,
    Passing,
    Unavailable,
)
from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.feed import FeedEntry
from authsvc.store import feed as rows
from authsvc.store.pool import Connection, Database

_log = logging.getLogger(__name__)

# How far two stopwatches may run apart, and what is added to the lease of the others for good measure.
_DRIFT = 1.02
_MARGIN = 1 / 6
_FIRST_LOOK, _GROWTH, _SLOWEST_LOOK = 0.0008, 1.25, 1.0
# After a failover it takes a moment to reach the node that knows.
_KNOWN_WITHIN = 30.0


def certainly_over(lease: float) -> float:
    """Return the seconds after which a lease of that length, held by anybody, is over by our stopwatch."""
    return lease * (_DRIFT + _MARGIN)


@dataclass(slots=True)
class Change:
    """A transaction of a caller, and what verification has to forget, or to load anew, when it is committed.

    `caller` has the authority of this instant: use it, not the one that the call began with.
    """

    connection: Connection
    authorized: Authorized
    key_prefixes: set[str] = field(default_factory=set)
    owner_id: str | None = None  # all of this owner,
    kind: CredentialKind | None = None  # or what they have of this kind
    about_tag_keys: bool = False  # or that they load the tag keys anew

    @property
    def caller(self) -> Caller:
        """The caller, with the scopes that it has now."""
        return self.authorized.caller


class Barrier:
    """Carries out changes that verification has to know of."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        *,
        hint: Callable[[FeedEntry | None], object] = lambda _: None,
        stopwatch: Stopwatch = boottime,
    ) -> None:
        self._database = database
        self._authority = authority
        self._hint = hint
        self._stopwatch = stopwatch

    @asynccontextmanager
    async def change(
        self, caller: Caller, claim: Claim | None = None, *, done: str = "changed"
    ) -> AsyncIterator[Change]:
        """Lend a transaction that has locked what it claims; commit it, and wait for all workers (R6, R9).

        Whoever says in it that there is nothing left to do (AlreadyDone, AlreadyExists, NotFound)
        has written nothing before: that is raised after the same commit and the same wait.

        `done` is what to tell who cannot wait: "revoked" makes "durably revoked". Raises what
        `Authority.transaction` raises for a caller that has lost its authority, with nothing written,
        Unavailable when the outcome of the commit is unknown, and DeadlineExceeded when the
        caller cannot wait for the workers; the change is durable then.
        """
        entry: FeedEntry | None = None
        refusal: AuthsvcError | None = None
        try:
            async with self._authority.transaction(caller, claim) as (connection, authorized):
                change = Change(connection, authorized)
                try:
                    yield change
                except (AlreadyDone, AlreadyExists, NotFound) as error:
                    # Who is told so may rely on it, too (R7). The entry is written by the transaction that
                    # saw it: what that saw is on the standby when this is.
                    refusal = error
                # Before the end of the feed is locked, which all other changes wait for.
                await authorized.confirm()
                if (
                    refusal is not None
                    or change.key_prefixes
                    or change.owner_id is not None
                    or change.about_tag_keys
                ):
                    entry = await rows.publish(
                        connection,
                        change.key_prefixes,
                        change.owner_id,
                        change.kind,
                        change.about_tag_keys,
                    )
        except BaseException:
            self._hint(None)  # It may have been committed all the same.
            raise
        if entry is not None:
            self._hint(entry)
            said = f"durably {done}" if refusal is None else "nothing is left to do"
            await self._wait(entry, self._stopwatch(), caller.deadline, said)
        if refusal is not None:
            raise refusal

    async def _wait(self, entry: FeedEntry, committed: float, deadline: float, said: str) -> None:
        behind: dict[UUID, float] | None = None
        pause = _FIRST_LOOK
        try:
            async with asyncio.timeout(None if deadline == inf else deadline - self._stopwatch()):
                await self._notify(entry)
                while behind != {}:
                    over = committed + certainly_over(max(behind.values())) if behind else inf
                    left = over - self._stopwatch()
                    if left <= 0:
                        told = entry.place.seq, ", ".join(map(str, behind or ()))
                        _log.warning("change %d was answered without %s: their leases are over", *told)
                        return
                    await asyncio.sleep(min(pause, left))
                    pause = min(_GROWTH * pause, _SLOWEST_LOOK)
                    # Who was behind may still be when nobody can be listed; who came later cannot be.
                    listed = await self._list(entry, committed)
                    behind = behind if listed is None else listed
                    if behind != {} and self._stopwatch() >= deadline:
                        raise TimeoutError
        except TimeoutError as error:
            raise _unconfirmed(behind, said) from error

    async def _list(self, entry: FeedEntry, committed: float) -> dict[UUID, float] | None:
        """Return who is behind; None when that cannot be known now."""
        try:
            listed = await rows.find_behind(self._database, entry.place)
        except Passing as error:
            _log.debug("the workers cannot be listed: %s", error)
            return None
        if listed is None:
            await self._leave_the_old_primary(committed)
        return listed

    async def _leave_the_old_primary(self, committed: float) -> None:
        """Turn to other connections; give up when no node knows what was committed."""
        if self._stopwatch() - committed > _KNOWN_WITHIN:
            raise Unavailable(
                "no node of the database knows the change that was just committed; repeat the call",
                reason="COMMIT_UNCERTAIN",
                retry_after=1,
            )
        await self._database.refresh()
        await asyncio.sleep(_SLOWEST_LOOK)

    async def _notify(self, entry: FeedEntry) -> None:
        try:
            await rows.notify(self._database, entry)
        except Exception as error:  # noqa: BLE001 - the change is durable, and who polls will see it
            _log.warning("no hint was sent, so workers will take longer: %s", error)


def _unconfirmed(behind: dict[UUID, float] | None, said: str) -> DeadlineExceeded:
    if behind is None:
        missing = "an unknown number of workers"
    else:
        missing = "1 worker" if len(behind) == 1 else f"{len(behind)} workers"
    return DeadlineExceeded(
        f"{said}, {missing} unconfirmed; repeat the call to wait for the rest",
        reason="WORKERS_UNCONFIRMED",
        retry_after=1,
        workers=",".join(map(str, behind or ())),
    )
