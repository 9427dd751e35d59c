"""The page of metrics of one worker, over HTTP, in a thread.

Each worker has a port of its own, so that a scrape is of one process: the counts of several would jump from
one scrape to the next. The port is shared for as long as a worker drains while its successor serves.
"""

import logging
import socket
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from authsvc.config import ConfigError
from authsvc.port import in_slot

_log = logging.getLogger(__name__)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_port = True

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self.address_family = family
        super().__init__(address[:2], _Handler)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: a line for each scrape would drown the log."""


def serve_metrics(listen: str, slot: int, registry: CollectorRegistry) -> Callable[[], None]:
    """Serve the metrics of the worker in this slot; return what ends it. Raises ConfigError."""
    address = in_slot(listen, slot)
    host, _, port = address.rpartition(":")
    try:
        family, *_, resolved = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        server = _Server(family, resolved)
    except OSError as error:
        raise ConfigError(f"AUTHSVC_METRICS_LISTEN: cannot listen at {address}: {error.strerror}") from error
    server.set_app(make_wsgi_app(registry))
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    _log.info("metrics at %s:%d", host, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
