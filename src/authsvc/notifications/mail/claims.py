"""Claims the mails that are due, and combines those to one address into one message.

Mechanism: a short transaction under the row of the job, so that one notifier counts and claims
at a time. Mails that are not yet part of a message become one message for each address. A message that was
attempted before stays as it is. If there were as many other messages in the last hour as the limits allow, to
the address or about an owner, mails wait until there is room, and new ones are combined then.

Bound: `MAX_DUE` rows are looked at, `BATCH` messages are claimed, of up to `MAX_COMBINED` mails each. Of an
owner over the limit, up to `MAX_DEFERRED` mails are put off at once.

Failure: what was claimed and not noted within `CLAIM_TIME` is sent again, under the same Message-ID.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from authsvc.notifications.mail.composer import Composer
from authsvc.store import mails as mail_store
from authsvc.store import purge as jobs
from authsvc.store.mails import DueMail
from authsvc.store.pool import Connection, Database

_JOB = "mails"
MAX_DUE, BATCH, MAX_COMBINED, MAX_DEFERRED = 500, 20, 1000, 5000
#: Longer than a batch may take.
CLAIM_TIME = timedelta(minutes=15)
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MailLimits:
    """How many messages may be sent in an hour, to one address and about one owner."""

    address: int
    owner: int


class MailClaims:
    """Claims messages to send."""

    def __init__(
        self, database: Database, composer: Composer, limits: MailLimits, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._composer = composer
        self._limits = limits
        self._clock = clock

    async def claim(self, size: int = BATCH) -> list[str] | None:
        """Claim up to `size` messages; return their ids. None if another notifier is claiming.

        Mails that have to wait because of the limits are not due any more then.
        """
        now = self._clock()
        async with self._database.transaction() as connection:
            if await jobs.take(connection, _JOB, now) is None:
                return None
            due = await mail_store.list_due(connection, now, size=MAX_DUE)
            return await _Claim(connection, self._composer, self._limits, now).of(due, size)

    async def look(self) -> bool:
        """Return whether there is a message to send. Lets those wait that the limits do not allow."""
        now = self._clock()
        async with self._database.connection() as connection:
            if not await mail_store.has_due(connection, now):
                return False
        while True:
            async with self._database.transaction() as connection:
                if await jobs.take(connection, _JOB, now) is None:
                    return False
                due = await mail_store.list_due(connection, now, size=MAX_DUE)
                if await _Claim(connection, self._composer, self._limits, now).allows_any(due):
                    return True
            if len(due) < MAX_DUE:
                return False


class _Claim:
    """One claim, in a transaction."""

    def __init__(self, connection: Connection, composer: Composer, limits: MailLimits, now: datetime) -> None:
        self._connection = connection
        self._composer = composer
        self._limits = limits
        self._now = now
        # When each message about an owner was attempted in the last hour, by its id; the same by inbox.
        self._about: dict[str, dict[str, datetime]] = {}
        self._to: dict[str, dict[str, datetime]] = {}

    async def of(self, due: Sequence[DueMail], size: int) -> list[str]:
        """Claim up to `size` messages of these mails and others to the same addresses; return the ids."""
        claimed = list[str]()
        for first in _each_message(await self._without_owners_over_limit(due)):
            if len(claimed) == size:
                break
            if allowed := await self._allowed(first):
                claimed.append(await self._claim(allowed))
        return claimed

    async def allows_any(self, due: Sequence[DueMail]) -> bool:
        """Return whether there is a message that may be sent."""
        for first in _each_message(await self._without_owners_over_limit(due)):
            if await self._allowed(first):
                return True
        return False

    async def _claim(self, mails: Sequence[DueMail]) -> str:
        first = mails[0]
        message_id = first.message_id or self._composer.message_id(first.notification_id, first.mail_number)
        await mail_store.claim(
            self._connection, mails, message_id, now=self._now, until=self._now + CLAIM_TIME
        )
        for owner_id in {mail.owner_id for mail in mails}:
            self._about[owner_id][message_id] = self._now
        self._to[first.inbox][message_id] = self._now
        return message_id

    async def _allowed(self, first: DueMail) -> Sequence[DueMail]:
        """Return the mails of one's message, as far as the limits allow; let the others wait."""
        inbox, message_id = first.inbox, first.message_id
        mails = await self._mails_with(first)
        if inbox not in self._to:
            self._to[inbox] = await mail_store.messages_to(self._connection, inbox, after=self._now - _WINDOW)
        room = _room(self._to[inbox], message_id, self._limits.address)
        if room is not None:
            await mail_store.defer(self._connection, mails, room)
            return []
        waiting = await self._over_limit({mail.owner_id for mail in mails}, message_id)
        if waiting and message_id:  # It is sent as a whole.
            await mail_store.defer(self._connection, mails, max(waiting.values()))
            return []
        for owner_id, until in waiting.items():
            await self._defer_new_about(owner_id, until)
        return [mail for mail in mails if mail.owner_id not in waiting]

    async def _without_owners_over_limit(self, due: Sequence[DueMail]) -> Sequence[DueMail]:
        """Let the new mails wait that are about owners over the limit, a whole owner at a time."""
        new = [mail for mail in due if not mail.message_id]
        waiting = await self._over_limit({mail.owner_id for mail in new}, "")
        for owner_id, until in waiting.items():
            await self._defer_new_about(owner_id, until)
        return [mail for mail in due if mail.message_id or mail.owner_id not in waiting]

    async def _defer_new_about(self, owner_id: str, until: datetime) -> None:
        await mail_store.defer_new_about(
            self._connection, owner_id, self._now, until, limit=self._limits.owner, size=MAX_DEFERRED
        )

    async def _mails_with(self, first: DueMail) -> Sequence[DueMail]:
        if first.message_id:
            return await mail_store.list_of_message(self._connection, first.message_id, self._now)
        return await mail_store.list_due_to(self._connection, first.address, self._now, size=MAX_COMBINED)

    async def _over_limit(self, owner_ids: Collection[str], message_id: str) -> dict[str, datetime]:
        """Return the owners about whom there may be no message now, and when there may be one."""
        waiting = {}
        for owner_id in owner_ids:
            if owner_id not in self._about:
                self._about[owner_id] = await mail_store.messages_about(
                    self._connection, owner_id, after=self._now - _WINDOW
                )
            room = _room(self._about[owner_id], message_id, self._limits.owner)
            if room is not None:
                waiting[owner_id] = room
        return waiting


def _each_message(due: Iterable[DueMail]) -> Iterable[DueMail]:
    """Return the first mail of each message, and of each address without one."""
    messages: dict[tuple[str, str], DueMail] = {}
    for mail in due:
        messages.setdefault((mail.message_id, "" if mail.message_id else mail.address), mail)
    return messages.values()


def _room(times: Mapping[str, datetime], message_id: str, limit: int) -> datetime | None:
    """Return when there will be room for a message under a limit; None if there is now.

    `times` are those of the messages of the last hour, the oldest first. A message counts once.
    """
    others = [time for other, time in times.items() if other != message_id]
    return others[-limit] + _WINDOW + timedelta(milliseconds=1) if len(others) >= limit else None
