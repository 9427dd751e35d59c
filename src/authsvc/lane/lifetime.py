"""How long a connection lasts: its handshake, signs of life, age, and end."""

import random
from enum import Enum, auto

from authsvc.rpc.answers import MAX_UNREAD_SECONDS
from authsvc.rpc.limits import HANDSHAKE_SECONDS, PING_SECONDS

NEVER = float("inf")
# Early pings until a connection ends.
_MAX_EARLY_PINGS = 2
# Seconds without a byte until a client is asked for a sign of life, and seconds that it has for that.
_KEEPALIVE_SECONDS, _KEEPALIVE_GRACE_SECONDS = 7200.0, 20.0
# Seconds that a client has to say that it has read that it is to leave, and to close a connection on which
# all is said.
_LINGER_SECONDS = 1.0
# The share by which ages differ, so that connections that began together do not end together.
_AGE_JITTER = 0.1


class Due(Enum):
    """What is to be done with a connection."""

    NOTHING = auto()
    #: Ask for a sign of life.
    PING = auto()
    #: Ask the client to use another connection, and tell it that this one takes no more calls.
    LEAVE, LEFT = auto(), auto()
    #: Disconnect the client, which reads nothing; or for another reason.
    UNREAD, END = auto(), auto()


class Lifetime:
    """The times of one connection, in seconds of the event loop."""

    def __init__(self, now: float, age: float) -> None:
        """Begin now; the connection is to end at this age (0: never)."""
        self._since = self._silent_since = now
        jitter = random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311
        self._aged = now + age * jitter if age else NEVER
        #: Whether something has arrived since the last look, and whether HTTP/2 was agreed on.
        self.heard = self.settled = False
        #: Since when the kernel takes nothing from us.
        self.behind_since = NEVER
        #: When the client was asked to leave, was told that it has left, and everything was said.
        self.leaving = self.left = self.closing = NEVER
        #: When the connection ends whatever happens.
        self.deadline = NEVER
        self._pinged = NEVER
        self._early_pings, self._last_ping = 0, -NEVER

    def answers(self) -> None:
        """Note an answer, after which a ping is not early."""
        self._early_pings = 0

    def is_pinged_too_often(self, now: float) -> bool:
        """Note a ping of the client; return whether it has sent too many of them, too early."""
        early, self._last_ping = now - self._last_ping < PING_SECONDS, now
        self._early_pings = self._early_pings + 1 if early else 0
        return self._early_pings > _MAX_EARLY_PINGS

    def acknowledged(self) -> None:
        """Note the answer to our ping."""
        self._pinged = NEVER

    def due(self, now: float) -> Due:
        """Return what is to be done now."""
        if self.heard:
            self.heard, self._silent_since = False, now
        if (
            now >= self.deadline
            or now >= self.closing + _LINGER_SECONDS
            or now >= self._pinged + _KEEPALIVE_GRACE_SECONDS
            or (not self.settled and now >= self._since + HANDSHAKE_SECONDS)
        ):
            return Due.END
        if now >= self.behind_since + MAX_UNREAD_SECONDS:
            return Due.UNREAD
        if self.left == NEVER and now >= self.leaving + _LINGER_SECONDS:
            return Due.LEFT
        if self.leaving == NEVER and now >= self._aged:
            return Due.LEAVE
        if self._pinged == NEVER and now >= self._silent_since + _KEEPALIVE_SECONDS:
            self._pinged = now
            return Due.PING
        return Due.NOTHING
