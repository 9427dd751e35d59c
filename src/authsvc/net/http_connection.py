"""One connection of the HTTP/1.1 server; h11 reads and writes the protocol."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol, cast

import h11

from authsvc.net.http_message import Call, Reply

_log = logging.getLogger(__name__)

_MAX_HEAD_BYTES = 64 * 1024
# To read 64 KiB of short lines would take some 30 ms.
_MAX_LINES = 256
# Of all connections of a server: what has arrived and was not answered. A usual head has 1 or 2 KiB.
MAX_HELD_BYTES = 32 * 1024 * 1024
# Answers that a client has not read, beyond which its next request waits.
_MAX_UNREAD_BYTES = 16 * 1024
# For a head to arrive, between requests, for an answer. Proxies keep idle connections for a minute.
_HEAD_SECONDS, _IDLE_SECONDS, _ANSWER_SECONDS = 10.0, 75.0, 10.0
_CLOSE = (b"connection", b"close")
_NO_BODY = "send none, and configure a proxy not to send Content-Length and Transfer-Encoding"
_END_OF_LINE, _END_OF_HEAD = re.compile(rb"\n"), re.compile(rb"\n\r?\n")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

Answer = Callable[[Call], Awaitable[Reply]]


class Server(Protocol):
    """What the connections of a server share."""

    answer: Answer
    max_connections: int
    connections: "set[Connection]"
    silent: "dict[Connection, None]"
    idle: "dict[Connection, None]"
    closing: bool
    held_bytes: int

    def has_room(self) -> bool:
        """Return whether one more connection is accepted; close another one for it if necessary."""

    def forget(self, connection: "Connection") -> None:
        """No longer count a connection that is closed."""


class Connection(asyncio.Protocol):
    """Reads requests one after the other, and answers each before it reads on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        # What has arrived and was not given to h11, which keeps all that it is given.
        self._unread = bytearray()
        self._searched = 0
        self._lines = 0
        self._held_bytes = 0
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._request: h11.Request | None = None
        self._answering: asyncio.Task[None] | None = None
        self._deadline = self._loop.time() + _HEAD_SECONDS
        self._timer = self._loop.call_at(self._deadline, self._check_deadline)
        self._begun = False
        self._is_read = True
        self._is_last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many connections already."""
        # No isinstance: uvloop's are not derived from it.
        self._transport = cast("asyncio.Transport", transport)
        if self._server.closing or not self._server.has_room():
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=_MAX_UNREAD_BYTES)
        self._server.connections.add(self)
        self._server.silent[self] = None

    def connection_lost(self, error: Exception | None) -> None:
        """Release everything."""
        self._timer.cancel()
        self._unread.clear()
        self._count_held()
        if self._answering is not None:
            self._answering.cancel()
        self._server.forget(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Process what has arrived, with what arrived before."""
        if not self._begun:
            self._begun, self._deadline = True, self._loop.time() + _HEAD_SECONDS
        if not self._is_last:
            self._unread += data
            self._go_on()

    def pause_writing(self) -> None:
        """Stop answering until the client has read its answers."""
        self._is_read = False

    def resume_writing(self) -> None:
        """Answer again."""
        self._is_read = True
        if self._answering is None and not self._transport.is_closing():
            self._await_next()

    def eof_received(self) -> None:
        """Close the connection: a client that waits for an answer does not end its side."""

    def close_if_idle(self) -> None:
        """Close the connection unless a request is being read or answered."""
        if self._answering is None and not self._begun:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def _check_deadline(self) -> None:
        now = self._loop.time()
        if now >= self._deadline and self._answering is None:
            if self._is_last or self._h11.their_state is not h11.SEND_BODY:
                self._transport.abort()
                return
            # The head is complete, and the end of an empty chunked body is missing.
            self._refuse(408)
        # The timer is not reset for each request; a later deadline is noticed here.
        self._timer = self._loop.call_at(max(self._deadline, now + 1), self._check_deadline)

    def _go_on(self) -> None:
        """Process what has arrived, up to a whole request; refuse a client that has sent too much ahead."""
        while self._answering is None and self._is_read and not self._transport.is_closing():
            if not self._feed():
                break
            try:
                self._take_events()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)
        self._count_held()
        if self._held_bytes > _MAX_HEAD_BYTES:
            # Pipelined requests, which no proxy sends in such numbers.
            self._refuse(431)
        elif (
            self._server.held_bytes > MAX_HELD_BYTES
            and self._held_bytes > MAX_HELD_BYTES // self._server.max_connections
        ):
            self._refuse(503)

    def _feed(self) -> bool:
        """Give h11 what it needs next, once all of it has arrived; say whether it has."""
        if self._h11.their_state is h11.IDLE:
            found = _END_OF_HEAD.search(self._unread, max(0, self._searched - 2))
            self._lines = 0
        else:
            # The end of an empty body: one line at a time, so that h11 gets nothing of the next head.
            found = _END_OF_LINE.search(self._unread)
        size = len(self._unread) if found is None else found.end()
        if size > _MAX_HEAD_BYTES or self._lines + self._unread.count(b"\n", 0, size) > _MAX_LINES:
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
                self._server.silent.pop(self, None)
                self._server.idle.pop(self, None)
                self._answering = self._loop.create_task(self._answer(self._request))
                self._answering.add_done_callback(self._end_with_fault)
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return
            else:
                self._transport.close()

    def _count_held(self) -> None:
        held = len(self._unread)
        self._server.held_bytes += held - self._held_bytes
        self._held_bytes = held

    async def _answer(self, request: h11.Request) -> None:
        call = Call(
            request.method.decode("ascii"),
            request.target.decode("latin-1"),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers],
            self._sender(),
        )
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reply = await self._server.answer(call)
        except TimeoutError:
            reply = Reply(503, [("retry-after", "1")])
        except Exception:  # noqa: BLE001 - the proxy gets an answer in any case
            _log.exception("a fault in the answer to an HTTP request")
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
            self._deadline = self._loop.time() + _HEAD_SECONDS

    def _await_next(self) -> None:
        """Read on, and process what arrived after the last request."""
        self._server.idle[self] = None
        self._begun, self._deadline = bool(self._unread), self._loop.time() + _IDLE_SECONDS
        self._transport.resume_reading()
        self._go_on()

    def _end_with_fault(self, answering: asyncio.Task[None]) -> None:
        """Close the connection when an answer could not be sent, so that nobody waits for it."""
        if not answering.cancelled() and (error := answering.exception()) is not None:
            _log.error("an answer could not be sent", exc_info=error)
            self._transport.abort()

    def _refuse_body(self) -> None:
        """Refuse a request with a body: it is that of the client, and the proxy must not forward it."""
        _log.warning("refused an HTTP request, since it has a body; %s", _NO_BODY)
        self._refuse(413, f"the request has a body; {_NO_BODY}\n")

    def _refuse(self, status: int, problem: str = "") -> None:
        """Answer what cannot be served, and close the connection, since where the request ends is unknown."""
        self._unread.clear()
        self._count_held()
        self._is_last = True
        if self._answering is not None:
            return  # The connection ends with the answer to the previous request.
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            is_head = self._request is not None and self._request.method == b"HEAD"
            self._send(Reply(status, body=problem), with_body=not is_head)
        self._close()

    def _close(self) -> None:
        """Close the connection when its client has read its answers, or has had the time to."""
        self._deadline = self._loop.time() + _HEAD_SECONDS
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
        return str(peer[0]) if peer else ""
