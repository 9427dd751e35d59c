"""A worker process as other workers and operators see it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A registration. `lease` is in seconds. `beat` is a random id that changes with each renewal."""

    worker_id: UUID
    host: str
    pid: int
    lease: float
    beat: UUID
    applied: int
    register_time: datetime
    beat_time: datetime | None  # of the last renewal
    # When the first entry that it has not applied was published; None if it has applied all.
    behind_since: datetime | None
