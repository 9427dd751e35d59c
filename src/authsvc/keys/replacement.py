"""A key whose string was never delivered, and the call that may replace it.

A call with the same request_id, by the same caller, within ten minutes. It has to come after the first one:
of several at once, one makes the key, and the others wait until it is known what became of its answer.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from authsvc.keys.minting import repeated
from authsvc.model.caller import Caller
from authsvc.model.delivery import GIVEN_UP_AFTER
from authsvc.model.errors import Unavailable
from authsvc.model.key import Key
from authsvc.store import keys as key_store
from authsvc.store.pool import Connection, Database
from authsvc.verify.clock import Stopwatch, boottime

# Seconds that a call waits for an earlier one to end, and how often it looks.
_PATIENCE = 5.0
_MIN_PAUSE, _GROWTH, _MAX_PAUSE = 0.005, 1.5, 0.25


class StillAnswered(Unavailable):
    """The call that made the key has not ended."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"the call with this request_id that made key {key_id} has not ended yet; repeat this one",
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

    def bounded(self, caller: Caller) -> Caller:
        """Return the caller of a call that has to be over when its key counts as never delivered."""
        latest = self._stopwatch() + GIVEN_UP_AFTER.total_seconds()
        return caller._replace(deadline=min(caller.deadline, latest))

    def patience(self, caller: Caller) -> float:
        """Return until when a call waits for an earlier one, by the stopwatch."""
        return min(self._stopwatch() + _PATIENCE, caller.deadline)

    async def find(self, caller: Caller, owner_id: str, request_id: str, until: float) -> Key | None:
        """Return the key that a call with this request_id may replace, when the call that made it has ended.

        None where there is none, or none that may be replaced. Raises StillAnswered after `until`.
        """
        pause = _MIN_PAUSE
        while request_id:
            async with self._database.connection() as connection:
                key = await self._made(connection, owner_id, request_id)
            now = self._clock()
            if key is None or not key.is_answered_still(caller, now):
                return key if key is not None and key.may_be_replaced(caller, now) else None
            if self._stopwatch() + pause > until:
                raise StillAnswered(key.key_id)
            await asyncio.sleep(pause)
            pause = min(_GROWTH * pause, _MAX_PAUSE)
        return None

    async def check(
        self,
        connection: Connection,
        caller: Caller,
        owner_id: str,
        request_id: str,
        undelivered: Key | None,
    ) -> Key | None:
        """Return the key to replace as it is now, in a transaction that has locked the one that was found.

        Nobody else makes a key by this request_id before the transaction ends. Raises AlreadyExists where
        one was made that may not be replaced, and StillAnswered where that is not known yet.
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
                raise StillAnswered(key_id)
            if key.may_be_replaced(caller, now):
                if undelivered is None or undelivered.key_id != key_id:
                    raise StillAnswered(key_id)  # It is not locked. Look again.
                return key
        raise repeated(request_id, key_id)

    async def _made(self, connection: Connection, owner_id: str, request_id: str) -> Key | None:
        key_id = await key_store.find_request(connection, owner_id, request_id)
        return None if key_id is None else (await key_store.find(connection, [key_id])).get(key_id)
