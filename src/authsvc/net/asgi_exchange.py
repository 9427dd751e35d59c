"""A request and its answer, between an ASGI application and the connection of its client."""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendEvent

_log = logging.getLogger(__name__)

# Of an answer that are written before it is looked whether the client reads.
_PIECE_BYTES = 64 * 1024


class Client(Protocol):
    """What an answer needs to know of the connection of its client."""

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with this answer."""

    def answer_goes_on(self) -> None:
        """Note that the application has sent something."""

    async def has_read(self) -> None:
        """Wait until most of what was written has left; the connection ends when that takes too long."""

    def answered(self, exchange: "Exchange") -> None:
        """Note that the application has ended."""


class Exchange(RequestResponseCycle):
    """Sends as uvicorn does, and waits until the client has taken it."""

    client: Client

    async def run(self, application: "ASGI3Application") -> None:
        """Call the application, and answer its faults; never say what they were."""
        try:
            await application(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                raise RuntimeError("the application has not answered")
        except Exception as error:  # noqa: BLE001 - the client gets an answer in any case
            if self.disconnected or isinstance(error, ClientDisconnected):
                _log.debug("an answer was not sent, since the client is gone: %r", error)
            else:
                _log.exception("a fault in the answer to an HTTP request")
                await self._fail()
        finally:
            self.client.answered(self)

    async def send(self, message: "ASGISendEvent") -> None:
        """Send a part of the answer; return when it was taken. Raises OSError when the client is gone."""
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            has_body = self.scope["method"] != "HEAD" and message["status"] not in (204, 304)
            if has_body and self.scope["http_version"] == "1.0" and b"content-length" not in names:
                raise RuntimeError("HTTP/1.0 requires a content-length")
            if self.client.is_last or self.waiting_for_100_continue:
                self.keep_alive = False
        elif message["type"] == "http.response.body":
            body, begin = message.get("body", b""), 0
            while len(body) - begin > _PIECE_BYTES:
                piece = body[begin : begin + _PIECE_BYTES]
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                begin += _PIECE_BYTES
            if begin:
                message = {**message, "body": body[begin:]}
        await self._send(message)

    async def _send(self, message: "ASGISendEvent") -> None:
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        self.client.answer_goes_on()
        await super().send(message)
        if self.flow.write_paused:
            await self.client.has_read()
            if self.disconnected:
                raise ClientDisconnected

    async def _fail(self) -> None:
        if self.response_started:
            self.transport.abort()
            return
        with suppress(OSError):
            headers = [(b"content-length", b"0")]
            await self.send({"type": "http.response.start", "status": 500, "headers": headers})
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
