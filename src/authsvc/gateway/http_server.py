"""A small HTTP/1.1 server for questions without a body; h11 reads and writes the protocol.

Mechanism: a connection answers one request after the other; while it does, no more is read from it.

Bound: a head of 64 KiB, ten seconds to send it, 75 s between two requests, ten seconds for an answer, and so
many connections; one more is closed at once. What has a body is refused.

Failure: what h11 does not take is answered with the code that it names, and the connection ends. A fault of
ours is 500, an answer that takes too long 503.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple, cast

import h11

from authsvc.port import number

_log = logging.getLogger(__name__)

_MOST_HEAD = 64 * 1024
_MOST_CONNECTIONS = 4096
# Seconds: for a head to arrive, between requests, for an answer. Proxies keep idle connections for a minute.
_HEAD, _IDLE, _ANSWER = 10.0, 75.0, 10.0
# How long an idle connection stays at a stop.
_MOMENT = 0.5
_CLOSE = (b"connection", b"close")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class Call(NamedTuple):
    """A request: header names in lower case, values in their order, and who sent it, as gRPC would say it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    sender: str = ""

    def all(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for known, value in self.headers if known == name]


class Reply(NamedTuple):
    """An answer; the body is text."""

    status: int
    headers: list[tuple[str, str]] = []  # noqa: RUF012 - nobody changes it
    body: str = ""


Answer = Callable[[Call], Awaitable[Reply]]


class HttpServer:
    """Serves from `start` until `stop` has let the answers under way end."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.connections: set[_Connection] = set()
        self.closing = False
        self._server: asyncio.Server | None = None

    async def start(self, listen: str) -> int:
        """Serve at `host:port` (0: any port), which workers share, and return the port; raise OSError."""
        host = listen.rpartition(":")[0].strip("[]")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), host, number(listen), reuse_port=True, backlog=1024
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self, grace: float) -> None:
        """Take no more connections, and let those that are there end within `grace` seconds.

        A question that arrives meanwhile is answered, and its connection ends; those that stay idle
        are ended after a moment. So a proxy seldom writes to one that has just ended.
        """
        self.closing = True
        if self._server is not None:
            self._server.close()
        begun = time.monotonic()
        await self._emptied(min(_MOMENT, grace))
        for connection in tuple(self.connections):
            connection.close_if_idle()
        await self._emptied(grace - (time.monotonic() - begun))
        for connection in tuple(self.connections):
            connection.abort()

    async def _emptied(self, seconds: float) -> None:
        """Wait until all connections have ended, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0, seconds)):
                while self.connections:
                    await asyncio.wait([connection.closed for connection in self.connections])


class _Connection(asyncio.Protocol):
    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        self._request: h11.Request | None = None
        self._answering: asyncio.Task[None] | None = None
        self._deadline = self._loop.time() + _HEAD
        self._timer = self._loop.call_at(self._deadline, self._look_at_time)
        self._begun = False

    # What happens.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's are not derived from it.
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= _MOST_CONNECTIONS or self._server.closing:
            self._transport.abort()
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        if self._answering is not None:
            self._answering.cancel()
        self._server.connections.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun, self._deadline = True, self._loop.time() + _HEAD
        self._h11.receive_data(data)
        self._go_on()

    def eof_received(self) -> None:
        """End the connection: who asks waits for the answer."""

    def close_if_idle(self) -> None:
        """End it unless a request is being read or answered."""
        if self._answering is None and not self._begun:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    # What is done.

    def _look_at_time(self) -> None:
        now = self._loop.time()
        if now >= self._deadline and self._answering is None:
            self._transport.abort()
        else:
            # Later deadlines are not set anew for each request, but found out here.
            self._timer = self._loop.call_at(max(self._deadline, now + 1), self._look_at_time)

    def _go_on(self) -> None:
        """Take what has arrived, up to a whole request."""
        while self._answering is None and not self._transport.is_closing():
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)
                return
            if isinstance(event, h11.Request):
                if event.http_version not in (b"1.0", b"1.1"):
                    self._refuse(505)
                elif sum(len(name) + len(value) for name, value in event.headers) > _MOST_HEAD:
                    self._refuse(431)
                self._request = event
            elif isinstance(event, h11.Data):
                self._refuse(413)
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._transport.pause_reading()
                self._answering = self._loop.create_task(self._answer(self._request))
                self._answering.add_done_callback(self._end_with_fault)
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return
            else:
                self._transport.close()

    async def _answer(self, request: h11.Request) -> None:
        call = Call(
            request.method.decode("ascii"),
            request.target.decode("latin-1"),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers],
            self._sender(),
        )
        try:
            async with asyncio.timeout(_ANSWER):
                reply = await self._server.answer(call)
        except TimeoutError:
            reply = Reply(503, [("retry-after", "1")])
        except Exception:  # noqa: BLE001 - the proxy gets an answer, whatever happens
            _log.exception("a fault in the check over HTTP")
            reply = Reply(500)
        self._send(reply, with_body=request.method != b"HEAD")
        self._answering = None
        if self._h11.our_state is h11.MUST_CLOSE or self._server.closing:
            self._transport.close()
            return
        self._h11.start_next_cycle()
        self._begun, self._deadline = False, self._loop.time() + _IDLE
        self._transport.resume_reading()
        # What had arrived behind the last request.
        self._go_on()

    def _end_with_fault(self, answering: asyncio.Task[None]) -> None:
        """Leave nobody waiting for an answer that could not be sent."""
        if not answering.cancelled() and (error := answering.exception()) is not None:
            _log.error("an answer could not be sent", exc_info=error)
            self._transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer what is no question of ours, and end the connection, since where it ends is not known."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(Reply(status), with_body=False, close=True)
        self._transport.close()

    def _send(self, reply: Reply, *, with_body: bool, close: bool = False) -> None:
        body = reply.body.encode()
        headers: list[tuple[bytes, bytes]] = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers
        ]
        headers.append((b"content-length", b"%d" % len(body)))
        if close or self._server.closing:
            headers.append(_CLOSE)
        reason = _PHRASES[reply.status]
        parts = [self._h11.send(h11.Response(status_code=reply.status, headers=headers, reason=reason))]
        if body and with_body:
            parts.append(self._h11.send(h11.Data(data=body)))
        parts.append(self._h11.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))

    def _sender(self) -> str:
        peer = self._transport.get_extra_info("peername")
        if not peer:
            return ""
        host, port = peer[:2]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
