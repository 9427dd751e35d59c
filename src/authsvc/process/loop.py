"""The event loop of a process: uvloop, which tells of no look-up of a host that was given up.

Mechanism: uvloop cannot cancel `getaddrinfo`. When who asked for it is cancelled, or has waited long enough,
the look-up goes on, and its error belongs to nobody; the loop would log it with a traceback. Who asked has
been told already. All other errors that nobody can be told are logged.
"""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import uvloop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end."""
    uvloop.run(_run(main))


async def _run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.get_running_loop().set_exception_handler(_log_error)
    await main


def _log_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A task that died of this error is a fault of ours.
    look_up = not isinstance(context.get("future"), asyncio.Task)
    if not (look_up and isinstance(context.get("exception"), socket.gaierror)):
        loop.default_exception_handler(context)
