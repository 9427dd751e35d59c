"""Until when clients may answer by the leave of a worker: a table in memory that outlives each worker (R15).

Mechanism: the supervisor makes the table before it forks. A slot has two rows, for the worker in it and for
its successor in a rolling restart. A worker writes its own row before it grants a sub-lease. When a worker
has ended, the others read its row; the supervisor clears it, and first adds it to what dead workers lent.

Failure: what a dead worker has lent is never forgotten before it is over.
"""

import mmap
from collections.abc import Callable, Iterable
from math import inf

from authsvc.net.process_ids import is_alive

_BYTES = 8


class LentLeases:
    """The table. Made by the supervisor; each process of the replica has it after the fork.

    Instants are seconds on the stopwatch; 0 for none. Each is written at once, by one copy of eight bytes, so
    that a worker that is killed while it writes leaves the old one or the new one.
    """

    def __init__(self, workers: int = 1) -> None:
        """Make a table for the slots of so many workers."""
        self._places = range(2 * workers)
        count = len(self._places)
        memory = memoryview(mmap.mmap(-1, (2 * count + 1) * _BYTES))
        # The process and the instant of each row, and the last instant of the rows that were cleared.
        self._pids = memory[: count * _BYTES].cast("q")
        self._instants = memory[count * _BYTES :].cast("d")
        self._cleared = count

    def claim(self, slot: int, pid: int) -> Callable[[float], None]:
        """Return the function by which the worker in a slot notes until when its clients may answer.

        Minus infinity says that none may.
        """
        place = 2 * slot + (self._pids[2 * slot] not in (0, pid))
        # Of a worker that has ended and whose row was not cleared yet, if there is one.
        inherited = self._instants[place]
        self._pids[place] = pid
        latest = -inf

        def note(until: float) -> None:
            nonlocal latest
            latest = until if until == -inf else max(until, latest)
            self._instants[place] = max(inherited, latest)

        return note

    def clear(self, pid: int) -> None:
        """Let another worker have the row of a process that has ended. Called by one process only."""
        for place in self._places:
            if self._pids[place] == pid:
                self._instants[self._cleared] = max(self._instants[place], self._instants[self._cleared])
                self._instants[place] = 0.0
                self._pids[place] = 0

    def of(self, pid: int) -> float:
        """Return until when clients of a worker that has ended may answer; minus infinity if none can."""
        return self._latest(place for place in self._places if self._pids[place] == pid)

    def of_dead(self) -> float:
        """Return until when clients of any worker that has ended may answer; minus infinity if none can."""
        return self._latest(
            place for place in self._places if self._pids[place] and not is_alive(self._pids[place])
        )

    def _latest(self, places: Iterable[int]) -> float:
        # The rows first: one that is cleared meanwhile is in the other instant then.
        instants = [self._instants[place] for place in places]
        return max(0.0, *instants, self._instants[self._cleared]) or -inf
