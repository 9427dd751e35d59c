"""The status of the workers of all replicas, for operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from authsvc.model.caller import Caller
from authsvc.model.worker import Worker
from authsvc.store import feed as feed_store
from authsvc.store.pool import Database


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """All workers, at one instant of the database's clock."""

    read_time: datetime
    head_seq: int
    workers: Sequence[Worker]


class Replicas:
    """The use cases of ReplicaService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def status(self, caller: Caller) -> ReplicaStatus:
        """Return all workers, with the last change that each has applied.

        Raises:
            PermissionDenied: PLATFORM_ONLY, for a caller of another owner than the platform.
            Unavailable: DATABASE_UNAVAILABLE, if the database cannot be reached.
        """
        caller.refuse_tenant("look at replicas")
        workers, head_seq, read_time = await feed_store.find_workers(self._database)
        return ReplicaStatus(read_time, head_seq, workers)
