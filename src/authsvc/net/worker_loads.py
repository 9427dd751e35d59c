"""What the workers of a supervisor know of one another: a table in memory that they share.

Mechanism: the supervisor makes the table before it forks. A slot has two rows, for the worker in it and for
its successor in a rolling restart. A worker writes its own row at any time, and the supervisor clears it when
the worker has ended. What concerns all of them, the numbers of their listening sockets, holds for an epoch; a
new one begins, under a lock, when a worker has begun or ceased to listen.

Bound: writes are not atomic, so what is read can be wrong for a moment.

Failure: a lock that another process holds for long is not waited for; the system releases it when that
process ends.
"""

import fcntl
import mmap
import os
import secrets
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from authsvc.net.reuseport import MAX_SECRET

# How long to try to get the lock. Others hold it for less than a millisecond.
_LOCK_SECONDS = 0.005

UNKNOWN = -1


class Row(NamedTuple):
    """A worker: its process, when it wrote this, whether it listens, and how many connections it has.

    `socket` is the number of its listening socket in an epoch, or UNKNOWN. Times are in monotonic seconds.
    """

    pid: int = 0
    time: float = 0.0
    listens: bool = False
    connections: int = 0
    epoch: int = 0
    socket: int = UNKNOWN


class Epoch(NamedTuple):
    """Since when which workers listen.

    `members` is a hash of them, and `secret` the one for `reuseport.steer`.
    """

    number: int = 0
    time: float = 0.0
    members: int = 0
    secret: int = 0


class Arrivals(NamedTuple):
    """How many connections have arrived since a time, and until when they count as a burst."""

    since: float = 0.0
    number: int = 0
    burst_until: float = 0.0


_ROW, _EPOCH, _ARRIVALS = struct.Struct("qd?qqq"), struct.Struct("qdqq"), struct.Struct("dqd")
_ROWS_BEGIN = _EPOCH.size + _ARRIVALS.size


class WorkerLoads:
    """The table. Made by the supervisor; each worker has it after the fork."""

    def __init__(self, workers: int) -> None:
        """Make a table for the slots of so many workers; raise OSError."""
        self._places = range(2 * workers)
        self._excluded_begin = self._offset(len(self._places))
        size = self._excluded_begin + len(self._places)
        self._file = os.memfd_create("authsvc-worker-loads")
        os.truncate(self._file, size)
        self._memory = mmap.mmap(self._file, size)
        self.epoch = Epoch(secret=secrets.randbelow(MAX_SECRET))

    def claim(self, slot: int, pid: int) -> int:
        """Return the place of a row of this slot that no other worker has, for a process."""
        place = 2 * slot + (self.row(2 * slot).pid not in (0, pid))
        self.write(place, Row(pid))
        return place

    def clear(self, pid: int) -> None:
        """Clear the row of a process that has ended."""
        for place in self._places:
            if self.row(place).pid == pid:
                self.write(place, Row())

    def row(self, place: int) -> Row:
        """Return a row."""
        return Row(*_ROW.unpack_from(self._memory, self._offset(place)))

    def write(self, place: int, row: Row) -> None:
        """Write a row."""
        _ROW.pack_into(self._memory, self._offset(place), *row)

    def listening(self) -> list[Row]:
        """Return the rows of the workers that listen."""
        return [row for row in map(self.row, self._places) if row.listens]

    @property
    def epoch(self) -> Epoch:
        """The current epoch."""
        return Epoch(*_EPOCH.unpack_from(self._memory, 0))

    @epoch.setter
    def epoch(self, epoch: Epoch) -> None:
        _EPOCH.pack_into(self._memory, 0, *epoch)

    @property
    def arrivals(self) -> Arrivals:
        """The latest connections."""
        return Arrivals(*_ARRIVALS.unpack_from(self._memory, _EPOCH.size))

    @arrivals.setter
    def arrivals(self, arrivals: Arrivals) -> None:
        _ARRIVALS.pack_into(self._memory, _EPOCH.size, *arrivals)

    @property
    def excluded(self) -> frozenset[int]:
        """The numbers of the sockets that get no new connections."""
        flags = self._memory[self._excluded_begin :]
        return frozenset(number for number, flag in enumerate(flags) if flag)

    @excluded.setter
    def excluded(self, numbers: frozenset[int]) -> None:
        self._memory[self._excluded_begin :] = bytes(number in numbers for number in self._places)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock while the block runs; yield False if another process holds it."""
        held = self._lock()
        try:
            yield held
        finally:
            if held:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            if time.monotonic() > deadline:
                return False
            os.sched_yield()

    def _offset(self, place: int) -> int:
        return _ROWS_BEGIN + place * _ROW.size


def worker_loads(workers: int) -> WorkerLoads | None:
    """Return a table for so many workers; None for one worker, or where the system has no such memory."""
    if workers > 1 and hasattr(os, "memfd_create"):
        with suppress(OSError):
            return WorkerLoads(workers)
    return None
