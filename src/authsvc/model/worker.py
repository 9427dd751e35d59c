"""A worker process as its fellows and its operators see it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A registration. `lease` is in seconds; `beat` is another one after each renewal."""

    worker_id: UUID
    host: str
    pid: int
    lease: float
    beat: UUID
    applied: int
    register_time: datetime
    beat_time: datetime | None  # of the last renewal
    # Since when it has not applied an entry of the feed; None when it has applied all.
    behind_since: datetime | None
