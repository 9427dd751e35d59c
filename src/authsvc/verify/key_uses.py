"""How often keys are used, by whom, from where and with what, written to the database in batches.

Mechanism: a verification notes its use in what is noted of the key. While the same verifier, address and
user agent come again, as most often, that is an increment. For each of the last few of them there is a count
of its own; these counts move to rows, which have the network and the program, when there are too many. Every
few seconds, and when the worker stops, all is written in batches. The store adds the counts to those of other
workers, and never moves a last use back.

Bound: uses of `limit` keys are noted, and of half as many of one owner; further uses are dropped and counted.
A key has at most `MAX_ROWS` rows and `_MAX_SEEN` counts: what comes after counts for `OTHER`. All keys
together have `limit` of both, and beyond that at most three more for each key, and a fourth at midnight;
those of an owner half as many. All user agents have `MAX_TEXT_LENGTH` characters; of further ones, the
program is kept.

Failure: counts that could not be written are kept, and written with the next batch. If the answer to a commit
is lost, they are written again, and count twice. A row that the store refuses is dropped. A crash loses the
counts of the last few seconds.

The day of a count is that of the last use in it, so a use counts for the day before it or after it at most if
it was within one interval of the writes.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Protocol, TypeAlias

from authsvc.model.errors import RetryableError
from authsvc.model.key_use import (
    DETAILED_ROWS,
    MAX_ROWS,
    OTHER,
    KeyUse,
    network_of,
    program_of,
)
from authsvc.model.user_agent import AGENT_LENGTH

_MAX_BATCH = 1000
# Addresses and user agents of a key that are counted as they are.
_MAX_SEEN = 8
#: The characters of all user agents that wait to be written.
MAX_TEXT_LENGTH = 32 * 1024 * 1024

# The address of the client, its user agent, the verifier.
_Asked: TypeAlias = tuple[str, str, str]
# The day, the verifier, the network, the program.
_Row: TypeAlias = tuple[date, str, str, str]
# The uses, the time of the last one, the address of that.
_Count: TypeAlias = tuple[int, datetime, str]


class KeyUseStore(Protocol):
    """The recorded uses of keys."""

    @property
    def refused(self) -> int:
        """How many rows could never be recorded, and were dropped."""

    async def record_key_uses(self, uses: Sequence[KeyUse]) -> None:
        """Add these counts to the recorded ones; ignore those of deleted keys.

        A row whose values are refused is dropped, so that it does not hold up the others. Raises
        RetryableError when the database is out of reach.
        """


class _Seen:
    """A client that shows a key to a verifier, and how often it did since the last write. Mutable."""

    __slots__ = ("client_ip", "time", "user_agent", "uses", "verifier_id")

    def __init__(self, asked: _Asked, time: datetime) -> None:
        self.client_ip, self.user_agent, self.verifier_id = asked
        self.time = time
        self.uses = 0

    @property
    def row(self) -> _Row:
        """What its uses count for."""
        return self.time.date(), self.verifier_id, network_of(self.client_ip), program_of(self.user_agent)


class _Note:
    """What was counted of a key. Mutable."""

    __slots__ = ("owner_id", "rows", "seen")

    def __init__(self, owner_id: str) -> None:
        self.owner_id = owner_id
        self.seen: dict[_Asked, _Seen] = {}
        self.rows: dict[_Row, _Count] = {}


class KeyUses:
    """Counts uses of keys, until they are taken from here to be written elsewhere."""

    def __init__(self, *, limit: int = 200_000) -> None:
        """Take the number of keys of which uses are noted at a time."""
        self._limit = limit
        self._limit_per_owner = max(1, limit // 2)
        self._notes: dict[str, _Note] = {}
        # Who has shown a key last.
        self._latest: dict[str, _Seen] = {}
        self._of_owner: Counter[str] = Counter()
        # Of all `seen` and `rows`.
        self._size = 0
        self._size_of_owner: Counter[str] = Counter()
        self._text = 0
        self.dropped = 0

    def note(
        self,
        key_id: str,
        now: datetime,
        client_ip: str,
        user_agent: str,
        owner_id: str,
        verifier_id: str,
        uses: int = 1,
    ) -> None:
        """Note uses of a key of an owner, of which the last one is `now`. Does not access the database."""
        seen = self._latest.get(key_id)
        if (
            seen is not None
            and seen.client_ip == client_ip
            and seen.user_agent == user_agent
            and seen.verifier_id == verifier_id
        ):
            seen.uses += uses
            if now > seen.time:
                seen.time = now
            return
        self._note_other(key_id, now, (client_ip, user_agent, verifier_id), owner_id, uses)

    def _note_other(self, key_id: str, now: datetime, asked: _Asked, owner_id: str, uses: int) -> None:
        """Note uses by another client, or verifier, than the last ones."""
        note = self._notes.get(key_id) or self._new(key_id, owner_id, uses)
        if note is None:
            return
        seen = note.seen.get(asked)
        if seen is None:
            if len(note.seen) >= _MAX_SEEN or self._is_full(owner_id):
                self._settle(note)
            client_ip, user_agent, verifier_id = asked
            if self._text + len(user_agent) > MAX_TEXT_LENGTH or len(user_agent) > AGENT_LENGTH:
                asked = client_ip, program_of(user_agent), verifier_id
            seen = note.seen.get(asked)
            if seen is None:
                seen = note.seen[asked] = _Seen(asked, now)
                self._text += len(seen.user_agent)
                self._grow(note, 1)
        seen.uses += uses
        seen.time = max(seen.time, now)
        self._latest[key_id] = seen

    def _new(self, key_id: str, owner_id: str, uses: int) -> _Note | None:
        if len(self._notes) >= self._limit or self._of_owner[owner_id] >= self._limit_per_owner:
            self.dropped += uses
            return None
        self._of_owner[owner_id] += bool(owner_id)
        note = self._notes[key_id] = _Note(owner_id)
        return note

    def _is_full(self, owner_id: str) -> bool:
        return self._size >= self._limit or self._size_of_owner[owner_id] >= self._limit_per_owner

    def _grow(self, note: _Note, by: int) -> None:
        self._size += by
        self._size_of_owner[note.owner_id] += by if note.owner_id else 0

    def _settle(self, note: _Note) -> None:
        """Move the counts of a key to its rows."""
        all_seen, note.seen = note.seen, {}
        self._grow(note, -len(all_seen))
        for seen in all_seen.values():
            self._text -= len(seen.user_agent)
            self._add(note, seen.row, (seen.uses, seen.time, seen.client_ip))

    def _add(self, note: _Note, row: _Row, count: _Count) -> None:
        rows = note.rows
        if row not in rows:
            row = self._fitting(note, row)
        if row not in rows:
            self._grow(note, 1)
        # The last one is the last: of uses at the same time, it is the last use of the key.
        rows[row] = _sum(rows.pop(row, None), count)

    def _fitting(self, note: _Note, row: _Row) -> _Row:
        """Return the row that there is room for."""
        day, verifier_id, network, _ = row
        is_full = self._is_full(note.owner_id) and bool(note.rows)
        if len(note.rows) < DETAILED_ROWS and network != OTHER and not is_full:
            return row
        row = day, verifier_id, OTHER, OTHER
        if row in note.rows or (len(note.rows) < MAX_ROWS - 1 and not is_full):
            return row
        return day, OTHER, OTHER, OTHER

    def _pop(self, key_id: str) -> Iterator[KeyUse]:
        """Forget what was noted of a key, and return it."""
        if (note := self._notes.pop(key_id, None)) is None:
            return
        if (latest := self._latest.pop(key_id, None)) is not None:
            asked = latest.client_ip, latest.user_agent, latest.verifier_id
            note.seen[asked] = note.seen.pop(asked)  # the last one, see `_add`
        self._settle(note)
        owner_id = note.owner_id
        self._grow(note, -len(note.rows))
        if owner_id:
            self._of_owner[owner_id] -= 1
            if not self._of_owner[owner_id]:
                del self._of_owner[owner_id], self._size_of_owner[owner_id]
        for row, count in note.rows.items():
            yield KeyUse(key_id, *row, *count, owner_id)

    def take(self) -> list[KeyUse]:
        """Return all counts, and have none any more."""
        return [use for key_id in sorted(self._notes) for use in self._pop(key_id)]

    def keep(self, unwritten: Sequence[KeyUse]) -> None:
        """Take back counts that could not be written."""
        for use in unwritten:
            note = self._notes.get(use.key_id) or self._new(use.key_id, use.owner_id, use.uses)
            if note is not None:
                row = use.day, use.verifier_id, use.network, use.program
                self._add(note, row, (use.uses, use.last_use_time, use.client_ip))


class KeyUseLog(KeyUses):
    """Counts uses of keys and writes them in batches."""

    def __init__(self, store: KeyUseStore, *, limit: int = 200_000) -> None:
        """Take where to write, and the argument of `KeyUses`."""
        super().__init__(limit=limit)
        self._store = store

    @property
    def refused(self) -> int:
        """How many rows could never be written, and were dropped."""
        return self._store.refused

    async def flush(self) -> None:
        """Write all counts. Those that could not be written are kept, and the last error is raised.

        Raises RetryableError at once when the database is out of reach. When a batch fails for another
        reason, the others are still written.
        """
        fault: Exception | None = None
        # Sorted by id, because neighbouring rows are written faster together.
        for batch in self._batches(sorted(self._notes)):
            try:
                await self._store.record_key_uses(batch)
            except (RetryableError, asyncio.CancelledError):
                self.keep(batch)
                raise
            except Exception as error:  # noqa: BLE001 - raised at the end
                self.keep(batch)
                fault = error
        if fault is not None:
            raise fault

    def _batches(self, key_ids: Sequence[str]) -> Iterator[list[KeyUse]]:
        """Take the counts of these keys, batch by batch, so that what is not written yet stays noted."""
        batch: list[KeyUse] = []
        for key_id in key_ids:
            batch += self._pop(key_id)
            if len(batch) >= _MAX_BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def _sum(known: _Count | None, count: _Count) -> _Count:
    if known is None:
        return count
    _, time, client_ip = count if count[1] >= known[1] else known
    return known[0] + count[0], time, client_ip
