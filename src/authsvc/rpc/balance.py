"""Spreads connections evenly over the workers that share a port.

A connection stays with its worker until it ends, so where it begins decides who answers its calls. The kernel
picks a worker by a hash, and of a few connections often most have the same one.

Mechanism: workers that have more than their share of the connections get no new ones (`net.reuseport`), until
the others have caught up; connections end by their age, so this corrects what is uneven already. Connections
on which a caller was authenticated count. A worker tells how many it has, and learns the number of its socket
from the first new connection in an epoch: while a number belongs to no worker it is not excluded, so only the
worker that has it gets the connections that lead there.

Bound: of connections that are opened at the same moment nobody knows yet which worker gets them. So in a
burst no worker is excluded, and it is spread at random. A worker that has not written its row for three
seconds may hang: then it alone is excluded.

Failure: where the system has none of this, or a host name stands for several addresses, the kernel decides.
"""

import logging
import os
import socket
from collections.abc import Callable, Collection, Sequence, Set
from typing import Any

from authsvc.net import reuseport
from authsvc.net.worker_loads import UNKNOWN, Arrivals, Row, WorkerLoads
from authsvc.rpc.peer import End

_log = logging.getLogger(__name__)

# A worker writes its row every half second.
_STALE_SECONDS = 3.0
# More connections than this in so many seconds, or this share of all, are a burst, which lasts for so long.
_BURST, _BURST_SHARE, _WINDOW_SECONDS, _BURST_SECONDS = 4, 1 / 16, 0.1, 0.5


def over_share(rows: Sequence[Row], epoch: int, now: float) -> frozenset[int]:
    """Return the numbers of the sockets of those workers that have more than their share of the connections.

    While some workers may hang, but not all, it is those. Workers whose numbers are not known yet are left
    out.
    """
    share = sum(row.connections for row in rows) // max(1, len(rows))
    passed = hung(rows, now) or [row for row in rows if row.connections > share]
    if len(passed) == len(rows):
        return frozenset()
    return frozenset(row.socket for row in passed if row.epoch == epoch and row.socket != UNKNOWN)


def hung(rows: Sequence[Row], now: float) -> list[Row]:
    """Return the workers that may hang."""
    return [row for row in rows if now - row.time > _STALE_SECONDS]


def arrived(arrivals: Arrivals, most: float, now: float) -> Arrivals:
    """Return the arrivals with one more connection; more than `most` in a moment are a burst."""
    since, count, burst_until = arrivals
    since, count = (now, 1) if now - since > _WINDOW_SECONDS else (since, count + 1)
    return Arrivals(since, count, now + _BURST_SECONDS if count > most else burst_until)


class Balance:
    """The part of one worker in it."""

    def __init__(
        self, loads: WorkerLoads | None, slot: int, now: Callable[[], float], pid: int | None = None
    ) -> None:
        """Take the table of the workers, or None if there are no others; our slot, and a monotonic clock."""
        self._loads = loads if reuseport.SUPPORTED else None
        self._now = now
        self._place = 0 if self._loads is None else self._loads.claim(slot, pid or os.getpid())
        self._listener: Callable[[], socket.socket] | None = None
        self._seen: Set[End] = frozenset()
        self._seen_time = now()
        self._has_failed = False
        self._told: set[int] = set()

    def begin(self, listener: Callable[[], socket.socket] | None) -> None:
        """Begin to get connections.

        `listener` returns a copy of our listening socket, which is closed again; it is None if there are
        several, or none that we know of.
        """
        if self._loads is not None and listener is None:
            self._give_up("there is not exactly one listening socket")
        self._listener = listener
        self._write(listens=listener is not None)
        self._begin_epoch()

    def leave(self) -> None:
        """Get no more connections. Called when our socket no longer listens."""
        self._listener = None
        self._write(listens=False)

    def note_new(self, connections: int) -> None:
        """Note how many connections we have, as soon as there is one more."""
        self._write(connections=connections)
        if self._loads is not None:
            most = max(_BURST, _BURST_SHARE * sum(row.connections for row in self._loads.listening()))
            self._loads.arrivals = arrived(self._loads.arrivals, most, self._now())
            self._steer(fewer=True)

    def look(self, ends: Collection[End], connections: int) -> None:
        """Note which connections are open, and on how many of them a caller was authenticated."""
        seen = set(ends)
        self._write(connections=connections)
        self._begin_epoch()
        self._learn(seen - self._seen)
        self._seen, self._seen_time = seen, self._now()
        self._steer()
        self._tell_hung()

    def _tell_hung(self) -> None:
        """Log which workers hang, once, if we are the first of those that do not."""
        if self._loads is None:
            return
        rows = self._loads.listening()
        late = {row.pid for row in hung(rows, self._now())}
        others = [row.pid for row in rows if row.pid not in late]
        if others[:1] == [self._loads.row(self._place).pid]:
            for pid in late - self._told:
                _log.warning("worker process %d hangs; new connections go to the others", pid)
        self._told = late

    def _write(self, **changes: Any) -> None:
        if self._loads is not None:
            row = self._loads.row(self._place)
            self._loads.write(self._place, row._replace(time=self._now(), **changes))

    def _begin_epoch(self) -> None:
        """Begin another epoch if other workers listen than when the last one began."""
        if self._loads is None or self._listener is None or self._members() == self._loads.epoch.members:
            return
        with self._loads.locked() as locked:
            epoch, members = self._loads.epoch, self._members()
            if locked and members != epoch.members and self._attach(self._loads, frozenset()):
                number = epoch.number + 1
                self._loads.epoch = epoch._replace(number=number, time=self._now(), members=members)

    def _learn(self, new: Set[End]) -> None:
        """Learn the number of our socket, from connections that began in this epoch."""
        if self._loads is None:
            return
        epoch, row, rows = self._loads.epoch, self._loads.row(self._place), self._loads.listening()
        if row.epoch == epoch.number or self._seen_time <= epoch.time or not rows:
            return
        known = {each.socket for each in rows if each.epoch == epoch.number}
        found = {reuseport.natural(port, len(rows), epoch.secret) for _, port in new} - known
        if len(found) == 1:
            self._write(epoch=epoch.number, socket=found.pop())

    def _steer(self, *, fewer: bool = False) -> None:
        """Lead new connections past the workers that have more than their share; or only exclude fewer."""
        if self._loads is None or self._listener is None:
            return
        with self._loads.locked() as locked:
            now, rows, excluded = self._now(), self._loads.listening(), frozenset[int]()
            if now >= self._loads.arrivals.burst_until or hung(rows, now):
                excluded = over_share(rows, self._loads.epoch.number, now)
            if fewer:
                excluded &= self._loads.excluded
            if locked and excluded != self._loads.excluded:
                self._attach(self._loads, excluded)

    def _members(self) -> int:
        return 0 if self._loads is None else hash(tuple(row.pid for row in self._loads.listening()))

    def _attach(self, loads: WorkerLoads, excluded: frozenset[int]) -> bool:
        """Give the kernel the program; return whether it has taken it."""
        if self._listener is None:
            return False
        try:
            with self._listener() as listener:
                reuseport.steer(listener, len(loads.listening()), loads.epoch.secret, excluded)
        except OSError as error:
            # Our socket stays among those of the others, so the row does, too. It is tried again.
            if not self._has_failed:
                _log.info("the kernel spreads connections over the workers by a hash: %s", error)
            self._has_failed = True
            return False
        self._has_failed = False
        loads.excluded = excluded
        return True

    def _give_up(self, why: str) -> None:
        _log.info("the kernel spreads connections over the workers by a hash: %s", why)
        self._write(listens=False)
        self._loads = None
