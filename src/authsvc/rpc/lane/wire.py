"""HTTP/2 over one transport: the only file that knows `ngh2`.

Mechanism: frames are handed to `ngh2`, which says what the windows of the client let us send; `flush` hands
that to the transport, once for each wake-up.

Bound: the transport holds `_CHUNK_BYTES` more than the kernel takes. Beyond that nothing is handed to it, and
nothing is read, until it has sent that.

Failure: what is sent on a stream that is closed meanwhile, or on a connection that ends, is dropped.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import ngh2

from authsvc.rpc.lane import head, malformed
from authsvc.rpc.lane.reading import Reading
from authsvc.rpc.limits import MAX_HEADER_BYTES, MAX_STREAMS, WINDOW_BYTES

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

_CONFIGURATION = ngh2.Configuration(
    # Windows are opened by `acknowledge`. Both would end the connection.
    auto_window_update=False,
    # Larger headers end the connection. Of those in between, only the call is refused.
    max_inbound_header_list_size=4 * MAX_HEADER_BYTES,
    # Clients that hedge cancel many calls. `rpc.connections` looks at those of unknown callers.
    stream_reset_rate_limit=(10_000, 1_000),
)
_SETTINGS = {
    ngh2.Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    ngh2.Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
    ngh2.Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
}
_CHUNK_BYTES = 64 * 1024
_NO_ERROR, _PROTOCOL_ERROR = int(ngh2.ErrorCode.NO_ERROR), int(ngh2.ErrorCode.PROTOCOL_ERROR)
_ENHANCE_YOUR_CALM = int(ngh2.ErrorCode.ENHANCE_YOUR_CALM)
_TOO_MANY_PINGS = _ENHANCE_YOUR_CALM, b"too_many_pings"
_GOAWAY, _ANY_STREAM = 7, bytes([0x7F, 0xFF, 0xFF, 0xFF])

# Events, by the names of ngh2.
Request, Data, Trailers = ngh2.RequestReceived, ngh2.DataReceived, ngh2.TrailersReceived
Closed, Settings = ngh2.StreamClosed, ngh2.SettingsReceived
Ping, PingAcknowledged = ngh2.PingReceived, ngh2.PingAcknowledged


def _goaway(error: ngh2.NGH2Error) -> bytes:
    """Return the frame that ends a connection by an error; any of its calls may have been answered."""
    code = _ENHANCE_YOUR_CALM if isinstance(error, ngh2.DenialOfServiceError) else _PROTOCOL_ERROR
    told = _ANY_STREAM + code.to_bytes(4) + str(error).encode()
    return len(told).to_bytes(3) + bytes([_GOAWAY, 0]) + bytes(4) + told


def initial_window(settings: ngh2.SettingsReceived) -> int | None:
    """Return what a client lets us send on each stream, if it says so."""
    return settings.settings.get(int(ngh2.Setting.INITIAL_WINDOW_SIZE))


def _forget(_: int) -> None:
    """Take what nobody is to be told any more."""


class Wire:
    """The frames of one connection."""

    def __init__(
        self, reading: Reading, closed: Callable[[int], None], malformed: Callable[[], None]
    ) -> None:
        """Take what reads, and what is called for streams that are closed, and for malformed headers."""
        self._reading = reading
        self._closed, self._malformed = closed, malformed
        self._http: ngh2.Connection
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._flushes = False
        #: Streams that are not closed.
        self.streams: dict[int, Any] = {}
        #: Whether the transport takes no more from us.
        self.is_behind = False
        #: Whether everything was said.
        self.is_ended = False
        #: Bytes that were handed to the transport.
        self.sent = 0
        # Whether the last bytes were a part of a frame.
        self._is_cut = False
        # Streams that were answered before their request was complete, and those whose task waits until all
        # that it wrote is sent.
        self._early: set[int] = set()
        self._writing: dict[int, asyncio.Future[None]] = {}

    # The transport.

    def begin(self, transport: asyncio.Transport) -> None:
        """Say what we accept."""
        self._transport = transport
        self._http = ngh2.Connection(ngh2.Role.SERVER, _CONFIGURATION)
        self._reading.begin(transport)
        transport.set_write_buffer_limits(high=_CHUNK_BYTES)
        self._http.initiate_connection(_SETTINGS)
        # One window for all streams, so that a stream that nobody reads does not hold up the others.
        self._http.set_local_window_size(MAX_STREAMS * WINDOW_BYTES)
        self.flush()

    def receive(self, data: bytes) -> Sequence[ngh2.Event]:
        """Return what some bytes say; end the connection if they break the rules of HTTP/2."""
        if self.is_ended:
            return ()
        try:
            self._http.receive_data(data)
        except ngh2.NGH2Error as error:
            try:
                self.flush()  # GOAWAY
            except ngh2.NGH2Error:  # after a flood, or without HTTP/2, ngh2 sends nothing
                if self._transport is not None and not self._is_cut:
                    self._transport.write(_goaway(error))
            self.end()
            return ()
        return self._http.events()

    def pause(self) -> None:
        """Hand nothing to the transport, and read nothing."""
        self.is_behind = True
        self._reading.pause()

    def resume(self) -> None:
        """Go on."""
        self.is_behind = False
        self._reading.resume()
        self.flush()

    @property
    def is_sent(self) -> bool:
        """Whether the kernel has taken all that was handed to the transport."""
        return self._transport is None or not self._transport.get_write_buffer_size()

    def end(self) -> None:
        """End the connection when the transport has sent what it holds.

        Where the client can see that, it closes the connection: closed by us with bytes of the client unread,
        the kernel would drop what the client has not read yet.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self.is_ended:
            return
        self.is_ended = True
        self._reading.drop()
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the client has reset the connection, and nobody has told us yet
            transport.abort()

    def lost(self) -> None:
        """Drop what was not taken, and whatever refers to a connection that is lost."""
        self.is_ended = True
        self._reading.lost()
        self._transport, self._closed = None, _forget

    # Frames.

    def answer(self, number: int, message: bytes, trailers: Headers) -> None:
        """Send headers, a message and trailers."""
        http = self._http
        try:
            http.send_response(number, head.ANSWER)
            http.send_data(number, message)
            http.send_trailers(number, trailers)
        except ngh2.NGH2Error:
            pass

    def headers(self, number: int, headers: Headers, *, ends: bool = False) -> None:
        """Send the headers of an answer, which may be all of it."""
        with suppress(ngh2.NGH2Error):
            self._http.send_response(number, headers, end_stream=ends)

    def data(self, number: int, data: bytes) -> None:
        """Send data."""
        with suppress(ngh2.NGH2Error):
            self._http.send_data(number, data)

    def trailers(self, number: int, trailers: Headers) -> None:
        """Send trailers, which end an answer."""
        with suppress(ngh2.NGH2Error):
            self._http.send_trailers(number, trailers)

    def stop(self, number: int) -> None:
        """Tell the client, after the answer, to send no more of a request."""
        self._early.add(number)

    def acknowledge(self, number: int, size: int) -> None:
        """Let the client send as much again on a stream."""
        try:  # noqa: SIM105 - each call passes here, and `suppress` takes longer
            self._http.acknowledge_received_data(size, number)
        except ngh2.NGH2Error:
            pass

    def ping(self) -> None:
        """Ask the client for a sign of life."""
        with suppress(ngh2.NGH2Error):
            self._http.ping()
            self.flush_soon()

    def leave(self) -> None:
        """Tell the client that it is to use another connection, and ask when it has read that."""
        with suppress(ngh2.NGH2Error):
            self._http.send_shutdown_notice()
        self.ping()

    def left(self, *, too_many_pings: bool = False) -> None:
        """Tell the client which calls are answered; no others are."""
        code, reason = _TOO_MANY_PINGS if too_many_pings else (_NO_ERROR, b"")
        with suppress(ngh2.NGH2Error):
            self._http.send_goaway(code, debug_data=reason)
        self.flush_soon()

    # Sending.

    async def drained(self, number: int) -> None:
        """Wait until all data of a stream is sent."""
        self.flush_soon()
        self._writing[number] = self._loop.create_future()
        try:
            await self._writing[number]
        finally:
            del self._writing[number]

    def flush_soon(self) -> None:
        """Flush at the end of this wake-up, once."""
        if not self._flushes:
            self._flushes = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand to the transport what it takes, and tell which streams are closed by that."""
        self._flushes = False
        transport, http = self._transport, self._http
        if transport is None or transport.is_closing() or self.is_ended:
            return
        while not (self.is_behind or self.is_ended):
            data = http.data_to_send(_CHUNK_BYTES)
            closed = [event for event in http.events() if isinstance(event, Closed)]
            if data:
                transport.write(self._statuses(closed) + data if closed else data)
                self.sent, self._is_cut = self.sent + len(data), len(data) == _CHUNK_BYTES
            for event in closed:
                self._early.discard(event.stream_id)
                self._closed(event.stream_id)
            if len(data) < _CHUNK_BYTES and not (self._early and self._reset_early()):
                break
        for number, waiting in self._writing.items():
            if not (self.is_behind or waiting.done() or http.queued_body_size(number)):
                waiting.set_result(None)
        if not (self.is_behind or http.want_read or http.want_write):
            self.end()

    def _statuses(self, closed: list[ngh2.StreamClosed]) -> bytes:
        """Return the statuses to send before the resets of streams with malformed headers."""
        statuses = b""
        for event in closed:
            if event.stream_id not in self.streams and event.error_code == _PROTOCOL_ERROR:
                self._malformed()
                statuses += malformed.frame(event.stream_id)
        return b"" if self._is_cut else statuses  # nothing fits inside a frame

    def _reset_early(self) -> bool:
        """Tell clients to stop sending requests that are answered; return whether that is to be sent."""
        sent = [number for number in self._early if not self._http.queued_body_size(number)]
        for number in sent:
            self._early.discard(number)
            with suppress(ngh2.NGH2Error):
                self._http.reset_stream(number, _NO_ERROR)
        return bool(sent)
