"""How fast messages are sent, so that sending leaves the cores to verifications and changes."""

import asyncio
import time

#: Mails and calls of webhooks together. Each costs the core about a millisecond.
MESSAGES_PER_SECOND = 100


class Pace:
    """Gives one message after the other its turn, a few milliseconds apart. A pause is not caught up."""

    def __init__(self) -> None:
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the turn of a message."""
        now = time.monotonic()
        turn = max(self._next, now)
        self._next = turn + 1 / MESSAGES_PER_SECOND
        if turn > now:
            await asyncio.sleep(turn - now)
