"""One connection of a client: its calls, and how long it lasts.

Mechanism: `_received` is called with what one wake-up has brought, or with a part of it. Each call whose
message is complete is answered before the next event is looked at, and what the answers take is written once,
at the end. Calls that are not complete by then become tasks, as do those that have to wait.

Bound: a call has one window of its message taken before its sender is known, and more only after that.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from authsvc.rpc.lane import message, wire
from authsvc.rpc.lane.certificate import auth_context
from authsvc.rpc.lane.incomplete import Incomplete
from authsvc.rpc.lane.lifetime import LINGER_SECONDS, NEVER, Due, Lifetime
from authsvc.rpc.lane.owner import Owner
from authsvc.rpc.lane.reading import Reader, Reading
from authsvc.rpc.lane.stream import Stream
from authsvc.rpc.lane.wire import Wire
from authsvc.rpc.limits import AGED_GRACE_SECONDS, WINDOW_BYTES
from authsvc.rpc.peer import end_of

_log = logging.getLogger(__name__)


class Connection(Reader):
    """One connection, from when it is accepted."""

    def __init__(self, owner: Owner, peer: str) -> None:
        bounds = owner.served.bounds
        self._owner, self._answers, self._connections = owner, bounds.answers, bounds.connections
        self._rpcs, self._unknown = owner.served.rpcs, owner.served.unknown
        self._read_head = owner.read_head
        #: The other end, in the form of gRPC, and as an address and a port.
        self.peer, self.end = peer, end_of(peer)
        #: Accepts the connection, and does the handshake of TLS.
        self.set_up: asyncio.Task[None] | None = None
        self.reading = Reading(self._received, owner.queues, partial(self._connections.is_known, peer))
        self.wire = Wire(self.reading, self._closed, partial(self._connections.broken, peer))
        self._streams: dict[int, Stream] = self.wire.streams
        self._loop = asyncio.get_running_loop()
        self._lifetime = Lifetime(self._loop.time(), owner.connection_age)
        self._transport: asyncio.Transport | None = None
        self._auth_context: Mapping[str, Iterable[bytes]] | None = None
        # The client takes less than a window of each answer, so each is counted before the next one is given.
        self._is_narrow = False
        self._incomplete = Incomplete(self.reading)

    @property
    def is_open(self) -> bool:
        """Whether it was set up, and is not lost."""
        return self._transport is not None

    @property
    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What is known of the client's certificate, by gRPC's names."""
        if self._auth_context is None:
            shown = None if self._transport is None else self._transport.get_extra_info("ssl_object")
            self._auth_context = {} if shown is None else auth_context(shown)
        return self._auth_context

    @property
    def takes_calls(self) -> bool:
        """Whether its client may begin more calls."""
        return self.is_open and not (self.wire.is_ended or self._lifetime.left < NEVER)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a client whose TLS has not agreed on HTTP/2 is disconnected."""
        self._transport = made = cast("asyncio.Transport", transport)
        shown = made.get_extra_info("ssl_object")
        if shown is not None and shown.selected_alpn_protocol() != "h2":
            made.abort()
        else:
            self.wire.begin(made)
            if self._lifetime.deadline < NEVER:  # the server is stopping
                self.leave(self._lifetime.deadline)

    def connection_lost(self, _: Exception | None) -> None:
        """Give up all calls, and refer to nothing that refers to us."""
        self._transport = self.set_up = None
        self.wire.lost()
        self._owner.lost(self)
        self._give_up()
        self._incomplete.end()

    def pause_writing(self) -> None:
        """Stop until the transport has sent what it holds."""
        self._lifetime.behind_since = self._loop.time()
        self.wire.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._lifetime.behind_since = NEVER
        self.wire.resume()
        self._look_at_end()

    # Calls.

    def _received(self, data: bytes) -> None:
        try:
            self._receive(data)
        except Exception:  # noqa: BLE001 - the calls that are not answered yet would wait for ever
            _log.exception("unexpected error on a connection")
            self.abort()

    def _receive(self, data: bytes) -> None:
        self._lifetime.heard = True
        answered = self._take(self.wire.receive(data))
        if self._incomplete.is_overdue:
            self._incomplete.end()
        self.wire.flush()
        if answered and self._streams:
            for stream in answered:
                if stream.number in self._streams:  # the client takes no more
                    self._answers.begin(stream, self.peer, stream.account, stream.size)
        self._look_at_end()

    def _take(self, events: Sequence[Any]) -> list[Stream]:
        """Answer what can be answered at once, and return that; begin tasks for the rest."""
        streams, begun, answered = self._streams, [], []
        for event in events:
            if isinstance(event, wire.Request):
                stream = Stream(self, event.stream_id, self._read_head(event.headers))
                streams[event.stream_id] = stream
                stream.is_ended = event.end_stream
                begun.append(stream)
            elif isinstance(event, wire.Data):
                if (known := streams.get(event.stream_id)) is not None:
                    if event.end_stream and self._is_answered_at_once(known, event.data):
                        answered.append(known)
                    else:
                        known.data(event.data, ends=event.end_stream)
            elif isinstance(event, wire.Closed):
                self._closed(event.stream_id)
            else:
                self._take_other(event)
        if len(begun) > len(answered) or self._incomplete:
            self._begin_others(begun)
        return answered

    def _is_answered_at_once(self, stream: Stream, data: bytes) -> bool:
        """Answer a call whose last bytes these are, if memory can; return whether it has."""
        rpc = self._rpcs.get(stream.head.path)
        if rpc is None or rpc.at_once is None or not stream.is_new or stream.head.refusal:
            return False
        if stream.received:
            data = bytes(stream.received) + data
        if (request := message.whole(data)) is None:
            return False
        answer = rpc.at_once(stream, request)
        if not isinstance(answer, bytes):
            stream.begin(answer)
            return False
        self.wire.acknowledge(stream.number, len(data))
        stream.is_ended = stream.is_whole = True
        stream.answer(answer)
        if self._is_narrow:
            self._answers.begin(stream, self.peer, stream.account, len(answer))
        return True

    def _begin_others(self, begun: list[Stream]) -> None:
        """Begin the tasks of calls that were not answered at once, unless their message may still arrive."""
        for stream in begun:
            if not stream.is_new or stream.is_closed:
                continue
            rpc = self._rpcs.get(stream.head.path, self._unknown)
            if rpc.at_once is None or stream.is_ended or stream.head.refusal:
                self._begin(stream)
            else:
                self._incomplete.add(stream, self._begin)

    def _begin(self, stream: Stream) -> None:
        if stream.head.refusal is None:
            rpc = self._rpcs.get(stream.head.path, self._unknown)
            stream.lasts = rpc.lasts
            stream.begin(rpc.handle(None, stream))
        else:
            stream.end_by(stream.head.refusal)

    def _take_other(self, event: object) -> None:
        if isinstance(event, wire.Settings):
            self._lifetime.is_set()
            if (window := wire.initial_window(event)) is not None:
                self._is_narrow = window < WINDOW_BYTES
        elif isinstance(event, wire.Ping):
            if self._lifetime.is_pinged_too_often(self._loop.time(), self.wire.sent):
                self._left(too_many_pings=True)
        elif isinstance(event, wire.PingAcknowledged):
            self._lifetime.acknowledged()
            if self._lifetime.leaving < NEVER:
                self._left()
        elif isinstance(event, wire.Trailers) and event.stream_id in self._streams:
            self._streams[event.stream_id].data(b"", ends=True)

    def allow(self, stream: Stream) -> None:
        """Let the client send as much again as is held of a call."""
        if stream.held:
            self.wire.acknowledge(stream.number, stream.held)
            stream.held = 0
            self.wire.flush_soon()

    def answered(self, stream: Stream) -> None:
        """Send the end of an answer soon."""
        if not stream.is_ended:
            self.wire.stop(stream.number)
        self.wire.flush_soon()

    def _closed(self, number: int) -> None:
        if (stream := self._streams.pop(number, None)) is not None:
            self._answers.end(stream)
            if not stream.is_whole:
                self.allow(stream)
                if not stream.is_noted:
                    self._connections.broken(self.peer)
                stream.close()
            if not self._streams and self._lifetime.left < NEVER:
                self._loop.call_soon(self._look_at_end)  # what closed the stream is yet to be written
            if stream.lasts:  # if the connection is old, the next one is to begin on another
                self._loop.call_soon(lambda: self.look(self._loop.time()))

    def _give_up(self) -> None:
        """Give up the calls that are not answered."""
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            self._answers.end(stream)
            stream.close()

    # Its end.

    def leave(self, deadline: float) -> None:
        """Ask the client to use another connection; end this one when its calls are answered, or at last.

        The client is told twice, as RFC 9113, 6.8 says: first that it may begin no more calls, and then, when
        those under way have arrived, which ones are answered. A handshake has a moment to end.
        """
        lifetime, now = self._lifetime, self._loop.time()
        lifetime.deadline = min(lifetime.deadline, deadline if self.is_open else now + LINGER_SECONDS)
        if lifetime.leaving == NEVER and self.is_open:
            lifetime.leaving = now
            self.wire.leave()

    def look(self, now: float) -> None:
        """Do what is due."""
        self._look_at_end()
        lasts = any(stream.lasts for stream in self._streams.values())
        due = self._lifetime.due(now, is_sent=self.wire.is_sent, lasts=lasts)
        if due is Due.PING:
            self.wire.ping()
        elif due is Due.LEAVE:
            self.leave(now + self._owner.longest + AGED_GRACE_SECONDS)
        elif due is Due.LEFT:
            self._left()
        elif due is Due.UNREAD:
            self._connections.closing({"unread": 1})
            self.abort()
        elif due is Due.END:
            self.abort()

    def abort(self) -> None:
        """End the connection now, or give it up while it is set up."""
        if self._transport is not None:
            self._transport.abort()
        elif self.set_up is not None:
            self.set_up.cancel()

    def _left(self, *, too_many_pings: bool = False) -> None:
        if self._lifetime.left == NEVER:
            self._lifetime.left = self._loop.time()
            self.wire.left(too_many_pings=too_many_pings)
            if too_many_pings:
                self._lifetime.deadline = self._lifetime.left + LINGER_SECONDS
                self._give_up()
            self._owner.left()
            self._loop.call_soon(self._look_at_end)

    def _look_at_end(self) -> None:
        """End the connection when the client has left, and its calls are answered."""
        if self._lifetime.left < NEVER and not (self._streams or self.wire.is_behind):
            self.wire.flush()
            self.wire.end()
        if self.wire.is_ended and self._lifetime.closing == NEVER:
            self._lifetime.closing = self._loop.time()
            self._give_up()
