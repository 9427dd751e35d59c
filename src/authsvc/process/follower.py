"""The follower of a replica: the process that follows the feed for all workers, which share its registration.

Mechanism: an auxiliary process. Workers connect to a listener that exists before all of them. It answers the
admin listener, with the metrics of its process.

Bound: it reports that it lives every few seconds. After half a lease without a report it is killed, and its
successor has the other half to renew the lease. At a stop it follows until its last worker has ended.

Failure: workers keep their leases and attach to the next follower.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from uuid import UUID

from authsvc import app
from authsvc.app.background import in_background
from authsvc.config.settings import Settings
from authsvc.net.lent_leases import LentLeases
from authsvc.net.private_listener import PrivateListener
from authsvc.process.admin.answers import FOLLOWER, Answers
from authsvc.process.auxiliary import Auxiliary
from authsvc.process.child import Report
from authsvc.process.children import Children
from authsvc.revocation.predecessors import Predecessors
from authsvc.telemetry import Metrics
from authsvc.verify.clock import boottime

# For the workers, beyond their grace, and then for the registration.
_MAX_STOP_SECONDS = 30.0
_MAX_START_SECONDS = 60.0
# Reports may be late by this much on a busy machine.
_MIN_SILENCE_SECONDS = 5.0
# Registrations that it gave up long ago expire by themselves.
_MAX_IDS = 16


def max_stop_seconds(settings: Settings) -> float:
    """Return how long it may take to stop. If the supervisor is gone, the workers drain at the same time."""
    return settings.drain_grace.total_seconds() + _MAX_STOP_SECONDS


def auxiliary(
    settings: Settings,
    children: Children,
    listener: PrivateListener,
    lent: LentLeases,
    pids: Callable[[], Collection[int]],
    admin: PrivateListener | None,
) -> Auxiliary:
    """Return the follower as an auxiliary of a supervisor, whose workers are `pids`."""
    ids: deque[UUID] = deque(maxlen=_MAX_IDS)

    def note(word: str, text: str) -> None:
        if word == "registered":
            ids.append(UUID(text))

    def context(report: Report) -> AbstractAsyncContextManager[str]:
        # In the new process, which has what its parent knew at the fork.
        return following(settings, listener, lent, tuple(ids), pids(), admin, report)

    return Auxiliary(
        children,
        "the follower",
        context,
        max_stop_seconds=max_stop_seconds(settings),
        max_start_seconds=_MAX_START_SECONDS + settings.wait_for_database.total_seconds(),
        max_silence_seconds=max(_MIN_SILENCE_SECONDS, settings.lease.total_seconds() / 2),
        is_needed=True,
        note=note,
    )


@asynccontextmanager
async def following(
    settings: Settings,
    listener: PrivateListener,
    lent: LentLeases,
    predecessors: Collection[UUID],
    pids: Collection[int],
    admin: PrivateListener | None,
    report: Report,
) -> AsyncIterator[str]:
    """Follow the feed while the block runs; report each id that it registers under.

    `predecessors` are ids of followers that have ended; the processes `pids` may have leases of theirs, and
    their clients may answer as long as is noted in `lent`.
    Raises an OperatorError when it cannot follow.
    """

    def registered(worker_id: UUID) -> None:
        report("registered", str(worker_id))

    def live() -> None:
        report("alive", "")

    over = boottime() + settings.lease.total_seconds()
    registration = app.Registration(
        predecessors=Predecessors(predecessors, pids, over, lent.of_dead),
        lent=lent,
        on_register=registered,
    )
    async with app.following(settings, registration, listener, live), AsyncExitStack() as stack:
        if admin is not None:
            answers = Answers(FOLLOWER, lambda: "", Metrics().registry)
            await stack.enter_async_context(in_background(answers.run(admin)))
        yield ""
