"""What a client holds, for the metrics of its application."""

from typing import NamedTuple


class HoldState(NamedTuple):
    """How verifications were answered since the client was created, and what is held now."""

    #: Verdicts from memory.
    recalled: int = 0
    #: Credentials that authsvc has sent to be held.
    received: int = 0
    #: Verifications that were asked by an RPC.
    asked: int = 0
    #: The number of credentials that are held.
    size: int = 0
    #: What is left of the sub-lease; 0 while nothing may be answered from memory.
    lease_seconds: float = 0.0
