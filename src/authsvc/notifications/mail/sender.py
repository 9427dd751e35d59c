"""Sends the mails that are due.

Mechanism: claims a batch of messages (`claims`), then sends them over one connection, outside of any
transaction, and notes the outcome of each at once.

Bound: a batch of 20 messages and five minutes, one message in memory at a time, of at most 50 notifications.
Messages are sent at a `pace`.

Failure: what the server does not take now (4xx) is tried again for five days. What it refuses for good (5xx)
fails, and nothing else. While the server cannot be used, all mail waits, with growing pauses, and no attempt
counts. A message that was being sent when the notifier died, or when the connection was lost, is sent again
under the same Message-ID. At a stop, the message that is being sent is finished within five seconds, and the
rest of the batch is given back.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from authsvc.model.errors import RetryableError
from authsvc.notifications.mail.claims import MailClaims, MailLimits
from authsvc.notifications.mail.composer import MAX_LISTED, CannotCompose, ComposedMail, Composer
from authsvc.notifications.mail.connection import MailConnection, MailServer, Refused, ServerProblem
from authsvc.notifications.mail.retries import GIVE_UP_AFTER, Pause, Random, retry_delay
from authsvc.notifications.pace import Pace
from authsvc.store import mails as mail_store
from authsvc.store.driver_errors import translate_errors
from authsvc.store.mails import Message
from authsvc.store.pool import Connection, Database
from authsvc.store.uncancelled import uncancelled

_log = logging.getLogger(__name__)

_BATCH_SECONDS, _STOP_SECONDS = 300.0, 5.0
_MAX_GIVEN_UP = 500

Note = Callable[[Connection], Awaitable[object]]


class MailSender:
    """Sends mails. `sent` and `failed` are numbers of messages, `failed_attempts` of attempts."""

    def __init__(
        self,
        database: Database,
        server: MailServer,
        composer: Composer,
        limits: MailLimits,
        clock: Callable[[], datetime],
        random: Random = random.random,
        pace: Pace | None = None,
    ) -> None:
        self._database = database
        self._server = server
        self._composer = composer
        self._claims = MailClaims(database, composer, limits, clock)
        self._clock = clock
        self._random = random
        self._pace = pace or Pace()
        self._pause = Pause(random)
        # Outcomes that could not be written, by message. Nothing else is sent before they are.
        self._unwritten: dict[str, Note] = {}
        self._one_at_a_time = asyncio.Lock()
        self.sent = 0
        self.failed = 0
        self.failed_attempts = 0

    async def work(self) -> None:
        """Send all mails that are due."""
        while await self.step():
            pass

    async def step(self) -> bool:
        """Send one batch, after one that is being sent; return whether there may be more.

        Raises RetryableError, of the database.
        """
        async with self._one_at_a_time:
            return await self._step()

    async def _step(self) -> bool:
        await self._write_outcomes()
        if self._pause.lasts(self._clock()) or not await self._claims.look():
            return False
        try:
            # Before the claim: while the server is out of reach, no attempt counts, and mails are combined.
            async with self._server.connected() as connection:
                claimed = await self._claims.claim() or []
                await self._send_all(connection, list(claimed))
        except ServerProblem as problem:
            await self._begin_pause(problem)
            return False
        return bool(claimed)

    async def _send_all(self, connection: MailConnection, claimed: list[str]) -> None:
        """Send messages, and give back those that were not attempted."""
        until = time.monotonic() + _BATCH_SECONDS
        try:
            if claimed and not connection.is_open:
                raise ServerProblem(f"{self._server} closed the connection")
            while claimed and connection.is_open and time.monotonic() < until:
                await self._pace.turn()
                await _finished(self._attempt(connection, claimed[0], partial(claimed.pop, 0)))
        finally:
            if claimed:
                await uncancelled(self._release(claimed))

    async def _attempt(self, connection: MailConnection, message_id: str, done: Callable[[], object]) -> None:
        """Send a message, call `done`, and note the outcome. Raises ServerProblem.

        `done` is called first: a message that was sent is not to be given back if that cannot be noted.
        """
        async with self._database.connection() as database:
            message = await mail_store.read_message(database, message_id, size=MAX_LISTED)
        if message is None:
            done()
            return
        try:
            mail = await self._composed(message)
            code = await connection.send(mail)
        except CannotCompose as error:
            done()
            await self._note_cannot_compose(message, error)
        except Refused as refusal:
            done()
            self._end_pause()
            await self._note_refusal(message, refusal)
        except ServerProblem as problem:
            done()
            await self._note_retry(message, problem.code, str(problem))
            raise
        else:
            done()
            self._end_pause()
            self.sent += 1
            await self._write(message_id, partial(_note_sent, message_id, code))

    async def _composed(self, message: Message) -> ComposedMail:
        return await self._composer.compose(
            message.address,
            message.contact_name,
            message.notifications,
            count=message.mail_count,
            message_id=message.message_id,
            now=self._clock(),
        )

    async def _note_cannot_compose(self, message: Message, error: CannotCompose) -> None:
        """Note that a message cannot be written. A template may be repaired, an address may not."""
        if error.is_final:
            await self._note_failed(message, 0, str(error))
        else:
            _log.warning("message %s is tried again: %s", message.message_id, error)
            await self._note_retry(message, 0, str(error))

    async def _note_refusal(self, message: Message, refusal: Refused) -> None:
        """Note that the server did not take a message. Raises ServerProblem if it takes none from us."""
        if refusal.is_final:
            await self._note_failed(message, refusal.code, str(refusal))
            return
        await self._note_retry(message, refusal.code, str(refusal))
        if refusal.of_sender and refusal.code >= 500:
            raise ServerProblem(
                f"{self._server} refuses the address of AUTHSVC_MAIL_FROM: {refusal}", refusal.code
            )

    async def _note_retry(self, message: Message, code: int, error: str) -> None:
        now = self._clock()
        if now - message.first_attempt_time >= GIVE_UP_AFTER:
            await self._note_failed(message, code, error)
            return
        self.failed_attempts += 1
        _log.debug("message %s is tried again: %s", message.message_id, error)
        next_time = now + retry_delay(message.attempt_count, self._random)
        await self._write(
            message.message_id, partial(_note_retry, message.message_id, code, error, next_time)
        )

    async def _note_failed(self, message: Message, code: int, error: str) -> None:
        self.failed_attempts += 1
        self.failed += 1
        _log.warning(
            "message %s could not be delivered (%s); `authsvc notifications list --failed` says why",
            message.message_id,
            f"reply {code}" if code else "no reply",
        )
        await self._write(message.message_id, partial(_note_failed, message.message_id, code, error))

    async def _write(self, message_id: str, note: Note) -> None:
        """Write an outcome. If the database is out of reach, it is kept until the next step."""
        self._unwritten[message_id] = note
        await self._write_outcomes()

    async def _write_outcomes(self) -> None:
        while self._unwritten:
            message_id, note = next(iter(self._unwritten.items()))
            async with self._database.connection() as connection:
                await uncancelled(_written(connection, note))
            del self._unwritten[message_id]

    async def _release(self, message_ids: list[str]) -> None:
        """Give messages back; if that fails, their claims run out.

        Raises no error, which would replace the one that ended the batch, or a cancellation.
        """
        try:
            async with self._database.connection() as connection:
                await mail_store.release(connection, message_ids, self._clock())
        except RetryableError as error:
            _log.debug("messages could not be given back: %s", error.message)
        except Exception:  # noqa: BLE001 - the claims run out
            _log.exception("messages could not be given back")

    def _end_pause(self) -> None:
        if self._pause.end():
            _log.info("%s can be used again; mail is sent", self._server)

    async def _begin_pause(self, problem: ServerProblem) -> None:
        """Let all mail wait, and give up what has waited too long."""
        now = self._clock()
        first = self._pause.begin(now)
        _log.log(logging.WARNING if first else logging.DEBUG, "no mail can be sent; it waits: %s", problem)
        async with self._database.connection() as connection:
            given_up = await mail_store.note_unreachable(
                connection,
                now,
                problem.code,
                str(problem),
                given_up_before=now - GIVE_UP_AFTER,
                size=_MAX_GIVEN_UP,
            )
        if given_up:
            self.failed += given_up
            _log.warning("%d mails have waited for five days, and are given up", given_up)


async def _finished(work: Awaitable[None]) -> None:
    """Await work; if cancelled, let it end within the time of a stop."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_STOP_SECONDS)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            _log.debug("a message was not sent before the stop")
        raise


async def _written(connection: Connection, note: Note) -> None:
    with translate_errors(connection):
        await note(connection)


async def _note_sent(message_id: str, code: int, connection: Connection) -> None:
    await mail_store.note_sent(connection, message_id, code)


async def _note_retry(
    message_id: str, code: int, error: str, next_time: datetime, connection: Connection
) -> None:
    await mail_store.note_retry(connection, message_id, code, error, next_time)


async def _note_failed(message_id: str, code: int, error: str, connection: Connection) -> None:
    await mail_store.note_failed(connection, message_id, code, error)
