"""The calls that the scripted service has got, and how they differ from what a case expects."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic
from typing import Any


@dataclass(frozen=True)
class Call:
    """A call: its RPC, the authorization header or None, the timeout in seconds, and the request as JSON."""

    rpc: str
    authorization: str | None
    timeout: float | None
    request: Mapping[str, Any]
    at: float


class Calls:
    """Those since the last check, in the order of their arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: list[Call] = []

    def add(
        self, rpc: str, authorization: str | None, timeout: float | None, request: Mapping[str, Any]
    ) -> None:
        with self._lock:
            self._since.append(Call(rpc, authorization, timeout, request, monotonic()))

    def taken(self) -> list[Call]:
        """Return them, and begin anew."""
        with self._lock:
            taken, self._since = self._since, []
        return taken


def problems(calls: Sequence[Call], expected: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the calls of a step. Raise KeyError for an unknown expectation."""
    found = []
    for name, value in expected.items():
        found += _CHECKS[name](calls, value)
    return found


def _number(calls: Sequence[Call], number: int) -> list[str]:
    return [] if len(calls) == number else [f"{len(calls)} calls instead of {number}"]


def _at_least(calls: Sequence[Call], number: int) -> list[str]:
    return [] if len(calls) >= number else [f"{len(calls)} calls, fewer than {number}"]


def _at_most(calls: Sequence[Call], number: int) -> list[str]:
    return [] if len(calls) <= number else [f"{len(calls)} calls, more than {number}"]


def _rpc(calls: Sequence[Call], rpc: str) -> list[str]:
    return [f"called {call.rpc} instead of {rpc}" for call in calls if call.rpc != rpc]


def _authorizations(calls: Sequence[Call], headers: Sequence[str | None]) -> list[str]:
    found = [call.authorization for call in calls]
    return [] if found == headers else [f"authorization was {found} instead of {headers}"]


def _timeout(calls: Sequence[Call], seconds: float) -> list[str]:
    return [
        f"the deadline was {call.timeout} s instead of at most {seconds} s"
        for call in calls
        if call.timeout is None or call.timeout > seconds
    ]


def _request(calls: Sequence[Call], fields: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {call.request.get(name)!r} instead of {value!r}"
        for call in calls
        for name, value in fields.items()
        if call.request.get(name) != value
    ]


def _pauses(calls: Sequence[Call], seconds: Sequence[float]) -> list[str]:
    found = [after.at - before.at for before, after in pairwise(calls)]
    if len(found) != len(seconds):
        return [f"{len(found)} pauses instead of {len(seconds)}"]
    return [
        f"a pause was {pause:.3f} s instead of at least {least} s"
        for pause, least in zip(found, seconds, strict=True)
        if pause < least
    ]


_CHECKS: Mapping[str, Callable[[Sequence[Call], Any], list[str]]] = {
    "calls": _number,
    "calls_at_least": _at_least,
    "calls_at_most": _at_most,
    "rpc": _rpc,
    "authorizations": _authorizations,
    "timeout_at_most_seconds": _timeout,
    "request": _request,
    "pauses_at_least_seconds": _pauses,
}
