"""The metrics of the entrance of a worker, and of its gRPC port."""

from authsvc.net.open_files import in_use
from authsvc.rpc.served import Served
from authsvc.telemetry import Metrics


def watch_entrance(metrics: Metrics, served: Served) -> None:
    """Have the metrics of a worker look at its entrance and its port."""
    entrance, bounds = served.entrance, served.bounds
    metrics.watch_gauge(
        "calls_in_flight",
        "Calls that are not answered yet. Verifications that memory answers at once are never among them.",
        lambda: entrance.gate.in_flight,
        label="kind",
    )
    metrics.watch_gauge(
        "calls_in_flight_limit",
        "How many of them there may be: AUTHSVC_IN_FLIGHT_LIMIT.",
        lambda: entrance.gate.max_in_flight,
    )
    metrics.watch_counter(
        "limited",
        "Calls refused or delayed because of a limit.",
        lambda: {
            **entrance.limits.refused,
            "in_flight": entrance.gate.refused,
            "unread": bounds.answers.refused,
            **served.refused,
            "stranger": entrance.strangers.delayed + entrance.probes.delayed,
        },
        label="limit",
    )
    metrics.watch_counter(
        "connections_closed",
        "Connections of clients that were closed, by reason.",
        lambda: bounds.connections.closed,
        label="reason",
    )
    metrics.watch_gauge(
        "connection_limit",
        "Connections of clients that this worker accepts.",
        lambda: bounds.connections.max_connections,
    )
    metrics.watch_gauge(
        "connections", "Open connections of clients over gRPC.", lambda: bounds.connections.open
    )
    metrics.watch_gauge("open_files", "Files and connections that this worker has open.", in_use)
    metrics.watch_gauge(
        "unsent_bytes", "Bytes of answers that clients have not read.", lambda: bounds.answers.unsent
    )
