"""How long a worker that stops waits for what it cannot observe."""

from dataclasses import dataclass

from authsvc.http_server import LINGER_SECONDS
from authsvc.rpc.gate import QUIET_SECONDS
from authsvc.rpc.server import ANSWERED_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPauses:
    """The fixed pauses of a stop, in seconds, besides the wait for calls in flight.

    Whoever has no clients left when the worker stops, as most tests, can set them to 0.
    """

    quiet: float = QUIET_SECONDS  # for calls that have arrived and not begun
    answered: float = ANSWERED_SECONDS  # for answers that gRPC holds
    linger: float = LINGER_SECONDS  # for idle connections of the HTTP check


DRAIN_PAUSES = DrainPauses()
