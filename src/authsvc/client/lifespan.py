"""The life of a client in an ASGI server: it starts and ends with the application."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from authsvc.client.auth_client import AuthClient

_log = logging.getLogger(__name__)

_STARTED = ("lifespan.startup.complete", "lifespan.startup.failed")
_ENDED = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


class Lifespan:
    """Starts a client that is not running, and closes it if it was started by a lifespan."""

    def __init__(self, client: AuthClient) -> None:
        self._client = client
        self._starting = asyncio.Lock()
        self._is_started = False
        self._is_ours = False

    async def start(self) -> None:
        """Start the client, unless it is running or was closed. The server may tell of no lifespan."""
        if not self._is_started:
            async with self._starting:
                await self._start()

    async def _start(self) -> None:
        if self._is_started:
            return
        try:
            await self._client.__aenter__()
        except RuntimeError:
            pass  # it is running: whoever started it closes it
        else:
            self._is_ours = True
        self._is_started = True

    async def _end(self) -> None:
        if self._is_ours:
            self._is_ours = False
            await self._client.__aexit__(None, None, None)

    async def serve(
        self,
        app: Callable[..., Awaitable[None]],
        scope: Any,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Start the client before the application, and close it after that.

        An application that does not handle lifespans, like Django, raises or returns at once: then we answer
        for it.
        """
        received = [await receive()]
        has_answered = False

        async def receive_again() -> MutableMapping[str, Any]:
            return received.pop() if received else await receive()

        async def observed(message: MutableMapping[str, Any]) -> None:
            nonlocal has_answered
            has_answered = has_answered or message["type"] in _STARTED
            if message["type"] in _ENDED:
                await self._end()  # before the server stops the event loop
            await send(message)

        try:
            self._is_started = False  # the client of the last lifespan is closed
            await self.start()
        except Exception as error:  # noqa: BLE001 - the server logs the message
            message = f"the client of authsvc cannot start: {error}"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        try:
            try:
                await app(scope, receive_again, observed)
            except Exception:
                if has_answered:
                    raise
                _log.info("the application does not handle lifespans", exc_info=True)
            if not has_answered:
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await observed({"type": "lifespan.shutdown.complete"})
        finally:
            await self._end()
