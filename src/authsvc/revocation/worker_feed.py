"""The database as a follower of the feed sees it."""

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from authsvc.model.feed import FeedEntry, Place, Renewal


class WorkerFeed(Protocol):
    """The feed, and one registration. All raise RetryableError when it is out of reach."""

    @property
    def hears(self) -> bool:
        """Whether hints arrive."""

    async def register(self, worker_id: UUID, lease: float) -> FeedEntry:
        """Commit the registration; then return the end of the feed, with the tag keys.

        `lease` is in seconds.
        """

    async def renew(
        self,
        worker_id: UUID,
        place: Place,
        applied_seq: int,
        pids: Sequence[int],
        unconfirmed_pids: Sequence[int],
    ) -> Renewal | None:
        """Return the entries after a place; None without the registration, or when the place is unknown.

        Only the primary can answer. All holders have applied the entries up to `applied_seq`. `pids` are
        their processes, and `unconfirmed_pids` those that a change waits for, for operators to see.
        """

    async def read(self, place: Place) -> Sequence[FeedEntry] | None:
        """Return the entries after a place; None when the place is unknown."""

    async def acknowledge(self, worker_id: UUID, place: Place, before: Place | None = None) -> bool:
        """Record that all entries up to a place were applied; return False when that is not possible.

        It is not without the registration, or when the place is unknown, or `before`, if given.
        """

    async def remove(self, worker_ids: Collection[UUID]) -> None:
        """Delete earlier registrations."""

    async def leave(self, worker_id: UUID) -> None:
        """Delete the registration."""
