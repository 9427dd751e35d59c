"""Failures of a verification: each is logged, and becomes a refusal that does not tell its cause."""

import logging
import traceback
from math import inf
from time import monotonic

from authsvc.client import refusal
from authsvc.client.errors import Refused, Unavailable
from authsvc.client.refusal import Refusal

_log = logging.getLogger(__name__)

# The minimum time between two log lines about one kind of problem.
_LOG_INTERVAL_SECONDS = 1.0


class Faults:
    """Turns every error into a refusal, so that no failure lets a request through."""

    def __init__(self) -> None:
        # When a kind of problem was last logged, and how often it has occurred since.
        self._logged: dict[type[Exception], tuple[float, int]] = {}

    def refusal(self, request: str, error: Exception) -> Refusal:
        """Return the refusal for an error; `request` names in the log what is refused."""
        if isinstance(error, Refusal):
            return error
        if isinstance(error, Unavailable):
            self._tell(logging.WARNING, request, error, str(error))
            return refusal.unavailable(error.retry_after)
        if isinstance(error, Refused):
            self._tell(logging.ERROR, request, error, f"{error}; retrying does not help: fix the cause")
        else:
            # Without its message, which could contain the credential.
            where = "".join(traceback.format_tb(error.__traceback__))
            self._tell(logging.ERROR, request, error, f"{type(error).__name__}\n{where}")
        return refusal.unavailable(None)

    def _tell(self, level: int, request: str, error: Exception, problem: str) -> None:
        """Log a problem, each kind at most once per second, since in an outage every request has it."""
        now = monotonic()
        last, kept = self._logged.get(type(error), (-inf, 0))
        if now - last < _LOG_INTERVAL_SECONDS:
            self._logged[type(error)] = last, kept + 1
            return
        self._logged[type(error)] = now, 0
        more = f" ({kept} more since this was last logged)" if kept else ""
        _log.log(level, "%s cannot be authenticated%s: %s", request, more, problem)
