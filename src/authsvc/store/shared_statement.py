"""Batching: one statement for the items of many callers.

Mechanism: items that arrive while a statement is under way go into the next one. So many round trips, plans
and commits become one, the more the busier the service is. A statement is sent when no further item arrives
in a few passes of the event loop. This costs a single caller some microseconds. It helps because answers are
sent together, and so the next requests of their clients arrive together.

Bound: `max_sharing` items in each statement, `at_once` statements, and `max_waiting` items that wait. With
`max_wait`, an item waits for its turn for so many seconds, and then leaves, so that a statement that hangs
holds nobody up.

Failure: when a statement fails because of the database, all its callers get the error. After any other error,
each item is executed alone, so that one bad item does not fail the others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from typing import Generic, Self, TypeVar

from authsvc.model.errors import AuthsvcError, Overloaded
from authsvc.telemetry.current_call import apart

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# How many passes of the event loop have to bring no further item. An RPC needs several from its arrival on.
_QUIET_PASSES = 8
# How long an item waits for its turn where a statement that hangs must hold nobody up.
_MAX_TURN_SECONDS = 1.0


class NoTurn(Exception):
    """An item was not sent: it has waited too long for its turn, or too many waited before it."""


class SharedStatement(Generic[Item, Answer]):
    """Calls `execute` with the items of many callers. It returns an answer for each, in order."""

    def __init__(
        self,
        execute: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_waiting: int,
        full: str,
        max_sharing: int = 100,
        at_once: int = 1,
        quiet_passes: int = _QUIET_PASSES,
        max_wait: float | None = None,
    ) -> None:
        """`full` is the message of Overloaded when `max_waiting` items wait already.

        At most `at_once` statements are under way, each with at most `max_sharing` items. A statement is sent
        when no item has arrived in `quiet_passes` of the event loop; 0 sends it at once.
        """
        self._execute = execute
        self._max_waiting = max_waiting
        self._full = full
        self._max_sharing = max_sharing
        self._quiet_passes = quiet_passes
        self._max_wait = max_wait
        self._turns = asyncio.Semaphore(at_once)
        # With the context of each, which has the call that log lines name.
        self._waiting: list[tuple[Item, asyncio.Future[Answer], Context]] = []
        self._sending: asyncio.Task[None] | None = None
        self._sent: set[asyncio.Task[None]] = set()

    @classmethod
    def prompt(
        cls,
        execute: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_waiting: int,
        full: str,
        max_sharing: int = 100,
    ) -> Self:
        """Return one that sends a statement at once; items wait a second for their turn at most."""
        return cls(
            execute,
            max_waiting=max_waiting,
            full=full,
            max_sharing=max_sharing,
            quiet_passes=0,
            max_wait=_MAX_TURN_SECONDS,
        )

    async def ask(self, item: Item) -> Answer:
        """Return the answer of a statement that is sent after this call: a shared one, or one of its own.

        Raises Overloaded when too many items wait, and what `execute` raises.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(
                f"{self._full}; retry after the delay in RetryInfo",
                reason="DATABASE_QUEUE_FULL",
                retry_after=0.5,
            )
        try:
            return await self.ask_in_turn(item)
        except NoTurn:
            [alone] = await self._execute([item])
            return alone

    async def ask_in_turn(self, item: Item) -> Answer:
        """Return the answer of a shared statement that is sent after this call.

        Raises NoTurn, with nothing sent, when too many items wait, or when it takes longer than `max_wait`;
        and what `execute` raises.
        """
        if len(self._waiting) >= self._max_waiting:
            raise NoTurn
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer, copy_context()))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), context=apart())
        try:
            if self._max_wait is not None:
                await asyncio.wait((answer,), timeout=self._max_wait)
                if any(waiting is answer for _, waiting, _ in self._waiting):
                    raise NoTurn
            return await answer
        finally:
            # Nothing is done for those who left.
            answer.cancel()

    async def _send(self) -> None:
        while self._waiting:
            await self._turns.acquire()
            await self._until_quiet()
            size = self._max_sharing
            taken, self._waiting = self._waiting[:size], self._waiting[size:]
            # Leave out the items of callers that have gone.
            wanted = [(item, answer) for item, answer, _ in taken if not answer.done()]
            # Its log lines name the first of the calls that share it.
            sent = asyncio.create_task(self._carry_out(wanted), context=taken[0][2] if taken else None)
            self._sent.add(sent)
            sent.add_done_callback(self._answered)

    def _answered(self, sent: "asyncio.Task[None]") -> None:
        self._sent.discard(sent)
        self._turns.release()

    async def _until_quiet(self) -> None:
        """Wait until no further item arrives, or no more fit."""
        quiet = 0
        while quiet < self._quiet_passes and len(self._waiting) < self._max_sharing:
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == before else 0

    async def _carry_out(self, wanted: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not wanted:
            return
        try:
            found = await self._execute([item for item, _ in wanted])
            answers = list(zip([answer for _, answer in wanted], found, strict=True))
        except Exception as error:  # noqa: BLE001 - raised for those who wait
            if len(wanted) > 1 and not isinstance(error, AuthsvcError):
                for each in wanted:
                    await self._carry_out([each])
                return
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for answer, result in answers:
                if not answer.done():
                    answer.set_result(result)
