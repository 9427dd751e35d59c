"""A statement that many share: what is asked for while one is under way goes into the next.

Mechanism: one statement at a time, or a few, carries all that waits, up to a bound. So many
round trips, plans and commits become one, the more of them the busier it is. It is sent
when the event loop brings nothing more, which costs who is alone some microseconds:
answers leave together, so what their clients ask next arrives together, too.

Bound: so many items a statement, so many statements, and so many waiting as the owner allows.

Failure: what one statement is told, all who share it are told. A fault that is not the
database's but of some item is looked for by asking for each alone, so that nobody
fails for the sake of a stranger.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from authsvc.model.errors import AuthsvcError, Overloaded

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# Passes of the event loop. An RPC takes several from its arrival until it asks.
_QUIET = 8


class SharedStatement(Generic[Item, Answer]):
    """Carries out `execute`, which takes items and returns an answer for each, in their order."""

    def __init__(
        self,
        execute: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_waiting: int,
        full: str,
        max_sharing: int = 100,
        at_once: int = 1,
    ) -> None:
        """Take what to carry out; beyond `max_waiting` items, Overloaded says that it is `full`.

        At most `at_once` statements are under way, each with `max_sharing` items.
        """
        self._execute = execute
        self._max_waiting = max_waiting
        self._full = full
        self._max_sharing = max_sharing
        self._turns = asyncio.Semaphore(at_once)
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._sent: set[asyncio.Task[None]] = set()

    async def ask(self, item: Item) -> Answer:
        """Return the answer of a statement that was sent after this was called."""
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(
                f"{self._full}; retry after the delay in RetryInfo",
                reason="DATABASE_QUEUE_FULL",
                retry_after=0.5,
            )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        while self._waiting:
            await self._turns.acquire()
            await self._all_here()
            most = self._max_sharing
            taken, self._waiting = self._waiting[:most], self._waiting[most:]
            # Whoever has left meanwhile wants nothing to be done.
            wanted = [(item, answer) for item, answer in taken if not answer.done()]
            sent = asyncio.create_task(self._carry_out(wanted))
            self._sent.add(sent)
            sent.add_done_callback(self._answered)

    def _answered(self, sent: "asyncio.Task[None]") -> None:
        self._sent.discard(sent)
        self._turns.release()

    async def _all_here(self) -> None:
        """Return when nobody has joined for a while, or no more fit."""
        quiet = 0
        while quiet < _QUIET and len(self._waiting) < self._max_sharing:
            before = len(self._waiting)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._waiting) == before else 0

    async def _carry_out(self, wanted: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not wanted:
            return
        try:
            answers = await self._execute([item for item, _ in wanted])
        except Exception as error:  # noqa: BLE001 - raised for those who wait
            if len(wanted) > 1 and not isinstance(error, AuthsvcError):
                for each in wanted:
                    await self._carry_out([each])
                return
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, answer), found in zip(wanted, answers, strict=True):
                if not answer.done():
                    answer.set_result(found)
