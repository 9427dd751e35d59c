"""Until when clients may answer by the leave of a worker: a table in memory that outlives each worker (R15).

Mechanism: the supervisor makes the table before it forks. A slot has two rows, for the worker in it and for
its successor in a rolling restart. A worker writes its own row before it grants a sub-lease. When a worker
has ended, the others read its row; the supervisor clears it, and first adds it to what dead workers lent.

Failure: what a dead worker has lent is never forgotten before it is over.
"""

import mmap
import os
import struct
from collections.abc import Callable
from math import inf

# Instants are seconds on the stopwatch; 0 for none.
_DEAD, _ROW = struct.Struct("d"), struct.Struct("qd")


class LentLeases:
    """The table. Made by the supervisor; each process of the replica has it after the fork."""

    def __init__(self, workers: int = 1) -> None:
        """Make a table for the slots of so many workers."""
        self._places = range(2 * workers)
        self._memory = mmap.mmap(-1, _DEAD.size + len(self._places) * _ROW.size)

    def claim(self, slot: int, pid: int) -> Callable[[float], None]:
        """Return the function by which the worker in a slot notes until when its clients may answer.

        Minus infinity says that none may.
        """
        place = 2 * slot + (self._row(2 * slot)[0] not in (0, pid))
        self._write(place, pid, self._row(place)[1])
        latest = -inf

        def note(until: float) -> None:
            nonlocal latest
            latest = until if until == -inf else max(until, latest)
            self._write(place, pid, max(0.0, latest))

        return note

    def clear(self, pid: int) -> None:
        """Let another worker have the row of a process that has ended. Called by one process only."""
        for place in self._places:
            owner, until = self._row(place)
            if owner == pid:
                _DEAD.pack_into(self._memory, 0, max(until, self._of_cleared))
                self._write(place, 0, 0.0)

    def of(self, pid: int) -> float:
        """Return until when clients of a worker that has ended may answer; minus infinity if none can."""
        return max(self._of_cleared, *(until for owner, until in self._rows() if owner == pid), 0.0) or -inf

    def of_dead(self) -> float:
        """Return until when clients of any worker that has ended may answer; minus infinity if none can."""
        dead = (until for pid, until in self._rows() if pid and not _is_alive(pid))
        return max(self._of_cleared, *dead, 0.0) or -inf

    @property
    def _of_cleared(self) -> float:
        until: float = _DEAD.unpack_from(self._memory)[0]
        return until

    def _rows(self) -> list[tuple[int, float]]:
        return [self._row(place) for place in self._places]

    def _row(self, place: int) -> tuple[int, float]:
        pid, until = _ROW.unpack_from(self._memory, _DEAD.size + place * _ROW.size)
        return pid, until

    def _write(self, place: int, pid: int, until: float) -> None:
        _ROW.pack_into(self._memory, _DEAD.size + place * _ROW.size, pid, until)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
