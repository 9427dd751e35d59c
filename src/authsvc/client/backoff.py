"""How long to wait before another attempt."""

import random
from collections.abc import Callable

# The longest wait before the second attempt, and before any later one.
_FIRST_WAIT_SECONDS, _MAX_WAIT_SECONDS = 0.05, 1.0


def wait(attempt: int, spread: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after attempt 1, 2, …: exponential backoff with jitter."""
    return min(_MAX_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(attempt - 1, 16)) * (0.5 + 0.5 * spread())
