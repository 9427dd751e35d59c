"""The page of metrics of one worker, over HTTP, in a thread with an event loop of its own.

Each worker has a port of its own, so that a scrape reads one process: the counts of several would jump from
one scrape to the next. The port is shared while a worker drains and its successor already serves.

Bound: one thread, `MAX_CONNECTIONS` connections, each as `http_server` bounds it, and one request per
connection. Pages are made one after the other and take at most a tenth of the time, so that a client that
asks for very many of them does not slow down the worker.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry, make_wsgi_app

from authsvc.config.settings import ConfigError
from authsvc.net.http_server import Call, HttpServer, Reply
from authsvc.net.listen_address import ListenAddress

_log = logging.getLogger(__name__)

# Each scraper has one.
MAX_CONNECTIONS = 64
# Connections that wait to be accepted.
_BACKLOG = 16
# How long to wait before the next page is made, as a multiple of the time that making the last one took.
_PAUSE_FACTOR = 9.0
# For answers in progress, at a stop.
_GRACE_SECONDS = 0.5


class Pages:
    """Answers with the metrics of a registry, one page at a time."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic) -> None:
        self._page: WSGIApplication = make_wsgi_app(registry)
        self._now = now
        self._turn = asyncio.Lock()
        self._next = 0.0

    async def answer(self, call: Call) -> Reply:
        """Return the page in the requested format."""
        async with self._turn:
            if (wait := self._next - self._now()) > 0:
                await asyncio.sleep(wait)
            begun = self._now()
            reply = self._render(call)
            done = self._now()
            self._next = done + _PAUSE_FACTOR * (done - begun)
        return reply

    def _render(self, call: Call) -> Reply:
        path, _, query = call.target.partition("?")
        environ = {
            "REQUEST_METHOD": call.method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_ACCEPT": ",".join(call.all("accept")),
        }
        told: list[Any] = []
        body = b"".join(self._page(environ, lambda *begin: told.extend(begin)))  # type: ignore[arg-type]
        status, headers = told
        return Reply(int(status[:3]), [*headers, ("connection", "close")], body.decode())


def serve_metrics(listen: ListenAddress, slot: int, registry: CollectorRegistry) -> Callable[[], None]:
    """Serve the metrics of the worker in this slot, and return a function that stops.

    Raises ConfigError when the address is not available.
    """
    address = listen.in_slot(slot)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run, args=(loop,), name="metrics", daemon=True)
    thread.start()
    server = HttpServer(Pages(registry).answer, max_connections=MAX_CONNECTIONS, backlog=_BACKLOG)

    def end() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    try:
        port = asyncio.run_coroutine_threadsafe(server.start(address), loop).result()
    except OSError as error:
        end()
        raise ConfigError(f"AUTHSVC_METRICS_LISTEN: cannot listen at {address}: {error.strerror}") from error
    _log.info("metrics at %s", address.with_port(port))

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(server.stop(_GRACE_SECONDS), loop).result()
        end()

    return stop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
