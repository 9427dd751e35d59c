"""A worker: the whole service, in one of several processes that share its ports."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from authsvc import app
from authsvc.config.settings import Settings
from authsvc.net.worker_loads import WorkerLoads
from authsvc.process.child import Report


@asynccontextmanager
async def serving(
    settings: Settings,
    slot: int,
    loads: WorkerLoads | None,
    predecessors: Collection[UUID],
    report: Report,
) -> AsyncIterator[str]:
    """Serve while the block runs; yield the port, and report each id that the worker registers under.

    `slot` is the worker's number, `loads` the table of all of them, and `predecessors` are ids of workers
    that have ended. Raises an OperatorError when it cannot serve.
    """

    def registered(worker_id: UUID) -> None:
        report("registered", str(worker_id))

    async with app.running(
        settings, slot=slot, loads=loads, predecessors=predecessors, on_register=registered
    ) as service:
        yield str(service.port)
