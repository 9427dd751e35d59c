"""The clients that changes had to wait for, which may not follow for a while after several times.

Bound: the last times of the `_MAX_KNOWN` clients that were late last. A client is known by the credential and
the address that it follows with, and by the name that it gives itself: of several processes on one machine,
one that was killed says nothing about the others.
"""

import logging
from collections import deque

from authsvc.revocation.client_holder import Member
from authsvc.verify.clock import Stopwatch

_log = logging.getLogger(__name__)

#: A client that has not confirmed for so many seconds is late.
LATE_SECONDS = 1.0
#: After so many times in so many seconds it may not follow.
MAX_TIMES, WITHIN_SECONDS = 3, 600.0
_MAX_KNOWN = 1000


class LateClients:
    """When each client was late."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        self._times: dict[tuple[str, str, str], deque[float]] = {}
        #: How often any client was late.
        self.count = 0

    def note(self, member: Member) -> None:
        """Note that a change has waited for a client."""
        self.count += 1
        who = _who(member)
        _log.warning(
            "a change waited for the client %s at %s, which holds credentials by %s",
            member.instance,
            member.address,
            member.credential_id,
        )
        times = self._times.pop(who, None) or deque(maxlen=MAX_TIMES)
        times.append(self._stopwatch())
        self._times[who] = times
        if len(self._times) > _MAX_KNOWN:
            del self._times[next(iter(self._times))]

    def times(self, member: Member) -> int:
        """Return how often a client was late lately, `MAX_TIMES` at most."""
        return sum(time > self._stopwatch() - WITHIN_SECONDS for time in self._of(member))

    def pause(self, member: Member) -> float:
        """Return the seconds for which a client may not follow; 0 if it may."""
        times = self._of(member)
        if len(times) < MAX_TIMES:
            return 0.0
        return max(0.0, times[0] + WITHIN_SECONDS - self._stopwatch())

    def _of(self, member: Member) -> "deque[float]":
        return self._times.get(_who(member), deque())


def _who(member: Member) -> tuple[str, str, str]:
    return member.credential_id, member.address, member.instance
