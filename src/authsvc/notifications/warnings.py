"""Warns the contacts of keys of what is about to happen, and of what has happened without a change.

Mechanism: a walk over the keys in the order of their ids, in batches, with the lock of the job's row as in
`sessions.purge`: one notifier of all replicas at a time, and any other continues where another stopped. The
database returns only keys for which a warning is due (`model.key_warning`) and somebody would be told. Each
warning is a row, unique by key, kind and threshold, and is written with its notification by one statement.
A quarter of an hour after a walk has ended, the next one begins.

Bound: a transaction looks at `BATCH_KEYS` keys, and warns of at most `MAX_WARNED_KEYS`, with a pause after
each. While `MAX_BACKLOG` notifications wait to be sent, there is one batch in `_BACKLOG_PAUSE`, so that other
notifications do not wait behind a hundred thousand warnings. No more than that: a mail server that is out of
reach does not keep webhooks from being told.

Failure: a transaction that fails is rolled back, with its warnings and its position, and done again. A walk
that is missed delays warnings and skips none. Where nobody could be told, there is no walk. So whoever sets
up mail or a webhook later is told of all that is due then, and of the keys that expire from then on.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from authsvc.model.key_warning import WARNINGS, KeyWarning, due_warnings
from authsvc.model.policy import OwnerPolicy
from authsvc.notifications.recipients import MailRecipients
from authsvc.store import key_warnings as warning_store
from authsvc.store import purge as jobs
from authsvc.store.key_warnings import DueKeys, Terms
from authsvc.store.pool import Connection, Database

#: Keys that a transaction looks at, and for how many of them it warns at most.
BATCH_KEYS, MAX_WARNED_KEYS = 500, 50
#: From the end of a walk to the start of the next one.
WALK_INTERVAL = timedelta(minutes=15)
#: How many notifications, mails or deliveries may wait until the walk goes slower.
MAX_BACKLOG = 1000
_BACKLOG_PAUSE = timedelta(seconds=30)
_JOB = "key_warnings"


class KeyWarnings:
    """Finds the keys whose contacts are to be warned, and writes the notifications."""

    def __init__(
        self,
        database: Database,
        recipients: MailRecipients,
        default_policy: OwnerPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._mails = recipients.enabled
        self._terms = Terms(
            mailed=[kind for kind in WARNINGS if recipients.mails_type(kind)],
            has_operator=bool(recipients.operator),
            rotation_period=default_policy.rotation_period,
            keys_enabled=default_policy.keys_enabled,
        )
        self._clock = clock
        # When the next batch is due in spite of a backlog.
        self._due_time = datetime.min.replace(tzinfo=UTC)
        #: How many warnings were written, by kind.
        self.written: Counter[str] = Counter({str(kind): 0 for kind in WARNINGS})

    async def step(self) -> bool:
        """Look at one batch; return whether there is more to do now."""
        now = self._clock()
        async with self._database.transaction() as connection:
            job = await jobs.take(connection, _JOB, now)
            if job is None or not await self._may_walk(connection, now):
                return False
            due, given = await self._batch(connection, job, now)
            more = bool(due.position)
            await jobs.put_back(connection, _JOB, due.position, now if more else now + WALK_INTERVAL)
        self._due_time = now + _BACKLOG_PAUSE
        self.written.update(given)
        return more

    async def work(self, pause: Callable[[], Awaitable[object]]) -> None:
        """Walk over all keys if that is due, with a pause after each batch."""
        while await self.step():
            await pause()

    async def _may_walk(self, connection: Connection, now: datetime) -> bool:
        """Return whether somebody could be told, and what is to be sent already is not too much."""
        if not self._mails and not await warning_store.has_enabled_webhook(connection):
            return False
        return now >= self._due_time or not await warning_store.has_backlog(connection, now, MAX_BACKLOG)

    async def _batch(self, connection: Connection, after: str, now: datetime) -> tuple[DueKeys, list[str]]:
        """Look at the keys after one; return those that something is due for, and the kinds of warnings."""
        since = await warning_store.begun(connection, now)
        due = await warning_store.list_due(
            connection, self._terms, now, since=since, after=after, size=BATCH_KEYS, most=MAX_WARNED_KEYS
        )
        warnings: list[KeyWarning] = []
        for key, kinds in due.keys:
            warnings += [each for each in due_warnings(key, now, since=since) if each.kind in kinds]
        return due, await warning_store.give(connection, warnings, now)
