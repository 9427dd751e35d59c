"""Work that is not cancelled with its caller, such as a commit."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


async def uncancelled(work: Coroutine[Any, Any, Result]) -> Result:
    """Await `work` to its end even if the caller is cancelled; then raise the cancellation.

    That is raised also if the work failed: whoever catches the error would go on in place of ending. The
    error is its cause.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            cancelled = True
    if not cancelled or task.cancelled():
        return task.result()
    error = task.exception()
    if error is not None:
        _log.debug("work failed whose caller was cancelled: %r", error)
    raise asyncio.CancelledError from error
