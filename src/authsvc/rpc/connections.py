"""The connections of clients: how many there may be, and which are closed.

A connection is known once a caller was authenticated on it. gRPC accepts a fixed number of connections.
Unknown ones are closed when few are left, so that they cannot take them all. A connection is also closed
when its calls end again and again before their caller is known, most often because the client resets them.

Mechanism: connections are known by their other ends. The lane closes its own. grpcio has no call that closes
one, so our sockets are found by their port and shut down, which it sees as a disconnect of the client.

Bound: the tables are as large as the limit of connections. A new connection starts with a clean record.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from authsvc.entrance.admission import Admission
from authsvc.model.address import site
from authsvc.rpc.peer import End, address_of, end_of

_log = logging.getLogger(__name__)

# Seconds between two log lines.
_LOG_SECONDS = 60.0
# Calls of unknown callers on one connection that end before they are answered. A real client has far fewer.
MAX_BROKEN = 100
# The same for the next connections of that address, for so many seconds.
MAX_BROKEN_AGAIN, _OFFENCE_SECONDS = 10, 60.0
_NEVER_AGAIN = 2**31
# The share of the limit at which unknown connections are closed.
_CROWDED_SHARE = 0.75


class _Call(Protocol):
    """What is looked at of a call."""

    @property
    def peer(self) -> str: ...

    @property
    def admission(self) -> Admission: ...


class Connections:
    """Knows the connections by their peers, in the form of gRPC."""

    def __init__(self, max_connections: int, now: Callable[[], float]) -> None:
        """Take how many connections there may be, and a stopwatch."""
        self.max_connections = max_connections
        self._now = now
        self._known: OrderedDict[str, End] = OrderedDict()
        self._broken: OrderedDict[str, int] = OrderedDict()
        # When a connection of an address was last closed for that reason.
        self._offended: OrderedDict[str, float] = OrderedDict()
        self._condemned: set[str] = set()
        self._open: set[End] = set()
        self._calls: set[_Call] = set()
        self._told = self._told_full = -math.inf
        self.on_condemned: Callable[[], object] = lambda: None
        self.on_known: Callable[[], object] = lambda: None
        #: How many are open, and on how many of them a caller was authenticated, when it was last looked.
        self.open = self.open_known = 0
        #: How many were closed, by reason.
        self.closed = {"unread": 0, "resets": 0, "room": 0}

    def begin(self, call: "_Call") -> None:
        """Note a call on its connection, until its `end`."""
        self._calls.add(call)

    def end(self, call: "_Call") -> None:
        """Note that a call has ended."""
        self._calls.discard(call)

    def busy(self) -> set[str]:
        """Return the peers of calls that hold a place in the gate."""
        return {call.peer for call in self._calls if call.admission.is_inside}

    def is_known(self, peer: str) -> bool:
        """Return whether a caller was authenticated on a connection."""
        return peer in self._known

    def known(self, peer: str) -> None:
        """Note that a caller was authenticated on a connection."""
        if peer not in self._known:
            self._known[peer] = end_of(peer)
            self._broken.pop(peer, None)
            if len(self._known) > 2 * self.max_connections:
                self._known.popitem(last=False)
            self.open_known += 1
            self.on_known()

    def broken(self, peer: str) -> None:
        """Note that a call of an unknown caller ended before it was answered."""
        if peer in self._known:
            return
        count = self._broken[peer] = self._broken.get(peer, 0) + 1
        where, now = site(address_of(peer)), self._now()
        again = now - self._offended.get(where, -math.inf) < _OFFENCE_SECONDS
        if count > (MAX_BROKEN_AGAIN if again else MAX_BROKEN):
            self._broken[peer] = -_NEVER_AGAIN  # it is closed once
            self._offended[where] = now
            self._offended.move_to_end(where)
            if len(self._offended) > self.max_connections:
                self._offended.popitem(last=False)
            self._condemned.add(peer)
            self.on_condemned()
        if len(self._broken) > self.max_connections:
            self._broken.popitem(last=False)

    def take_condemned(self) -> set[str]:
        """Return the connections to close for their calls; each is returned once."""
        condemned, self._condemned = self._condemned, set()
        return condemned

    @property
    def crowded(self) -> float:
        """The number of connections above which unknown ones are closed."""
        return self.max_connections * _CROWDED_SHARE

    def count(self, open_ends: Collection[End]) -> None:
        """Count the connections that are open; log from time to time that all are taken."""
        self.open = len(open_ends)
        if self.open >= self.max_connections and self._now() - self._told_full > _LOG_SECONDS:
            self._told_full = self._now()
            _log.warning(
                "all %d gRPC connections are taken (AUTHSVC_CONNECTION_LIMIT); more are closed at once",
                self.max_connections,
            )
        self.open_known = len(set(self._known.values()).intersection(open_ends))

    def superfluous(self, open_ends: Sequence[End]) -> set[End]:
        """Return the other ends of the open connections that are to be closed to make room.

        A new connection has until the next look to authenticate a caller.
        """
        before, self._open = self._open, set(open_ends)
        excess = len(open_ends) - self.crowded
        if excess <= 0:
            return set()
        known = set(self._known.values())
        unknown = [end for end in open_ends if end not in known and end in before]
        return set(unknown[: math.ceil(excess)])

    def closing(self, counts: Mapping[str, int]) -> None:
        """Count connections that are closed, by reason, and log the counts from time to time."""
        for reason, count in counts.items():
            self.closed[reason] += count
        now = self._now()
        if now - self._told > _LOG_SECONDS:
            self._told = now
            _log.warning("client connections closed, by reason: %s", self.closed)


class Unwatched(Connections):
    """The connections of a port that bounds and closes them by itself: nothing is noted of them."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(0, now)

    def known(self, peer: str) -> None:
        """Do nothing."""

    def broken(self, peer: str) -> None:
        """Do nothing."""
