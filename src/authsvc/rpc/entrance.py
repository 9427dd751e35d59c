"""What every RPC passes on its way in, and gRPC's context of a call."""

from dataclasses import dataclass

import grpc

from authsvc.clock import Stopwatch
from authsvc.refusals import Refusals
from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.authentication import Authentication
from authsvc.rpc.connections import Connections
from authsvc.rpc.gate import Gate
from authsvc.rpc.limits import Limits
from authsvc.rpc.strangers import Strangers
from authsvc.telemetry import Metrics

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Entrance:
    """What every RPC passes, in this order; who is refused is noted, and all are counted."""

    gate: Gate
    authentication: Authentication
    limits: Limits
    refusals: Refusals
    metrics: Metrics
    strangers: Strangers
    arrivals: Arrivals
    answers: Answers
    connections: Connections
    # Tells until when a caller waits.
    stopwatch: Stopwatch
