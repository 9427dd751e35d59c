"""A registration of workers as other workers and operators see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A registration, which is one for all workers of a replica.

    `pid` is the process that registered. `worker_pids` are those that answer from memory under it, and
    `unconfirmed_pids` those that a change waited for at the last renewal. `lease` is in seconds. `beat` is a
    random id that changes with each renewal.
    """

    worker_id: UUID
    host: str
    pid: int
    worker_pids: Sequence[int]
    unconfirmed_pids: Sequence[int]
    lease: float
    beat: UUID
    applied: int
    register_time: datetime
    beat_time: datetime | None  # of the last renewal
    # When the first entry that it has not applied was published; None if it has applied all.
    behind_since: datetime | None
