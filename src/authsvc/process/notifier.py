"""The notifier of a replica: the process that tells contacts and webhooks.

Mechanism: an auxiliary process, so that sending takes no time from the event loop of a worker. Its priority
is low: where it shares a core with workers, calls go first. It answers the admin listener like a worker.

Bound: it reports that it lives every few seconds. After a minute without a report it is killed.

Failure: it is started again. What it had claimed is continued by its successor, or by another replica. At the
first start, a setting that it cannot use stops the service. It stops when the workers do.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from authsvc import app
from authsvc.app.background import in_background
from authsvc.app.gauges import watch_notifier
from authsvc.config.settings import Settings
from authsvc.net.private_listener import PrivateListener
from authsvc.process.admin.answers import NOTIFIER, Answers
from authsvc.process.auxiliary import Auxiliary
from authsvc.process.child import Report
from authsvc.process.children import Children
from authsvc.telemetry import Metrics

# Calls under way to webhooks and the mail server get some seconds, and outcomes are noted.
_MAX_STOP_SECONDS = 15.0
_MAX_START_SECONDS = 60.0
_ALIVE_SECONDS, _MAX_SILENCE_SECONDS = 5.0, 60.0
# How much lower its priority is than that of the workers. It gets a tenth of a core that they use up.
_NICENESS = 10


def auxiliary(settings: Settings, children: Children, admin: PrivateListener | None) -> Auxiliary:
    """Return the notifier as an auxiliary of a supervisor."""
    return Auxiliary(
        children,
        "the notifier",
        partial(notifying, settings, admin),
        max_stop_seconds=_MAX_STOP_SECONDS,
        max_start_seconds=_MAX_START_SECONDS + settings.wait_for_database.total_seconds(),
        max_silence_seconds=_MAX_SILENCE_SECONDS,
        is_needed=True,
        outlives_workers=False,
    )


@asynccontextmanager
async def notifying(settings: Settings, admin: PrivateListener | None, report: Report) -> AsyncIterator[str]:
    """Tell contacts and webhooks while the block runs. Raises an OperatorError when that is not possible."""
    # Where system calls are filtered, it may not even lower it.
    with suppress(PermissionError):
        os.nice(_NICENESS)
    metrics = Metrics()
    async with app.notifying(settings) as (notifier, database), AsyncExitStack() as stack:
        watch_notifier(metrics, notifier, database)
        if admin is not None:
            answers = Answers(NOTIFIER, lambda: "", metrics.registry)
            await stack.enter_async_context(in_background(answers.run(admin)))
        await stack.enter_async_context(in_background(_live(report)))
        yield ""


async def _live(report: Report) -> None:
    while True:
        report("alive", "")
        await asyncio.sleep(_ALIVE_SECONDS)
