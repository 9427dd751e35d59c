"""The side of a worker, the notifier or the follower: answers whether it is ready, and with metrics.

Mechanism: the process connects when it serves, and says its name and since when it does. The name of a worker
is the number of its slot. A question is a line; an answer is a line of JSON. The event loop answers, so a
process whose loop hangs does not.

Bound: after its metrics it waits nine times as long as they took before it gives them again, so they take at
most a tenth of the event loop. Whether it is ready is answered meanwhile.

Failure: when the connection ends it connects again, a tenth of a second later.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry

from authsvc.net.private_listener import PrivateListener
from authsvc.telemetry.families import described
from authsvc.telemetry.metrics_page import PAUSE_FACTOR

_log = logging.getLogger(__name__)

#: The questions: why it is not ready, and the same with its metrics.
READINESS, METRICS = "readiness", "metrics"
#: The names of the notifier and of the follower.
NOTIFIER, FOLLOWER = "notifier", "follower"
_RECONNECT_SECONDS = 0.1


class Answers:
    """Answers the questions of the admin listener about one process."""

    def __init__(self, name: str, reason: Callable[[], str], registry: CollectorRegistry) -> None:
        """Take the name of the process, why it is not ready (empty if it is), and its metrics."""
        self._hello = {"name": name, "since": time.monotonic()}
        self._reason = reason
        self._registry = registry
        self._next = 0.0  # when it may give its metrics again

    async def run(self, listener: PrivateListener) -> None:
        """Answer for ever."""
        while True:
            try:
                await self._answer(listener)
            except OSError as error:
                _log.debug("no connection to the admin listener: %s", error)
            except Exception:  # noqa: BLE001 - a fault must not end the answers
                _log.exception("unexpected error in an answer to the admin listener")
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _answer(self, listener: PrivateListener) -> None:
        """Answer on one connection until it ends."""
        reader, writer = await asyncio.open_unix_connection(sock=listener.connect())
        giving: asyncio.Future[None] | None = None
        try:
            await _send(writer, json.dumps(self._hello))
            while line := await reader.readline():
                if line.decode().strip() == METRICS:
                    # The last one is done: a question is not repeated before it is answered.
                    giving = asyncio.ensure_future(self._give_metrics(writer))
                else:
                    await _send(writer, json.dumps({"question": READINESS, "reason": self._reason()}))
        finally:
            if giving is not None:
                giving.cancel()
            writer.close()

    async def _give_metrics(self, writer: asyncio.StreamWriter) -> None:
        if (wait := self._next - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        told = {"question": METRICS, "reason": self._reason()}
        families, taken = described(self._registry), 0.0
        texts = []
        try:
            while True:
                begun = time.thread_time()
                family = next(families, None)
                texts.append(json.dumps(family))
                taken += time.thread_time() - begun
                if family is None:
                    break
                # All of them take milliseconds, for which no call is to wait.
                await asyncio.sleep(0)
        except Exception:  # noqa: BLE001 - the admin listener is to know that no answer comes
            _log.exception("unexpected error in the metrics")
            writer.close()
            return
        with suppress(OSError):
            await _send(writer, f'{json.dumps(told)[:-1]}, "families": [{", ".join(texts[:-1])}]}}')
        self._next = time.monotonic() + PAUSE_FACTOR * taken


async def _send(writer: asyncio.StreamWriter, line: str) -> None:
    writer.write(f"{line}\n".encode())
    await writer.drain()
