"""Whether a new key string reached its caller, as far as the service knows.

    PENDING ──sent──▶ nothing is noted
       └──the call ended before──▶ LOST

An answer that was sent and then lost on its way looks like one that arrived.
"""

from datetime import timedelta
from enum import Enum

# After this a call that made a key is over, whatever became of its worker. One that waits for other workers
# is given up a while before, so that the answer can still be sent.
GIVEN_UP_AFTER = timedelta(seconds=45)
ANSWERED_WITHIN = timedelta(seconds=60)
# How long its creator may have a key replaced that was never delivered, from the creation on.
REPLACED_WITHIN = timedelta(minutes=10)


class Delivery(Enum):
    """What is noted of the answer with a key string that is not known to have been sent."""

    PENDING = "pending"
    LOST = "lost"
