"""A small HTTP/1.1 server for questions without a body; h11 reads and writes the protocol.

Mechanism: a connection answers one request after the other; while it does, or while its client does not
read what was answered, no more is read from it.

Bound: a head of 64 KiB in 256 lines, ten seconds to send it, ten for an answer and ten to read it, 75 s
between two requests, and so many connections; one more is closed at once. What announces a body is refused
at its head.
Of one connection, what has arrived and was not answered is a head at most, and what was answered and not read
is 16 KiB and an answer. What has arrived of all together is `MOST_HELD`; beyond that, whoever holds more than
an even part is refused.

Failure: what h11 does not take is answered with the code that it names, and the connection ends. A fault of
ours is 500, an answer that takes too long 503.
"""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple, cast

import h11

from authsvc.port import number

_log = logging.getLogger(__name__)

_MOST_HEAD = 64 * 1024
# To read 64 KiB of short lines would take some 30 ms.
_MOST_LINES = 256
_MOST_CONNECTIONS = 4096
# Connections that wait to be taken.
_BACKLOG = 1024
# Bytes of all connections that have arrived and were not answered. A usual head has one or two KiB.
MOST_HELD = 32 * 1024 * 1024
# Bytes of answers that a client has not read, beyond which its next request waits.
_MOST_UNREAD = 16 * 1024
# Seconds: for a head to arrive, between requests, for an answer. Proxies keep idle connections for a minute.
_HEAD, _IDLE, _ANSWER = 10.0, 75.0, 10.0
# How long an idle connection stays at a stop.
LINGER_SECONDS = 0.5
_CLOSE = (b"connection", b"close")
_NO_BODY = "have the proxy ask without Content-Length and Transfer-Encoding"
_END_OF_LINE, _END_OF_HEAD = re.compile(rb"\n"), re.compile(rb"\n\r?\n")
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

    def __init__(
        self, answer: Answer, *, most_connections: int = _MOST_CONNECTIONS, linger: float = LINGER_SECONDS
    ) -> None:
        self.answer = answer
        self._linger = linger
        self.most_connections = most_connections
        self.connections: set[_Connection] = set()
        self.closing = False
        # Bytes that have arrived and were not answered, of all connections.
        self.held = 0
        self._server: asyncio.Server | None = None

    async def start(self, listen: str) -> int:
        """Serve at `host:port` (0: any port), which workers share, and return the port; raise OSError.

        `[::]` is IPv6 and IPv4, as for gRPC.
        """
        host = listen.rpartition(":")[0].strip("[]")
        loop = asyncio.get_running_loop()
        if host == "::":
            # By itself, asyncio would have it be IPv6 alone.
            both = socket.create_server(
                (host, number(listen)),
                family=socket.AF_INET6,
                reuse_port=True,
                dualstack_ipv6=socket.has_dualstack_ipv6(),
            )
            self._server = await loop.create_server(lambda: _Connection(self), sock=both, backlog=_BACKLOG)
        else:
            self._server = await loop.create_server(
                lambda: _Connection(self), host, number(listen), reuse_port=True, backlog=_BACKLOG
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
        await self._emptied(min(self._linger, grace))
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
        # What has arrived and h11 has not been given: no more than it needs, since it keeps what it is given.
        self._unread = bytearray()
        self._searched = 0
        self._lines = 0
        self._held = 0
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        self._request: h11.Request | None = None
        self._answering: asyncio.Task[None] | None = None
        self._deadline = self._loop.time() + _HEAD
        self._timer = self._loop.call_at(self._deadline, self._look_at_time)
        self._begun = False
        self._is_read = True
        self._is_last = False

    # What happens.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's are not derived from it.
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= self._server.most_connections or self._server.closing:
            self._transport.abort()
        self._transport.set_write_buffer_limits(high=_MOST_UNREAD)
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._unread.clear()
        self._count_held()
        if self._answering is not None:
            self._answering.cancel()
        self._server.connections.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun, self._deadline = True, self._loop.time() + _HEAD
        if not self._is_last:
            self._unread += data
            self._go_on()

    def pause_writing(self) -> None:
        """Answer nothing more until the client has read what it was answered."""
        self._is_read = False

    def resume_writing(self) -> None:
        """Go on."""
        self._is_read = True
        if self._answering is None and not self._transport.is_closing():
            self._await_next()

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
            if self._is_last or self._h11.their_state is not h11.SEND_BODY:
                self._transport.abort()
                return
            # A whole head, and not the end of an empty body in chunks.
            self._refuse(408)
        # Later deadlines are not set anew for each request, but found out here.
        self._timer = self._loop.call_at(max(self._deadline, now + 1), self._look_at_time)

    def _go_on(self) -> None:
        """Take what has arrived, up to a whole request; then see to it that what is left is not too much."""
        while self._answering is None and self._is_read and not self._transport.is_closing():
            if not self._feed():
                break
            try:
                self._take_events()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)
        self._count_held()
        if self._held > _MOST_HEAD:
            # Requests ahead of their turn, which no proxy sends.
            self._refuse(431)
        elif self._server.held > MOST_HELD and self._held > MOST_HELD // self._server.most_connections:
            self._refuse(503)

    def _feed(self) -> bool:
        """Give h11 what it needs next, when that has arrived whole; say whether it has."""
        if self._h11.their_state is h11.IDLE:
            found = _END_OF_HEAD.search(self._unread, max(0, self._searched - 2))
            self._lines = 0
        else:
            # The end of an empty body: a line at a time, so that h11 gets nothing of the next head.
            found = _END_OF_LINE.search(self._unread)
        size = len(self._unread) if found is None else found.end()
        if size > _MOST_HEAD or self._lines + self._unread.count(b"\n", 0, size) > _MOST_LINES:
            self._refuse(431)
            return False
        if found is None and self._h11.their_state is h11.IDLE:
            self._searched = size
            return False
        self._lines += self._unread.count(b"\n", 0, size)
        self._searched = 0
        if size:
            self._h11.receive_data(bytes(self._unread[:size]))
            del self._unread[:size]
        return size > 0

    def _take_events(self) -> None:
        while self._answering is None and not self._transport.is_closing():
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._request = event
                if event.http_version not in (b"1.0", b"1.1"):
                    self._refuse(505)
                elif any(name == b"content-length" and int(value) for name, value in event.headers):
                    self._refuse_body()
            elif isinstance(event, h11.Data):
                self._refuse_body()
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._transport.pause_reading()
                self._answering = self._loop.create_task(self._answer(self._request))
                self._answering.add_done_callback(self._end_with_fault)
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return
            else:
                self._transport.close()

    def _count_held(self) -> None:
        held = len(self._unread)
        self._server.held += held - self._held
        self._held = held

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
        if self._h11.our_state is h11.MUST_CLOSE or self._server.closing or self._is_last:
            self._close()
            return
        self._h11.start_next_cycle()
        if self._is_read:
            self._await_next()
        else:
            self._deadline = self._loop.time() + _HEAD

    def _await_next(self) -> None:
        """Read on, and take what had arrived behind the last request."""
        self._begun, self._deadline = bool(self._unread), self._loop.time() + _IDLE
        self._transport.resume_reading()
        self._go_on()

    def _end_with_fault(self, answering: asyncio.Task[None]) -> None:
        """Leave nobody waiting for an answer that could not be sent."""
        if not answering.cancelled() and (error := answering.exception()) is not None:
            _log.error("an answer could not be sent", exc_info=error)
            self._transport.abort()

    def _refuse_body(self) -> None:
        """Refuse a question with a body: that of the client's request, which its proxy should not send on."""
        _log.warning("a question over HTTP has a body, and is refused; %s", _NO_BODY)
        self._refuse(413, f"{_NO_BODY}\n")

    def _refuse(self, status: int, problem: str = "") -> None:
        """Answer what is no question of ours, and end the connection, since where it ends is not known."""
        self._unread.clear()
        self._count_held()
        self._is_last = True
        if self._answering is not None:
            return  # It ends with the answer to what came before.
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            is_head = self._request is not None and self._request.method == b"HEAD"
            self._send(Reply(status, body=problem), with_body=not is_head)
        self._close()

    def _close(self) -> None:
        """End the connection when its client has read what it was answered, or has had the time to."""
        self._deadline = self._loop.time() + _HEAD
        self._transport.close()

    def _send(self, reply: Reply, *, with_body: bool) -> None:
        body = reply.body.encode()
        headers: list[tuple[bytes, bytes]] = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers
        ]
        headers.append((b"content-length", b"%d" % len(body)))
        if self._is_last or self._server.closing:
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
