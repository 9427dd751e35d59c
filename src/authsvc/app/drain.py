"""Fixed pauses while a worker stops."""

from dataclasses import dataclass

from authsvc.entrance.gate import QUIET_SECONDS
from authsvc.net.asgi_server import IDLE_GRACE_SECONDS
from authsvc.rpc.limits import ANSWERED_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPauses:
    """The fixed pauses of a stop, in seconds, besides the wait for calls in flight.

    A worker without clients at its stop, as in most tests, can have them at 0.
    """

    quiet: float = QUIET_SECONDS  # for calls that have arrived and not begun
    answered: float = ANSWERED_SECONDS  # for answers that gRPC holds
    idle_grace: float = IDLE_GRACE_SECONDS  # for idle connections of the check over HTTP


DRAIN_PAUSES = DrainPauses()
