"""What the service manager is told: that the service is ready, restarts its workers, or stops, and a status.

Mechanism: the protocol of sd_notify(3), which `Type=notify` of systemd uses: a datagram of assignments to the
socket that NOTIFY_SOCKET names. Without that variable nobody is told. It is removed from the environment, so
that no other program takes it for its own.

Bound: a datagram for each change. A manager that takes none is waited for no longer than a second.

Failure: what could not be told is logged, and told at the next change.
"""

import logging
import os
import socket
import time
from enum import Enum
from typing import Self

_log = logging.getLogger(__name__)

_MAX_SEND_SECONDS = 1.0


class State(Enum):
    """The state of the service, as the manager knows it."""

    STARTING = ""
    READY = "READY=1"
    RELOADING = "RELOADING=1"
    STOPPING = "STOPPING=1"


class ServiceManager:
    """The service manager that has started this process, if there is one."""

    def __init__(self, address: str = "") -> None:
        """Take the path of its socket; @ at its beginning: an abstract one; empty: there is none."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._state = State.STARTING
        self._status = ""

    @classmethod
    def of_environment(cls) -> Self:
        """Return the one that NOTIFY_SOCKET names, and remove that variable."""
        return cls(os.environ.pop("NOTIFY_SOCKET", ""))

    def tell(self, state: State, status: str, max_stop_seconds: float = 0) -> None:
        """Tell what has changed, if anything has.

        With STOPPING, it is told how long the stop may take, whatever its own timeout is.
        """
        if not self._address or (state, status) == (self._state, self._status):
            return
        told = [f"STATUS={status}"]
        if state is not self._state and state.value:
            told.insert(0, state.value)
            if state is State.RELOADING:
                told.insert(1, f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            if state is State.STOPPING:
                told.insert(1, f"EXTEND_TIMEOUT_USEC={round(max_stop_seconds * 1_000_000)}")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_MAX_SEND_SECONDS)
                sender.sendto("\n".join(told).encode(), self._address)
        except OSError as error:
            _log.warning("cannot tell the service manager at NOTIFY_SOCKET: %s", error)
        else:
            self._state, self._status = state, status
