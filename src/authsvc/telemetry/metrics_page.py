"""The page of metrics, in the format of Prometheus or in OpenMetrics, whichever is requested.

Bound: pages are made one after the other and take at most a tenth of the time of their process, so that a
client that asks for very many of them does not use up a core.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.registry import Collector

from authsvc.net.http_message import Call, Reply

# How long to wait before the next page is made, as a multiple of the time that making the last one took.
PAUSE_FACTOR = 9.0


class MetricsPage:
    """Makes pages, one at a time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._turn = asyncio.Lock()
        self._next = 0.0

    async def answer(self, call: Call, families: Collector) -> Reply:
        """Return the page of some families in the requested format."""
        async with self._turn:
            if (wait := self._next - self._now()) > 0:
                await asyncio.sleep(wait)
            begun = self._now()
            reply = _render(call, families)
            done = self._now()
            self._next = done + PAUSE_FACTOR * (done - begun)
        return reply


def _render(call: Call, families: Collector) -> Reply:
    registry = CollectorRegistry()
    registry.register(families)
    path, _, query = call.target.partition("?")
    environ = {
        "REQUEST_METHOD": call.method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_ACCEPT": ",".join(call.all("accept")),
    }
    told: list[Any] = []
    body = b"".join(make_wsgi_app(registry)(environ, lambda *begin: told.extend(begin)))
    status, headers = told
    return Reply(int(status[:3]), headers, body.decode())
