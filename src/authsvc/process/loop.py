"""The event loop of a process: uvloop, without log lines for host look-ups that were given up.

Mechanism: uvloop cannot cancel `getaddrinfo`. When its caller is cancelled or times out, the look-up
continues, and nobody awaits its error; the loop would log it with a traceback. The caller has an error
already. All other errors that nobody awaits are logged.
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
    # A task that ended with this error is a bug, and is logged.
    look_up = not isinstance(context.get("future"), asyncio.Task)
    if not (look_up and isinstance(context.get("exception"), socket.gaierror)):
        loop.default_exception_handler(context)
