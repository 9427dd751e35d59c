"""Whether this worker is ready for calls, as probes of its ports are told."""

import asyncio

from authsvc.verify.lease import Lease


class Readiness:
    """Ready while the lease is held, until the worker is about to stop."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._ended = asyncio.Event()

    @property
    def reason(self) -> str:
        """Why it is not ready; an empty string if it is."""
        if self._ended.is_set():
            return "this worker is stopping"
        return "" if self._lease.left else self._lease.reason

    def end(self) -> None:
        """Be not ready from now on; calls are still accepted."""
        self._ended.set()

    async def ended(self) -> None:
        """Wait until `end` was called."""
        await self._ended.wait()
