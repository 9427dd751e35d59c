"""The metrics of the ports of a worker for HTTP."""

from authsvc.net.asgi_server import AsgiServer
from authsvc.telemetry import Metrics


def watch_http(metrics: Metrics, server: AsgiServer) -> None:
    """Have the metrics of a worker look at its port for checks over HTTP."""
    _watch_port(metrics, server, "http", "HTTP connections")


def watch_web(metrics: Metrics, server: AsgiServer) -> None:
    """Have the metrics of a worker look at its port for the RPCs over HTTP."""
    _watch_port(metrics, server, "web", "connections to AUTHSVC_WEB_LISTEN")


def _watch_port(metrics: Metrics, server: AsgiServer, name: str, what: str) -> None:
    metrics.watch_counter(
        f"{name}_connections_closed",
        f"{what[0].upper()}{what[1:]} that were closed for lack of room, by reason.",
        lambda: server.closed,
        label="reason",
    )
    metrics.watch_gauge(f"{name}_connections", f"Open {what}.", lambda: len(server.connections))
    metrics.watch_gauge(
        f"{name}_connection_limit",
        f"{what[0].upper()}{what[1:]} that this worker accepts.",
        lambda: server.max_connections,
    )
