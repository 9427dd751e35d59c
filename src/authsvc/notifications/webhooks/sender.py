"""Makes the deliveries to webhooks.

Mechanism: each webhook has a line. A notifier claims it, makes the deliveries that are due one after the
other, in the order of creation, and notes each at once. At a failure the line is given back, and the webhook
is left alone for a pause: 5 s at first, and up to 5 min when it has failed for long. So a dead webhook costs
one attempt at a time.

Bound: `LINES` lines at a time, of which failing webhooks have half at most, so dead ones do not hold up
others. Of one owner, at most `OWNER_LINES` are held by all notifiers together, and as many of its failing
webhooks, so slow receivers of one owner leave room for those of others. After `TURN_DELIVERIES` or `TURN` a
line is given back, and goes to the end of the queue. The sender uses `_CONNECTIONS` connections to the
database at a time, and none while it waits for a webhook. Messages are sent at a `pace`.

Failure: a line is claimed until `LEASE` from now, and this is renewed with each delivery. If the notifier
dies, any other continues the line then. What was under way at that moment is sent once more, under the same
id, and so is one whose outcome could not be committed. A notifier that has lost a line notes the delivery
that it was making, and stops there.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from authsvc.model.errors import RetryableError
from authsvc.model.retry_schedule import next_delay
from authsvc.model.webhook import Attempt, Outcome
from authsvc.notifications.body import body_of
from authsvc.notifications.pace import Pace
from authsvc.notifications.webhooks import health
from authsvc.notifications.webhooks.caller import SECONDS, WebhookCaller
from authsvc.store import webhook_deliveries as delivery_store
from authsvc.store.pool import Database
from authsvc.store.uncancelled import uncancelled
from authsvc.store.webhook_deliveries import DueDelivery, Line
from authsvc.telemetry.spans import Attributes, Tracer

_log = logging.getLogger(__name__)

LINES = 32
FAILING_LINES = LINES // 2
OWNER_LINES = LINES // 4
TURN_DELIVERIES = 100
TURN = timedelta(seconds=10)
# Longer than a call and the waits for the database around it.
LEASE = timedelta(seconds=SECONDS + 45)
# Deliveries of disabled webhooks that are given up in a transaction. Those of webhooks that their owner has
# disabled wait for this long.
_BATCH, _DISABLED_WAIT = 500, timedelta(days=5)
_CONNECTIONS = 2
# How long a line is left alone after a fault on our side.
_FAULT_PAUSE = timedelta(minutes=1)
# How long a stop waits for the calls under way.
_STOP_SECONDS = 5.0


class WebhookSender:
    """Makes the deliveries of one notifier."""

    def __init__(
        self,
        database: Database,
        caller: WebhookCaller,
        clock: Callable[[], datetime],
        *,
        pace: Pace | None = None,
        random: Callable[[], float] = random.random,
        tracer: Tracer | None = None,
    ) -> None:
        self._database = database
        self._caller = caller
        self._clock = clock
        self._pace = pace or Pace()
        self._random = random
        self._tracer = tracer
        self._turns: dict[asyncio.Task[None], Line] = {}
        self._calls: set[asyncio.Task[Attempt]] = set()
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._wanted = asyncio.Event()
        self._stopping = False
        self._look_seconds = 0.0
        #: Attempts by their outcome.
        self.attempts = Counter[str]()
        #: Webhooks disabled, because they are gone or failed for days.
        self.disabled = 0

    @property
    def lines(self) -> int:
        """How many lines are held here."""
        return len(self._turns)

    async def due(self, seconds: float) -> None:
        """Wait until it is time to look: this long, or until a line was given back.

        Looks take a tenth of the time at most, also where thousands of webhooks are dead.
        """
        await asyncio.sleep(self._look_seconds * 9)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        self._wanted.clear()

    async def look(self) -> int:
        """Claim lines for as many as there is room, and begin with their deliveries; return how many."""
        # If this were cancelled in between, the lines would be claimed and nobody would give them back.
        return await uncancelled(self._look())

    async def _look(self) -> int:
        failing = sum(line.is_failing for line in self._turns.values())
        room = LINES - len(self._turns)
        if self._stopping or room <= 0:
            return 0
        now, begin = self._clock(), time.monotonic()
        async with self._connections, self._database.transaction() as connection:
            lines = await delivery_store.claim_lines(
                connection,
                now,
                self._until(now),
                size=room,
                failing_size=max(FAILING_LINES - failing, 0),
                owner_size=OWNER_LINES,
            )
        self._look_seconds = time.monotonic() - begin
        for line in lines:
            task = asyncio.create_task(self._turn(line))
            self._turns[task] = line
            task.add_done_callback(self._ended)
        return len(lines)

    async def tidy(self) -> None:
        """Give up the deliveries of disabled webhooks."""
        given_up = _BATCH
        while given_up == _BATCH:
            async with self._connections, self._database.transaction() as connection:
                given_up = await delivery_store.fail_deliveries_of_disabled(
                    connection, created_before=self._clock() - _DISABLED_WAIT, size=_BATCH
                )

    async def settle(self) -> None:
        """Wait until the lines that were claimed are given back."""
        while self._turns:
            await asyncio.wait(self._turns)

    async def stop(self) -> None:
        """Make no more calls, and give the lines back. Calls under way get some seconds to end."""
        self._stopping = True
        if self._turns:
            await asyncio.wait(self._turns, timeout=_STOP_SECONDS)
            for call in self._calls:
                call.cancel()
            await self.settle()

    def _until(self, now: datetime) -> datetime:
        """Return a time to hold a line until, which no other holder has."""
        return now + LEASE + timedelta(microseconds=int(self._random() * 1_000_000))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._turns.pop(task)
        self._wanted.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("unexpected error in a delivery to a webhook", exc_info=task.exception())

    async def _turn(self, line: Line) -> None:
        """Make the deliveries of a line, until there are no more, one fails, or others get their turn."""
        held: Line | None = line
        end = self._clock() + TURN
        try:
            due = await self._next(line)
            for _ in range(TURN_DELIVERIES):
                if held is None or due is None:
                    break
                await self._pace.turn()
                if self._stopping or self._clock() >= end:
                    break
                # If the outcome cannot be noted, the line waits for the end of its lease: otherwise the same
                # would be sent again at once, and again.
                line, held = held, None
                held, due = await self._deliver(line, due)
        except RetryableError as error:
            _log.debug("the deliveries to webhook %s are interrupted: %s", line.webhook_id, error.message)
        finally:
            if held is not None:
                await self._give_back(held)

    async def _next(self, line: Line) -> DueDelivery | None:
        async with self._connections, self._database.transaction() as connection:
            return await delivery_store.next_delivery(connection, line, self._clock())

    async def _deliver(self, line: Line, due: DueDelivery) -> tuple[Line | None, DueDelivery | None]:
        """Make one attempt; return the line if it goes on, and the next delivery if there is one."""
        attempt = await self._attempt(due)
        if attempt is None:
            return line, None
        self.attempts[attempt.outcome.value] += 1
        now = self._clock()
        if attempt.outcome is Outcome.DELIVERED:
            async with self._connections, self._database.transaction() as connection:
                held = await delivery_store.note_success(
                    connection, line, due, status=attempt.status, attempt_time=now, until=self._until(now)
                )
                following = held and await delivery_store.next_delivery(connection, held, now)
            return held, following
        delay = next_delay(due.attempt_count + 1, attempt.retry_after, self._random)
        is_disabled = False
        async with self._connections, self._database.transaction() as connection:
            # Without a key to sign with, nothing is wrong with the webhook.
            if attempt.outcome is not Outcome.UNSIGNED:
                is_disabled = await health.note_failure(connection, line, due.webhook, attempt, now)
            else:
                await delivery_store.give_line_back(connection, line, now + _FAULT_PAUSE)
            await delivery_store.note_failure(
                connection,
                due,
                status=attempt.status,
                error=attempt.error,
                attempt_time=now,
                next_time=None if delay is None else now + delay,
            )
        if is_disabled:
            self.disabled += 1
            await self.tidy()
        return None, None

    async def _attempt(self, due: DueDelivery) -> Attempt | None:
        """Call the webhook; None if a stop has ended that."""
        call = asyncio.create_task(self._call(due))
        self._calls.add(call)
        try:
            await asyncio.wait((call,))
        finally:
            call.cancel()
            self._calls.discard(call)
        return None if call.cancelled() else call.result()

    async def _call(self, due: DueDelivery) -> Attempt:
        try:
            return await self._called(due)
        except Exception:  # noqa: BLE001 - what follows in the line is not to wait for ever
            _log.exception("unexpected error in delivery %s; it will be retried", due.delivery_id)
            return Attempt(error="the service failed to make this call", outcome=Outcome.UNSIGNED)

    async def _called(self, due: DueDelivery) -> Attempt:
        message_id, body = due.notification.notification_id, body_of(due.notification)
        if self._tracer is None:
            return await self._caller.call(due.webhook, message_id, body)
        attributes: Attributes = {
            "authsvc.webhook_id": due.webhook.webhook_id,
            "authsvc.delivery_id": due.delivery_id,
            "authsvc.attempt": due.attempt_count + 1,
            "messaging.message.id": message_id,
        }
        with self._tracer.resumed("webhook", due.trace_parent, attributes) as span:
            attempt = await self._caller.call(due.webhook, message_id, body)
            span.note({"authsvc.outcome": attempt.outcome.value})
            if attempt.status:
                span.note({"http.response.status_code": attempt.status})
            if attempt.outcome is not Outcome.DELIVERED:
                span.fail(attempt.outcome.value)
            return attempt

    async def _give_back(self, line: Line) -> None:
        """Let others have a line; if the database is out of reach, they get it when the lease ends."""
        with suppress(RetryableError):
            async with self._connections, self._database.connection() as connection:
                await delivery_store.give_line_back(connection, line, self._clock())
