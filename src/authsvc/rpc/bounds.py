"""Limits on what the gRPC port buffers for clients."""

from dataclasses import dataclass

from authsvc.rpc.answers import Answers
from authsvc.rpc.arrivals import Arrivals
from authsvc.rpc.balance import Balance
from authsvc.rpc.connections import Connections
from authsvc.verify.clock import Stopwatch


@dataclass(frozen=True, slots=True)
class Bounds:
    """Messages on their way in, answers that are not sent, connections, and our share of them."""

    arrivals: Arrivals
    answers: Answers
    connections: Connections
    balance: Balance
    # By which these and the deadlines of callers are measured.
    stopwatch: Stopwatch
