"""The database as a worker that follows the feed sees it."""

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from authsvc.model.feed import FeedEntry, Place, Renewal


class WorkerFeed(Protocol):
    """The feed, and the registration of one worker. All raise RetryableError when it is out of reach."""

    @property
    def hears(self) -> bool:
        """Whether hints arrive."""

    async def register(self, worker_id: UUID, lease: float, predecessors: Collection[UUID]) -> FeedEntry:
        """Commit the registration of this worker; then return the end of the feed, with the tag keys.

        `lease` is in seconds. The registrations of `predecessors` are deleted.
        """

    async def renew(self, worker_id: UUID, place: Place) -> Renewal | None:
        """Return the entries after a place; None without the registration, or when the place is unknown.

        Only the primary can answer.
        """

    async def read(self, place: Place) -> Sequence[FeedEntry] | None:
        """Return the entries after a place; None when the place is unknown."""

    async def acknowledge(self, worker_id: UUID, place: Place, before: Place | None = None) -> bool:
        """Record that all entries up to a place were applied; return False when that is not possible.

        It is not without the registration, or when the place is unknown, or `before`, if given.
        """

    async def leave(self, worker_id: UUID) -> None:
        """Delete the registration."""
