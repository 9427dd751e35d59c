"""Looks up the addresses of names, beside everything else that looks up names.

Mechanism: a look-up of the system blocks, and cannot be ended. So each has a thread of its own. It is a
daemon, so that a stop of the process does not wait for it.

Bound: `MOST` look-ups at a time, including those that nobody waits for any more. The event loop has few
threads of its own, and the connections to the database use them.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

#: Returns the addresses of a name, in the order in which they are tried; raises OSError if there are none.
Resolve = Callable[[str, int], Awaitable[list[str]]]
MOST = 64


class Resolver:
    """Looks up names as the system does."""

    def __init__(
        self, look_up: Callable[..., list[Any]] = socket.getaddrinfo, *, is_absolute: bool = False
    ) -> None:
        """Take whether names are only looked up as they are, without the search domains of the system."""
        self._look_up = look_up
        self._suffix = "." if is_absolute else ""
        self._free = asyncio.Semaphore(MOST)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a name. Raises OSError when it does not resolve."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        found = loop.create_future()
        thread = threading.Thread(
            target=self._work, args=(loop, found, host, port), daemon=True, name="look-up of a name"
        )
        try:
            thread.start()
        except RuntimeError as error:  # No more threads.
            self._free.release()
            raise OSError("no thread for a look-up") from error
        result: list[str] = await found
        return result

    def _work(
        self, loop: asyncio.AbstractEventLoop, found: "asyncio.Future[list[str]]", host: str, port: int
    ) -> None:
        try:
            name = host + self._suffix
            answers = self._look_up(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            end = partial(found.set_result, list(dict.fromkeys(str(each[4][0]) for each in answers)))
        except OSError as error:
            end = partial(found.set_exception, error)
        except Exception as error:  # noqa: BLE001 - names that cannot be encoded, among others
            end = partial(found.set_exception, OSError(str(error)))
        with suppress(RuntimeError):  # The loop is closed, so nobody waits.
            loop.call_soon_threadsafe(self._end, found, end)

    def _end(self, found: "asyncio.Future[list[str]]", end: Callable[[], None]) -> None:
        self._free.release()
        if not found.done():
            end()
