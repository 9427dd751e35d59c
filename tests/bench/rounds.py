"""Measures several sides in turns, so that noise affects all of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median

Side = Callable[[], Awaitable[float]]


async def in_turns(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Run A B C, A B C, … and return the measurements of each side, by round."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            measured[name].append(await side())
    return measured


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios within each round."""
    return median(a / b for a, b in zip(above, below, strict=True))
