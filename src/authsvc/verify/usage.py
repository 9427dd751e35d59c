"""Last use of keys and last activity of sessions, written behind in batches.

Mechanism: a verification notes the instant and the client's address in a
dictionary, the last one wins; every few seconds, and at drain, what has gathered
is written in batches. The store never moves a last use backwards, so the order
in which processes write does not matter.

Bound: one note a credential, with the beginning of a long user agent and client hints,
`limit` credentials; the last uses of further ones are dropped and counted until the next
write.

Failure: what could not be written is kept and tried again with the next batch. A
crash loses those of the last few seconds, and nothing else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from authsvc.errors import Passing
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.use import Use

_log = logging.getLogger(__name__)
_BATCH = 1000
# A quarter is kept. The rest makes up for tokens in it, which become shorter when they are cut out.
_MOST_AGENT = 2048


class UseStore(Protocol):
    """Where last uses are kept."""

    async def record_uses(self, uses: Sequence[Use]) -> None:
        """Keep each use that is later than the one known; forget those of deleted credentials."""


class UsageLog:
    """Gathers last uses and writes them behind."""

    def __init__(self, store: UseStore, *, limit: int = 200_000, fills_in: bool = False) -> None:
        """Take where uses are kept; `fills_in` keeps what an earlier use told and the last one does not."""
        self._store = store
        self._limit = limit
        self._fills_in = fills_in
        self._pending: dict[str, tuple[datetime, str, str, ClientHints]] = {}
        self.dropped = 0

    def note(
        self,
        credential_id: str,
        now: datetime,
        client_ip: str,
        user_agent: str = "",
        client_hints: ClientHints = NO_HINTS,
    ) -> None:
        """Note a use. Touches memory only."""
        known = self._pending.get(credential_id)
        if known is None and len(self._pending) >= self._limit:
            self.dropped += 1
        elif known is None or known[0] <= now:
            user_agent = user_agent[:_MOST_AGENT]
            if known is not None and self._fills_in:
                if user_agent in ("", known[2]):  # those of another browser are no more
                    client_hints = known[3].updated(client_hints)
                client_ip, user_agent = client_ip or known[1], user_agent or known[2]
            self._pending[credential_id] = now, client_ip, user_agent, client_hints

    async def flush(self) -> None:
        """Write what has gathered. What could not be written is kept, and the last error raised.

        The database out of reach ends the attempt; a batch that fails for another
        reason does not stand in the way of the others.
        """
        # By id, since neighbours are written together faster.
        gathered = [Use(credential_id, *last) for credential_id, last in sorted(self._pending.items())]
        self._pending = {}
        fault: Exception | None = None
        for start in range(0, len(gathered), _BATCH):
            batch = gathered[start : start + _BATCH]
            try:
                await self._store.record_uses(batch)
            except (Passing, asyncio.CancelledError):
                self._keep(gathered[start:])
                raise
            except Exception as error:  # noqa: BLE001 - raised at the end
                self._keep(batch)
                fault = error
        if fault is not None:
            raise fault

    def _keep(self, uses: Sequence[Use]) -> None:
        for use in uses:
            self.note(*use)

    async def run(self, tick: Callable[[], Awaitable[object]]) -> None:
        """Flush after each tick, for ever."""
        failing = False
        while True:
            await tick()
            try:
                await self.flush()
            except Passing as error:
                if not failing:
                    _log.warning("last uses cannot be written now and are kept: %s", error.message)
                failing = True
            except Exception:  # noqa: BLE001 - a fault here must not end the writing for good
                _log.exception("last uses could not be written and are kept")
            else:
                failing = False
