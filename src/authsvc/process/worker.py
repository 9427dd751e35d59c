"""A worker: the whole service, in one of several processes that share its ports."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from authsvc import app
from authsvc.config.settings import Settings
from authsvc.net.handover import Handover
from authsvc.process.child import Report
from authsvc.revocation.predecessors import Predecessors


@asynccontextmanager
async def serving(
    settings: Settings,
    slot: int,
    predecessors: Collection[UUID],
    handover: Handover | None,
    report: Report,
) -> AsyncIterator[str]:
    """Serve while the block runs; yield the port, and report each id that the worker registers under.

    `slot` is the worker's number, and `predecessors` are ids of workers that have ended. With `handover`, it
    does not register, but attaches to the follower of its replica.
    Raises an OperatorError when it cannot serve.
    """

    def registered(worker_id: UUID) -> None:
        report("registered", str(worker_id))

    if handover is not None:
        handover.receiver.close()
    registration = app.Registration(predecessors=Predecessors(predecessors), on_register=registered)
    async with app.running(settings, slot=slot, registration=registration, handover=handover) as service:
        yield str(service.port)
