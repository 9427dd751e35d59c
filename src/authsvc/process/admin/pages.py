"""What the admin listener answers: `/healthz`, `/readyz` and `/metrics`."""

from collections.abc import Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from authsvc.net.http_message import Call, Reply
from authsvc.process.admin.answers import FOLLOWER, METRICS, NOTIFIER, READINESS
from authsvc.process.admin.processes import Answer, Processes
from authsvc.telemetry.families import WORKER, Merged
from authsvc.telemetry.metrics_page import MetricsPage

# Shorter than the second that a probe of Kubernetes waits by default, and the ten of a scrape.
_READINESS_SECONDS, _METRICS_SECONDS = 0.5, 2.0
# Scrapes that wait for their page; probes have the other connections.
_MAX_SCRAPES = 16
_PATHS = ("/healthz", "/readyz", "/metrics")
_TEXT = ("content-type", "text/plain; charset=utf-8")
# An idle connection could keep others out.
_CLOSE = ("connection", "close")


class Pages:
    """Answers for the whole replica."""

    def __init__(self, processes: Processes, slots: int) -> None:
        self._processes = processes
        self._workers = [str(slot) for slot in range(slots)]
        # A worker that is alone follows the feed itself.
        self._others = [NOTIFIER, FOLLOWER] if slots > 1 else [NOTIFIER]
        self._metrics_page = MetricsPage()
        self._scrapes = 0

    async def answer(self, call: Call) -> Reply:
        """Answer a request."""
        path = call.target.partition("?")[0]
        if path not in _PATHS:
            reply = _told(404, f"not found; there are {', '.join(_PATHS)}")
        elif call.method not in ("GET", "HEAD"):
            reply = Reply(405, [("allow", "GET, HEAD")])
        elif path == "/healthz":
            reply = _told(200, "the supervisor runs")
        elif path == "/readyz":
            reply = await self._readiness()
        else:
            reply = await self._metrics(call)
        return reply._replace(headers=[*reply.headers, _CLOSE])

    async def _readiness(self) -> Reply:
        answers = await self._processes.ask(READINESS, self._workers, _READINESS_SECONDS)
        reasons = {name: _reason(answer) for name, answer in answers.items()}
        told = "\n".join(
            f"worker {name}: not ready: {reason}" if reason else f"worker {name}: ready"
            for name, reason in reasons.items()
        )
        return _told(503 if all(reasons.values()) else 200, told)

    async def _metrics(self, call: Call) -> Reply:
        if self._scrapes >= _MAX_SCRAPES:
            return Reply(503, [("retry-after", "1")])
        self._scrapes += 1
        try:
            answers = await self._processes.ask(METRICS, [*self._workers, *self._others], _METRICS_SECONDS)
            given = {
                name: answer["families"] for name, answer in answers.items() if not isinstance(answer, str)
            }
            return await self._metrics_page.answer(call, Merged(about(answers), given))
        finally:
            self._scrapes -= 1


def about(answers: Mapping[str, Answer | str]) -> list[Metric]:
    """Return the metrics about the processes. `authsvc_ready` is about those that take calls."""
    up = GaugeMetricFamily("authsvc_up", "Whether the process has answered this scrape.", labels=[WORKER])
    ready = GaugeMetricFamily(
        "authsvc_ready", "Whether the worker holds its lease and is not stopping.", labels=[WORKER]
    )
    for name, answer in answers.items():
        up.add_metric([name], not isinstance(answer, str))
        if name not in (NOTIFIER, FOLLOWER):
            ready.add_metric([name], not _reason(answer))
    return [up, ready]


def _reason(answer: Answer | str) -> str:
    """Return why a worker is not ready; an empty string if it is."""
    return answer if isinstance(answer, str) else str(answer["reason"])


def _told(status: int, text: str) -> Reply:
    return Reply(status, [_TEXT], f"{text}\n")
