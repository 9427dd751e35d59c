"""The status of the workers of all replicas, and of the clients that follow them, for operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from authsvc.model.caller import Caller
from authsvc.model.following_client import ReportedClient
from authsvc.model.worker import Worker
from authsvc.store import client_reports
from authsvc.store import feed as feed_store
from authsvc.store.pool import Database

# More do not fit into an answer.
_MAX_CLIENTS = 10_000


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """All workers, at one instant of the database's clock."""

    read_time: datetime
    head_seq: int
    workers: Sequence[Worker]
    # Of all clients, at most `_MAX_CLIENTS`, with those that need attention first.
    clients: Sequence[ReportedClient]
    client_count: int


class Replicas:
    """The use cases of ReplicaService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def status(self, caller: Caller) -> ReplicaStatus:
        """Return all workers, with the last change that each has applied, and the clients that follow them.

        Raises:
            PermissionDenied: PLATFORM_ONLY, for a caller of another owner than the platform.
            Unavailable: DATABASE_UNAVAILABLE, if the database cannot be reached.
        """
        caller.refuse_tenant("look at replicas")
        workers, head_seq, read_time = await feed_store.find_workers(self._database)
        clients, client_count = await client_reports.find(self._database, limit=_MAX_CLIENTS)
        return ReplicaStatus(read_time, head_seq, workers, clients, client_count)
