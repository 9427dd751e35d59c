"""One connection of the ASGI server: uvicorn's protocol for httptools, within the bounds of `asgi_server`."""

import asyncio
import logging
from typing import cast

from uvicorn.protocols.http.flow_control import FlowControl

from authsvc.net.asgi_exchange import Exchange
from authsvc.net.asgi_parser import MAX_HEAD_BYTES, RequestParser
from authsvc.net.asgi_shared import Server
from authsvc.net.asgi_transport import address, is_unread
from authsvc.net.deadline import Deadline
from authsvc.net.http_head import CHUNKED, SEND_NONE, RefusedError

_log = logging.getLogger(__name__)

# Of all connections of a server: what has arrived and was not answered. A usual head has 1 or 2 KiB.
MAX_HELD_BYTES = 32 * 1024 * 1024
# Of an answer that a client has not read, beyond which `send` waits.
MAX_UNREAD_BYTES = 16 * 1024
# For a handshake and then a head to arrive; a body; between requests; to read an answer. Proxies keep idle
# connections for a minute.
_HEAD_SECONDS, _BODY_SECONDS, _IDLE_SECONDS, _READ_SECONDS = 10.0, 10.0, 75.0, 10.0
# Until it is looked whether a client has read everything, and then until its connection is given up: few
# clients end TLS. It is looked twice, since more may be about to be written.
_CLOSE_SECONDS = 0.5


