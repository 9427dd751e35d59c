"""Requests that are no RPCs, such as those of pages: the log names them, and they are observed.

The calls of RPCs that they make are named like them, and are inside of them in a trace.
"""

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.entrance.code import INTERNAL
from authsvc.entrance.incoming_call import loggable
from authsvc.telemetry.current_call import REQUEST_ID, CurrentCall, answering
from authsvc.telemetry.observer import HEADERS, Chosen, Observer

# Asked by machines, again and again.
_PROBES = frozenset({"/healthz", "/readyz"})


class NamedCalls:
    """Passes requests to an application, each in a call of its own."""

    def __init__(self, application: ASGIApp, places: Collection[str], observer: Observer | None) -> None:
        """Take the application, and the first parts of the paths that it serves."""
        self._application, self._places = application, frozenset(places)
        self._observer = None if observer is None else observer.over("http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope.get("headers", ())
            if name.decode("latin-1") in (REQUEST_ID, *HEADERS)
        ]
        call = CurrentCall(loggable(dict(headers).get(REQUEST_ID, "")))
        if self._observer is None or scope["type"] != "http" or scope["path"] in _PROBES:
            with answering(call):
                await self._application(scope, receive, send)
            return
        # The rest of the path has ids, and callers choose what other paths are.
        first = scope["path"].partition("/")[2].partition("/")[0]
        place = first if first in self._places else "other"
        with self._observer.observed(
            place, scope["method"], call, headers, Chosen.ALL, is_known=False
        ) as observation:
            outcome = observation.outcome

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    outcome.verdict = str(message["status"])
                    if message["status"] >= 500:
                        outcome.fail(INTERNAL, "INTERNAL")
                elif message["type"] == "http.response.body":
                    outcome.size += len(message.get("body", b""))
                await send(message)

            try:
                with answering(call):
                    await self._application(scope, receive, noted)
            except BaseException as error:
                outcome.raised(error)
                raise
