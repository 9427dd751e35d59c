"""Replaces a key whose key string was never delivered, when its creator repeats the call.

The repeated call has the same `request_id` and the same caller, and comes within ten minutes of the creation
of the key. Of several calls at the same time, one creates the key, and the others wait until it is known
whether its answer was sent.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from authsvc.keys.minting import request_repeated
from authsvc.model.caller import Caller
from authsvc.model.delivery import GIVEN_UP_AFTER
from authsvc.model.errors import Unavailable
from authsvc.model.key import Key
from authsvc.store import keys as key_store
from authsvc.store.pool import Connection, Database
from authsvc.verify.clock import Stopwatch, boottime

# How long a call waits for an earlier one to end.
_MAX_WAIT_SECONDS = 5.0
# The pause between two looks, which grows by a factor.
_MIN_PAUSE_SECONDS, _PAUSE_GROWTH, _MAX_PAUSE_SECONDS = 0.005, 1.5, 0.25


class RequestInProgress(Unavailable):
    """The call that created the key has not ended."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"the call with this request_id that created key {key_id} has not ended yet; repeat this one",
            reason="REQUEST_IN_PROGRESS",
            retry_after=1,
            key_id=key_id,
        )


class Replacements:
    """Finds keys that a call may replace."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], stopwatch: Stopwatch = boottime
    ) -> None:
        self._database = database
        self._clock = clock
        self._stopwatch = stopwatch

    def with_latest_deadline(self, caller: Caller) -> Caller:
        """Return the caller with a deadline that passes before its key counts as never delivered."""
        latest = self._stopwatch() + GIVEN_UP_AFTER.total_seconds()
        return caller._replace(deadline=min(caller.deadline, latest))

    def latest_wait(self, caller: Caller) -> float:
        """Return until when this call may wait for an earlier one, in seconds of the stopwatch."""
        return min(self._stopwatch() + _MAX_WAIT_SECONDS, caller.deadline)

    async def find(self, caller: Caller, owner_id: str, request_id: str, until: float) -> Key | None:
        """Wait for an earlier call with this `request_id`; return the key that may be replaced, if any.

        Raises RequestInProgress if the earlier call has not ended at `until`, by the stopwatch.
        """
        pause = _MIN_PAUSE_SECONDS
        while request_id:
            async with self._database.connection() as connection:
                key = await self._created(connection, owner_id, request_id)
            now = self._clock()
            if key is None or not key.is_answered_still(caller, now):
                return key if key is not None and key.may_be_replaced(caller, now) else None
            if self._stopwatch() + pause > until:
                raise RequestInProgress(key.key_id)
            await asyncio.sleep(pause)
            pause = min(_PAUSE_GROWTH * pause, _MAX_PAUSE_SECONDS)
        return None

    async def check(
        self,
        connection: Connection,
        caller: Caller,
        owner_id: str,
        request_id: str,
        undelivered: Key | None,
    ) -> Key | None:
        """Return the current state of the key to replace, if any; lock the `request_id` until the commit.

        The transaction holds the lock of `undelivered`, which `find` returned before. Raises AlreadyExists
        (REQUEST_REPEATED) for a key that cannot be replaced, and RequestInProgress if `find` has to be
        called again.
        """
        if not request_id:
            return None
        await key_store.lock_request(connection, owner_id, request_id)
        if (key_id := await key_store.find_request(connection, owner_id, request_id)) is None:
            return None
        key = (await key_store.find(connection, [key_id])).get(key_id)
        if key is not None:
            now = self._clock()
            if key.is_answered_still(caller, now):
                raise RequestInProgress(key_id)
            if key.may_be_replaced(caller, now):
                if undelivered is None or undelivered.key_id != key_id:
                    raise RequestInProgress(key_id)  # This key is not locked.
                return key
        raise request_repeated(request_id, key_id)

    async def _created(self, connection: Connection, owner_id: str, request_id: str) -> Key | None:
        key_id = await key_store.find_request(connection, owner_id, request_id)
        return None if key_id is None else (await key_store.find(connection, [key_id])).get(key_id)
