"""The last activity of sessions, written to the database in batches.

Mechanism: a verification notes the time and the address of the client in a dictionary; the latest use wins.
Every few seconds, and when the worker stops, the notes are written in batches. The store never moves a last
use back, so the order in which workers write does not matter.

Bound: one note for each credential, `limit` notes in all, and half as many of one owner. Further uses are
dropped and counted until the next write. Of a user agent 512 characters are noted, with the client hints that
came with it. All user agents and client hints together have at most `MAX_TEXT_LENGTH` characters; further
uses are noted without.

Failure: notes that could not be written are kept and written with the next batch. One that the store refuses
is dropped. A crash loses the notes of the last few seconds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.errors import RetryableError
from authsvc.model.use import Use, noted

_log = logging.getLogger(__name__)
_MAX_BATCH = 1000
#: The characters of all user agents and client hints that wait to be written.
MAX_TEXT_LENGTH = 32 * 1024 * 1024


class UseStore(Protocol):
    """The recorded last uses."""

    @property
    def refused(self) -> int:
        """How many uses could never be recorded, and were dropped."""

    async def record_uses(self, uses: Sequence[Use]) -> None:
        """Record each use that is later than the recorded one; ignore those of deleted credentials.

        A use whose values are refused is dropped, so that it does not hold up the others. Raises
        RetryableError when the database is out of reach.
        """


# The time, the address of the client, its user agent, the owner of the credential, the client hints.
_Last: TypeAlias = tuple[datetime, str, str, str, ClientHints]
#: The id of a credential, and its last use.
Noted: TypeAlias = tuple[str, _Last]


def use_of(noted: Noted) -> Use:
    """Return what was noted as a use."""
    credential_id, last = noted
    return Use(credential_id, *last[:3], last[4])


def _length(user_agent: str, client_hints: ClientHints) -> int:
    return len(user_agent) + sum(map(len, client_hints))


class UsageNotes:
    """Collects last uses, until they are taken from here to be written elsewhere."""

    def __init__(self, *, limit: int = 200_000, fills_in: bool = False) -> None:
        """With `fills_in`, values that the latest use lacks are taken from an earlier use."""
        self._limit = limit
        self._fills_in = fills_in
        self._pending: dict[str, _Last] = {}
        self._limit_per_owner = max(1, limit // 2)
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
        """Note a use of a credential of an owner. Does not access the database."""
        known = self._pending.get(credential_id)
        if known is not None:
            latest, ip, agent, owner, hints = known
            if ip == client_ip and agent == user_agent and hints == client_hints:
                if now > latest:  # the same client again, as most often
                    self._pending[credential_id] = now, ip, agent, owner, hints
                return
        user_agent = noted(user_agent)
        if known is None:
            if len(self._pending) >= self._limit or self._of_owner[owner_id] >= self._limit_per_owner:
                self.dropped += 1
                return
            if owner_id:
                self._of_owner[owner_id] += 1
        elif known[0] > now:
            return
        else:
            self._text -= _length(known[2], known[4])
            if self._fills_in:
                if user_agent in ("", known[2]):  # The hints of another browser do not apply.
                    client_hints = known[4].updated(client_hints)
                client_ip, user_agent = client_ip or known[1], user_agent or known[2]
        if user_agent or client_hints != NO_HINTS:
            user_agent, client_hints = self._fitting(user_agent, client_hints)
        self._pending[credential_id] = now, client_ip, user_agent, owner_id, client_hints

    def _fitting(self, user_agent: str, client_hints: ClientHints) -> tuple[str, ClientHints]:
        """Return as much of a user agent and its client hints as there is room for, and count it."""
        if self._text + _length(user_agent, client_hints) > MAX_TEXT_LENGTH:
            client_hints = NO_HINTS
        if self._text + _length(user_agent, client_hints) > MAX_TEXT_LENGTH:
            user_agent = ""
        self._text += _length(user_agent, client_hints)
        return user_agent, client_hints

    def take(self) -> list[Noted]:
        """Return all notes, and have none any more."""
        # Sorted by id, because neighbouring rows are written faster together.
        taken = sorted(self._pending.items())
        self._pending, self._of_owner, self._text = {}, Counter(), 0
        return taken

    def keep(self, unwritten: Sequence[Noted]) -> None:
        """Take back notes that could not be written, unless there is a later one."""
        for credential_id, last in unwritten:
            self.note(credential_id, *last)


class UsageLog(UsageNotes):
    """Collects last uses and writes them in batches."""

    def __init__(self, store: UseStore, *, limit: int = 200_000, fills_in: bool = False) -> None:
        """Take where to write, and the arguments of `UsageNotes`."""
        super().__init__(limit=limit, fills_in=fills_in)
        self._store = store

    @property
    def refused(self) -> int:
        """How many uses could never be written, and were dropped."""
        return self._store.refused

    async def flush(self) -> None:
        """Write all notes. Those that could not be written are kept, and the last error is raised.

        Raises RetryableError at once when the database is out of reach. When a batch fails for another
        reason, the others are still written.
        """
        gathered = self.take()
        fault: Exception | None = None
        for start in range(0, len(gathered), _MAX_BATCH):
            batch = gathered[start : start + _MAX_BATCH]
            try:
                await self._store.record_uses([use_of(noted) for noted in batch])
            except (RetryableError, asyncio.CancelledError):
                self.keep(gathered[start:])
                raise
            except Exception as error:  # noqa: BLE001 - raised at the end
                self.keep(batch)
                fault = error
        if fault is not None:
            raise fault
