"""A worker: the whole service, in one of several processes that share its ports."""

import asyncio
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

from authsvc import app
from authsvc.app.background import in_background
from authsvc.config.settings import Settings
from authsvc.process.admin.answers import Answers
from authsvc.process.child import Report
from authsvc.process.shared import Shared
from authsvc.revocation.predecessors import Predecessors

#: Tells a worker that serves not to be ready any more; it serves on until it is told to stop.
NOT_READY = signal.SIGUSR1


@asynccontextmanager
async def serving(
    settings: Settings,
    slot: int,
    shared: Shared,
    predecessors: Collection[UUID],
    report: Report,
) -> AsyncIterator[str]:
    """Serve while the block runs; yield the port, and report each id that the worker registers under.

    `slot` is the worker's number, and `predecessors` are ids of workers that have ended. With a follower in
    what is `shared`, it does not register, but attaches to that one. Questions of the admin listener are
    answered until the worker has drained. Raises an OperatorError when it cannot serve.
    """

    def registered(worker_id: UUID) -> None:
        report("registered", str(worker_id))

    registration = app.Registration(
        predecessors=Predecessors(predecessors, lent_until=shared.lent.of_dead),
        lent=shared.lent,
        on_register=registered,
    )
    async with AsyncExitStack() as outer, AsyncExitStack() as inner:
        service = await inner.enter_async_context(
            app.running(
                settings,
                slot=slot,
                registration=registration,
                follower_listener=shared.follower,
                loads=shared.loads,
            )
        )
        asyncio.get_running_loop().add_signal_handler(NOT_READY, service.readiness.end)
        if shared.admin is not None:
            answers = Answers(str(slot), lambda: service.readiness.reason, service.metrics.registry)
            await outer.enter_async_context(in_background(answers.run(shared.admin)))
        yield str(service.port)
