"""What every call passes on its way in."""

from collections.abc import Callable
from dataclasses import dataclass

from authsvc.entrance.authentication import Authentication
from authsvc.entrance.gate import Gate
from authsvc.entrance.limits import Limits
from authsvc.entrance.operation import Operation
from authsvc.entrance.strangers import Strangers
from authsvc.model.caller import Caller
from authsvc.model.errors import AuthsvcError
from authsvc.telemetry import Metrics
from authsvc.telemetry.observer import Observer


@dataclass(frozen=True, slots=True)
class Entrance:
    """The parts that every call passes, and the hook that records refusals."""

    gate: Gate
    authentication: Authentication
    limits: Limits
    # Delays failed authentications, and over gRPC also health and reflection.
    strangers: Strangers
    # Delays health and everything else but the check over HTTP. Apart from the others: a proxy with a wrong
    # key must not delay the health probes of its machine.
    probes: Strangers
    # Records that a known caller was refused an operation.
    note_refusal: Callable[[Caller, str, AuthsvcError], object]
    metrics: Metrics
    # Observes calls, for the access log and for traces; None where both are off.
    observer: Observer | None = None

    def operation(self, name: str, scopes: tuple[str, ...]) -> Operation:
        """Return an operation that is counted in the metrics of this entrance."""
        return Operation(name, scopes, self.metrics)
