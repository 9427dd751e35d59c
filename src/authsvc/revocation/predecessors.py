"""Earlier registrations of a replica, and when they may be removed (R11).

Mechanism: a registration stays while somebody may answer under it. Nobody does when each process that could
have had a lease under it has carried out the orders of its new follower, or has ended, or when all leases
that were granted under it are over. Clients of a process that has ended may answer until their sub-leases are
over (R15).
"""

from collections.abc import Callable, Collection
from math import inf
from uuid import UUID

from authsvc.net.process_ids import is_alive
from authsvc.revocation.holders import Holders

# Registrations that are older than this many are left to the reaper.
_MAX_KEPT = 100


class Predecessors:
    """The registrations that this replica has given up."""

    def __init__(
        self,
        ids: Collection[UUID] = (),
        pids: Collection[int] = (),
        over: float = inf,
        lent_until: Callable[[], float] = lambda: -inf,
    ) -> None:
        """`ids` are those of followers that have ended; `pids` may have leases of theirs until `over`.

        `lent_until` returns until when clients of processes of this replica may answer that have ended.
        Instants are in seconds on the stopwatch.
        """
        self._ids = list(ids)
        self._pids = set(pids)
        self._over = over
        self._read_lent_until = lent_until
        # Until when clients of processes that have ended may answer.
        self._lent_until = lent_until()

    def add(self, worker_id: UUID) -> None:
        """Note a registration that the follower itself has given up."""
        self._ids = [*self._ids, worker_id][-_MAX_KEPT:]

    def removable(self, holders: Holders, now: float) -> list[UUID]:
        """Return the registrations that nobody answers under any more."""
        if not self._ids or not holders.all_settled:
            return []
        left = self._pids - holders.settled_pids()
        self._pids = {pid for pid in left if is_alive(pid)}
        if self._pids != left:
            self._lent_until = self._read_lent_until()
        if now < min(self._lent_until, self._over):
            return []
        return self._ids if not self._pids or now >= self._over else []

    def next_end(self, now: float) -> float:
        """Return when clients that are waited for cannot answer any more; infinite if none are."""
        end = min(self._lent_until, self._over)
        return end if self._ids and end > now else inf

    def note_removed(self, ids: Collection[UUID]) -> None:
        """Forget registrations that were removed."""
        self._ids = [each for each in self._ids if each not in ids]