class Connection(RequestParser):
    """Reads requests one after the other, and has each answered before it takes the next one."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.config, server.state, server.max_body_bytes)
        self._server = server
        self.closed: asyncio.Future[None] = self.loop.create_future()
        #: The task that makes the transport; and whether it has.
        self.set_up: asyncio.Future[None] | None = None
        self.is_open = False
        self._held_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._begun = self._is_last = False
        # Until when what was written before the connection was closed may be read; whether it has been.
        self._unread_until, self._is_read = 0.0, False
        self._deadline = Deadline(self._is_late)
        self._deadline.expect(_HEAD_SECONDS)

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with the answer in progress, as with one before the end of chunks."""
        return self._is_last or self._server.closing or self._missing == CHUNKED

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # No isinstance: uvloop's are not derived from it.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=MAX_UNREAD_BYTES)
        self.flow = FlowControl(self.transport)
        self.is_open = True
        self.server = address(transport.get_extra_info("sockname"))
        self.client = address(transport.get_extra_info("peername"))
        self._tls = transport.get_extra_info("ssl_object")
        self.scheme = "http" if self._tls is None else "https"
        self._deadline.expect(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything; cancel the application unless its answer is complete."""
        self._deadline.end()
        task, self._task = self._task, None
        if task is not None:
            complete = self.cycle.response_complete
            self.cycle.disconnected = not complete or self.flow.write_paused
            if not complete:
                task.cancel()
        if self.is_open:
            super().connection_lost(exc)
        self._unread.clear()
        self._body_bytes = 0
        self._count_held()
        self._server.forget(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Process what has arrived, with what arrived before."""
        if self._is_last:
            return
        if not self._begun:
            self._begun = True
            if self._task is None:
                self._deadline.expect(_HEAD_SECONDS)
        self._unread += data
        self._go_on()

    def resume_writing(self) -> None:
        """Let the application send more, or begin with the next request."""
        super().resume_writing()
        if self._task is None and not self._missing and not self.transport.is_closing():
            self._await_next()

    def eof_received(self) -> None:
        """Close the connection: a client that waits for an answer does not end its side."""

    def close_if_idle(self) -> None:
        """Close the connection unless a request is being read or answered."""
        if self._task is None and not self._begun:
            self._close() if self.is_open else self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.is_open:
            self.transport.abort()
        elif self.set_up is not None:
            self.set_up.cancel()

    def _is_late(self) -> None:
        """End what has taken too long: with an answer if one is due, and can still be read."""
        was_read = self._is_read
        if self.loop.time() < self._unread_until:
            self._is_read = not is_unread(self.transport)
        if self.loop.time() < self._unread_until and not (was_read and self._is_read):
            self._deadline.expect(_CLOSE_SECONDS)
        elif self._task is None or self.flow.write_paused or self.transport.is_closing():
            self.abort()
        elif self._missing and not self.flow.read_paused:
            self._refuse(RefusedError(408))
        else:
            self._refuse(RefusedError(503))

    def answer_goes_on(self) -> None:
        """Give the application its time again."""
        self._deadline.expect(self._server.answer_seconds)

    async def has_read(self) -> None:
        """Wait until most of what was written has left; the connection ends when that takes too long."""
        self._deadline.expect(_READ_SECONDS)
        await self.flow.drain()
        if not self.transport.is_closing():
            self._deadline.expect(self._server.answer_seconds)

    def _go_on(self) -> None:
        """Process what has arrived, up to a whole request."""
        try:
            while self._unread and not self.transport.is_closing():
                if self._missing:
                    self._take_body()
                elif self._task is not None or self.flow.write_paused or not self._take_head():
                    break
                else:
                    self._start()
            self._count_held()
            self._check_held()
        except RefusedError as refused:
            self._refuse(refused)
        if self._unread and not self._missing and (self._task is not None or self.flow.write_paused):
            self.flow.pause_reading()

    def _start(self) -> None:
        """Start the answer to the request whose head was taken."""
        scope, missing = self.scope, self._missing
        http_1_1 = scope["http_version"] == "1.1"
        if self._tls is not None:
            scope["extensions"] = {"tls": {"authsvc.ssl_object": self._tls}}
        self.cycle = exchange = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=_log,
            access_logger=_log,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=bool(missing) and http_1_1 and self.expect_100_continue,
            keep_alive=http_1_1 and self._keeps_alive,
            on_response=lambda: None,
        )
        exchange.client = self
        self._server.silent.pop(self, None)
        self._server.idle.pop(self, None)
        self._task = self.loop.create_task(exchange.run(self._server.application))
        self._server.state.tasks.add(self._task)
        self._task.add_done_callback(self._server.state.tasks.discard)
        if missing:
            self._deadline.expect(_BODY_SECONDS)
        else:
            self._is_complete()

    def _is_complete(self) -> None:
        """Let the application know that it has the whole request; go on if it has answered already."""
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if self._task is not None:
            self._deadline.expect(self._server.answer_seconds)
            if not self._unread:  # a large body has stopped it; now the end of the client is to be noticed
                self.flow.resume_reading()
        elif self.is_last:
            self._close()
        else:
            self._is_idle()

    def _count_held(self) -> None:
        held = len(self._unread) + (self._body_bytes if self._task is not None else 0)
        self._server.held_bytes += held - self._held_bytes
        self._held_bytes = held

    def _check_held(self) -> None:
        """Refuse a client that has sent too much ahead, or more than its share when all hold too much."""
        server = self._server
        if not self._missing and len(self._unread) > MAX_HEAD_BYTES:
            # Pipelined requests, which no proxy sends in such numbers.
            status = 431
        elif (
            server.held_bytes > MAX_HELD_BYTES and self._held_bytes > MAX_HELD_BYTES // server.max_connections
        ):
            status = 503
        else:
            return
        if self._task is None or self._missing:
            raise RefusedError(status)
        self._take_no_more()

    def _take_no_more(self) -> None:
        """Drop what was sent ahead; the connection ends with the answer in progress."""
        self._is_last = True
        self._unread.clear()
        self._count_held()
        if self._task is None:
            self._close()
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    def answered(self, exchange: Exchange) -> None:
        """Go on after the application has ended, unless it was given up."""
        if exchange is not self.cycle or self._task is None:
            return
        self._task = None
        exchange.body.clear()
        self._count_held()
        if not exchange.response_complete:
            self.transport.abort()
        elif self.is_last or not exchange.keep_alive:
            self._close()
        elif self._missing:  # it is dropped
            self._deadline.expect(_BODY_SECONDS)
            self.flow.resume_reading()
        elif self.flow.write_paused:
            self._deadline.expect(_READ_SECONDS)
        else:
            self._await_next()

    def _await_next(self) -> None:
        """Read on, and process what arrived after the last request; close the connection at a stop."""
        if self.is_last:
            self._close()
            return
        self._is_idle()
        self._go_on()

    def _is_idle(self) -> None:
        self._server.idle[self] = None
        self._begun = bool(self._unread)
        self._deadline.expect(_HEAD_SECONDS if self._begun else _IDLE_SECONDS)
        self.flow.resume_reading()
        # Many connections are idle. The request and its answer are most of what one takes.
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]

    def _refuse(self, refused: RefusedError) -> None:
        """Answer what cannot be served, and close the connection, since where the request ends is unknown."""
        self._is_last = True
        self._missing = 0
        self._unread.clear()
        task, self._task = self._task, None
        self._count_held()
        if task is not None:
            self.cycle.disconnected = True
            task.cancel()
            if self.cycle.response_started:
                self.transport.abort()
                return
        if refused.status == 413 and not self._max_body_bytes:
            # It is that of a client, and the proxy must not forward it.
            _log.warning("refused an HTTP request, since it has a body; %s", SEND_NONE)
        self.transport.write(refused.answer(with_body=not self._is_head))
        self._close()

    def _close(self) -> None:
        """Close the connection when its client has read its answers, or has had the time to."""
        self._unread_until = self.loop.time() + _READ_SECONDS
        self._deadline.expect(_CLOSE_SECONDS)
        if not self.transport.is_closing():  # after a second time, TLS in asyncio could not be aborted
            self.transport.close()
