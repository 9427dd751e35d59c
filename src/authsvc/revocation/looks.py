"""When a change looks at the acknowledgements of the workers.

Mechanism: the first look is made when workers have usually acknowledged, and further ones at growing
intervals. What is usual is learned: it grows by changes that needed several looks, and shrinks by those that
needed one. A look that comes too early costs the service and the database a statement.

Bound: the first look is at most 20 ms late.
"""

from collections.abc import Iterator

# Pauses between two looks: the shortest, the growth factor, the longest.
_MIN_PAUSE_SECONDS, _PAUSE_GROWTH, _MAX_PAUSE_SECONDS = 0.0008, 1.25, 1.0
_MAX_FIRST_PAUSE_SECONDS = 0.02
# The weight of the last change in what is usual.
_WEIGHT = 0.1


class Looks:
    """The pauses before looks, by what was usual for the last changes."""

    def __init__(self) -> None:
        self._usual = 0.0

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to pause before each look of one change, without end."""
        yield max(_MIN_PAUSE_SECONDS, self._usual)
        pause = _MIN_PAUSE_SECONDS
        while True:
            yield pause
            pause = min(_PAUSE_GROWTH * pause, _MAX_PAUSE_SECONDS)

    def learn(self, looks: int, seconds: float) -> None:
        """Note that all workers had acknowledged a change at this look, so many seconds after its hint."""
        usual = 0.0 if looks == 1 else min(seconds, _MAX_FIRST_PAUSE_SECONDS)
        self._usual += _WEIGHT * (usual - self._usual)
