"""How long a connection lasts: its handshake, signs of life, age, and end."""

import random
from enum import Enum, auto

from authsvc.rpc.answers import MAX_UNREAD_SECONDS
from authsvc.rpc.limits import HANDSHAKE_SECONDS, PING_SECONDS

NEVER = float("inf")
# Early pings until a connection ends.
_MAX_EARLY_PINGS = 2
# The frames that acknowledge a ping, and settings.
_PING_BYTES, _SETTINGS_ACK_BYTES = 17, 9
# Seconds without a byte until a client is asked for a sign of life, and seconds that it has for that.
_KEEPALIVE_SECONDS, _KEEPALIVE_GRACE_SECONDS = 7200.0, 20.0
#: Seconds that a client has to say that it has read that it is to leave, and to close a connection on which
#: all is said.
LINGER_SECONDS = 1.0
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
        # Bytes that acknowledge what the client sends, and all others that it was sent before its last ping.
        self._acknowledging = self._sent = 0

    def is_set(self) -> None:
        """Note settings of the client."""
        self.settled = True
        self._acknowledging += _SETTINGS_ACK_BYTES

    def is_pinged_too_often(self, now: float, sent: int) -> bool:
        """Note a ping of the client; return whether it has sent too many of them, too early.

        `sent` is how many bytes it was sent. As in gRPC, a ping is not early after anything but
        acknowledgements: clients measure by pings how fast they can receive.
        """
        sent -= self._acknowledging
        early = now - self._last_ping < PING_SECONDS and sent <= self._sent
        self._early_pings = self._early_pings + 1 if early else 0
        self._last_ping, self._sent = now, max(sent, self._sent)
        self._acknowledging += _PING_BYTES
        return self._early_pings > _MAX_EARLY_PINGS

    def acknowledged(self) -> None:
        """Note the answer to our ping."""
        self._pinged = NEVER

    def due(self, now: float, *, is_sent: bool, lasts: bool) -> Due:
        """Return what is to be done now.

        `is_sent`: the kernel has taken all that was said. `lasts`: a stream is open that may outlast the age.
        """
        if self.heard:
            self.heard, self._silent_since = False, now
        if (
            now >= self.deadline
            or now >= self.closing + (LINGER_SECONDS if is_sent else MAX_UNREAD_SECONDS)
            or now >= self._pinged + _KEEPALIVE_GRACE_SECONDS
            or (not self.settled and now >= self._since + HANDSHAKE_SECONDS)
        ):
            return Due.END
        if now >= self.behind_since + MAX_UNREAD_SECONDS:
            return Due.UNREAD
        if self.left == NEVER and now >= self.leaving + LINGER_SECONDS:
            return Due.LEFT
        if self.leaving == NEVER and now >= self._aged and not lasts:
            return Due.LEAVE
        if self._pinged == NEVER and now >= self._silent_since + _KEEPALIVE_SECONDS:
            self._pinged = now
            return Due.PING
        return Due.NOTHING
