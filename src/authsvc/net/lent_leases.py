"""Until when clients may answer by the leave of a worker: a table in memory that outlives each worker.

Mechanism: the supervisor makes the table before it forks. A slot has two rows, for the worker in it and for
its successor in a rolling restart. A worker writes its own row before it grants a sub-lease. When a worker
has ended, the others read the table.

Failure: a row is never moved back, so what a dead worker has granted stays known to its successors.
"""

import mmap
import struct
from collections.abc import Callable
from math import inf

# The process, and an instant in seconds on the stopwatch.
_ROW = struct.Struct("qd")


class LentLeases:
    """The table. Made by the supervisor; each process of the replica has it after the fork."""

    def __init__(self, workers: int = 1) -> None:
        """Make a table for the slots of so many workers."""
        self._places = range(2 * workers)
        self._memory = mmap.mmap(-1, len(self._places) * _ROW.size)

    def claim(self, slot: int, pid: int) -> Callable[[float], None]:
        """Return the function by which a worker in a slot notes until when its clients may answer."""
        place = 2 * slot + (self._row(2 * slot)[0] not in (0, pid))
        self._write(place, pid, self._row(place)[1])

        def note(until: float) -> None:
            self._write(place, pid, max(until, self._row(place)[1]))

        return note

    def clear(self, pid: int) -> None:
        """Let another worker have the row of a process that has ended. The instant in it stays."""
        for place in self._places:
            owner, until = self._row(place)
            if owner == pid:
                self._write(place, 0, until)

    @property
    def latest(self) -> float:
        """When the last sub-lease of all is certainly over; minus infinity if none was granted."""
        return max(until for _, until in map(self._row, self._places)) or -inf

    def _row(self, place: int) -> tuple[int, float]:
        pid, until = _ROW.unpack_from(self._memory, place * _ROW.size)
        return pid, until

    def _write(self, place: int, pid: int, until: float) -> None:
        _ROW.pack_into(self._memory, place * _ROW.size, pid, until)
