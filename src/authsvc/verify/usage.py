"""Last use of keys and last activity of sessions, written behind in batches.

Mechanism: a verification notes the instant and the client's address in a
dictionary, the last one wins; every few seconds, and at drain, what has gathered
is written in batches. The store never moves a last use backwards, so the order
in which processes write does not matter.

Bound: one note a credential, `limit` credentials, half of them of one owner; the last uses of further ones
are dropped and counted until the next write. Of a user agent 512 characters are noted, with the client hints
that came with it, and of all together `MAX_TEXT`; beyond that, uses are noted without.

Failure: what could not be written is kept and tried again with the next batch. A
crash loses those of the last few seconds, and nothing else.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.errors import RetryableError
from authsvc.model.use import Use, noted

_log = logging.getLogger(__name__)
_BATCH = 1000
#: Characters of all user agents and client hints that wait to be written.
MAX_TEXT = 32 * 1024 * 1024


class UseStore(Protocol):
    """Where last uses are kept."""

    async def record_uses(self, uses: Sequence[Use]) -> None:
        """Keep each use that is later than the one known; forget those of deleted credentials."""


# When a credential was used last, from where, with which program, whose it is, and which hints came along.
_Last: TypeAlias = tuple[datetime, str, str, str, ClientHints]


def _length(user_agent: str, client_hints: ClientHints) -> int:
    return len(user_agent) + sum(map(len, client_hints))


class UsageLog:
    """Gathers last uses and writes them behind."""

    def __init__(self, store: UseStore, *, limit: int = 200_000, fills_in: bool = False) -> None:
        """Take where uses are kept; `fills_in` keeps what an earlier use told and the last one does not."""
        self._store = store
        self._limit = limit
        self._fills_in = fills_in
        self._pending: dict[str, _Last] = {}
        self._limit_of_one = max(1, limit // 2)
        self._of_owner: Counter[str] = Counter()
        self._text = 0
        self.dropped = 0

    def note(
        self,
        credential_id: str,
        now: datetime,
        client_ip: str,
        user_agent: str = "",
        owner_id: str = "",
        client_hints: ClientHints = NO_HINTS,
    ) -> None:
        """Note a use of a credential of an owner. Touches memory only."""
        user_agent = noted(user_agent)
        known = self._pending.get(credential_id)
        if known is None:
            if len(self._pending) >= self._limit or self._of_owner[owner_id] >= self._limit_of_one:
                self.dropped += 1
                return
            if owner_id:
                self._of_owner[owner_id] += 1
        elif known[0] > now:
            return
        else:
            self._text -= _length(known[2], known[4])
            if self._fills_in:
                if user_agent in ("", known[2]):  # those of another browser are no more
                    client_hints = known[4].updated(client_hints)
                client_ip, user_agent = client_ip or known[1], user_agent or known[2]
        if user_agent or client_hints != NO_HINTS:
            user_agent, client_hints = self._fitting(user_agent, client_hints)
        self._pending[credential_id] = now, client_ip, user_agent, owner_id, client_hints

    def _fitting(self, user_agent: str, client_hints: ClientHints) -> tuple[str, ClientHints]:
        """Return a user agent and its client hints if there is room for them, and count them."""
        if self._text + _length(user_agent, client_hints) > MAX_TEXT:
            client_hints = NO_HINTS
        if self._text + _length(user_agent, client_hints) > MAX_TEXT:
            user_agent = ""
        self._text += _length(user_agent, client_hints)
        return user_agent, client_hints

    async def flush(self) -> None:
        """Write what has gathered. What could not be written is kept, and the last error raised.

        The database out of reach ends the attempt; a batch that fails for another
        reason does not stand in the way of the others.
        """
        # By id, since neighbours are written together faster.
        gathered = sorted(self._pending.items())
        self._pending, self._of_owner, self._text = {}, Counter(), 0
        fault: Exception | None = None
        for start in range(0, len(gathered), _BATCH):
            batch = gathered[start : start + _BATCH]
            try:
                await self._store.record_uses([Use(key, *last[:3], last[4]) for key, last in batch])
            except (RetryableError, asyncio.CancelledError):
                self._keep(gathered[start:])
                raise
            except Exception as error:  # noqa: BLE001 - raised at the end
                self._keep(batch)
                fault = error
        if fault is not None:
            raise fault

    def _keep(self, unwritten: "Sequence[tuple[str, _Last]]") -> None:
        for credential_id, last in unwritten:
            self.note(credential_id, *last)

    async def run(self, tick: Callable[[], Awaitable[object]]) -> None:
        """Flush after each tick, for ever."""
        failing = False
        while True:
            await tick()
            try:
                await self.flush()
            except RetryableError as error:
                if not failing:
                    _log.warning("last uses cannot be written now and are kept: %s", error.message)
                failing = True
            except Exception:  # noqa: BLE001 - a fault here must not end the writing for good
                _log.exception("last uses could not be written and are kept")
            else:
                failing = False
