"""The thread of a blocking client, with the event loop that its `AuthClient` runs in from start to end.

Bound: a start or an end may take longer than a call may wait. Then it goes on, since an `AuthClient` cannot
be started twice at a time.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress

from authsvc.client.auth_client import AuthClient
from authsvc.client.errors import closed, error_of


class LoopThread:
    """Starts a client at once, and closes it when it is told to. A start that fails ends the thread."""

    def __init__(self, client: AuthClient) -> None:
        self._client = client
        self._pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        #: Whether the client is being closed, or has not been able to start.
        self.is_ending = False
        self._started: Future[None] = Future()
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="authsvc-client", daemon=True).start()

    @property
    def is_elsewhere(self) -> bool:
        """Whether it runs in the process that this one was forked from."""
        return self._pid != os.getpid() and not self._ended.is_set()

    def wait_for_start(self, ends: float) -> None:
        """Wait until the client runs. Raise Unavailable, or what its start has raised."""
        try:
            self._started.result(left(ends))
        except CancelledError:
            raise closed() from None
        except TimeoutError:
            if self._started.done():  # the start itself has raised it
                raise
            raise error_of(TimeoutError()) from None

    def wait_for_end(self, ends: float) -> None:
        """Wait until nothing of it is left. Raise Unavailable."""
        if not self._ended.wait(left(ends)):
            raise error_of(TimeoutError())

    def end(self, seconds: float) -> None:
        """Close the client, also one that is starting. After some seconds, wait no longer."""
        self.is_ending = True
        self._call(lambda: self._life.cancelling() or self._life.cancel())
        if not self._ended.wait(seconds):
            self._call(lambda: self._life.cancel())

    def _call(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        try:
            self._life = self.loop.create_task(self._live())
            with suppress(asyncio.CancelledError):
                self.loop.run_until_complete(self._life)
            if tasks := asyncio.all_tasks(self.loop):
                for task in tasks:
                    task.cancel()
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        finally:
            self.loop.close()
            self.is_ending = True
            self._started.cancel()
            self._ended.set()

    async def _live(self) -> None:
        """Start the client, and close it when this task is cancelled. If it is again, give that up."""
        try:
            await self._client.__aenter__()
            if not self.is_ending:
                self._started.set_result(None)
                await asyncio.Future()
        except Exception as error:  # noqa: BLE001 - raised by whoever waits for the start
            self.is_ending = True
            self._started.set_exception(error)
        finally:
            await self._client.__aexit__(None, None, None)


def left(ends: float) -> float:
    """Return the seconds until a time of the monotonic clock; 0 if it is over."""
    return max(0.0, ends - time.monotonic())
