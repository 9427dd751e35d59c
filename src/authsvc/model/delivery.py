"""Whether a new key string reached its caller, as far as the service knows.

    PENDING ──sent──▶ no delivery is stored
       └──the call ended before──▶ LOST

The service cannot tell an answer that was lost in the network from one that arrived.
"""

from datetime import timedelta
from enum import Enum

# A call that creates a key is over after ANSWERED_WITHIN, even if its worker died. One that waits for other
# workers stops waiting earlier, after GIVEN_UP_AFTER, so that the answer can still be sent.
GIVEN_UP_AFTER = timedelta(seconds=45)
ANSWERED_WITHIN = timedelta(seconds=60)
# How long after the creation its creator may replace a key that was never delivered.
REPLACED_WITHIN = timedelta(minutes=10)


class Delivery(Enum):
    """The state of an answer with a key string that is not known to have been sent."""

    PENDING = "pending"
    LOST = "lost"
