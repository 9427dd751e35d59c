"""An owner whose callers lose their authority, one after another, while its audit chain is kept busy."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any, TypeAlias

import grpc

from authsvc.v1 import resources_pb2
from tests.conftest import Client
from tests.faults.workers import Fleet

Call: TypeAlias = Callable[[], Awaitable[Any]]

# The errors of a call that may be repeated.
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
# The errors of a caller whose authority was revoked.
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
# How many seconds a caller makes calls at most before its authority is revoked.
_HEAD_START = 0.03


async def answered(call: Call) -> Any:
    """Repeat a call until it is answered: a busy service may refuse it for now."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                raise
        await asyncio.sleep(0.01)


async def until_refused(call: Call, most: float = inf) -> int:
    """Repeat a call until the caller gets a permission error; return how often it was accepted."""
    done = 0
    while done < most:
        try:
            await answered(call)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _REFUSED:
                raise
            break
        done += 1
    return done


class Lane:
    """One owner, on workers that are called in turn. Trials in it run one after another."""

    def __init__(self, on: Fleet, owner_id: str) -> None:
        self.owner_id = owner_id
        self.trial = 0
        self.random = random.Random(owner_id)  # noqa: S311
        self.admin_key = on.admin_key
        self._on = on

    def client(self, number: int, key_string: str) -> Client:
        """Return a caller of the worker with this number, modulo the number of workers."""
        return Client(self._on.workers[number % len(self._on.workers)].channel, key_string)

    async def ask(self, method: str, request: object = None, /, **fields: object) -> Any:
        """Return a worker's response to the administrator."""
        client = self._on.client(self.random.choice(self._on.workers))
        return await answered(lambda: getattr(client, method)(request, **fields))

    async def create_key(self, *scopes: str) -> Any:
        """Create a key of the owner."""
        return await self.ask("CreateKey", owner_id=self.owner_id, display_name="caller", scopes=scopes)

    async def keys_by(self, creator_id: str, *, is_alive: bool = False) -> set[str]:
        """Return the ids of all keys that a caller has created, or of those that are alive."""
        states = [resources_pb2.KEY_STATE_ACTIVE] if is_alive else []
        found: set[str] = set()
        token = ""
        while True:
            page = await self.ask(
                "ListKeys",
                owner_id=self.owner_id,
                filter={"creator_id": creator_id, "states": states},
                page_size=1000,
                page_token=token,
            )
            found.update(key.key_id for key in page.keys)
            if not (token := page.next_page_token):
                return found

    async def sessions_by(self, creator_id: str) -> set[str]:
        """Return the ids of the sessions that a caller has created and that are alive."""
        page = await self.ask("ListSessions", owner_id=self.owner_id, page_size=1000)
        assert not page.next_page_token
        return {session.session_id for session in page.sessions if session.creator_id == creator_id}

    async def against(
        self, calls: Sequence[Call], take_away: Call, look: Callable[[], Awaitable[Collection[object]]]
    ) -> tuple[int, int]:
        """Make calls until they are refused, and revoke the authority for them meanwhile.

        Return how many were answered OK, and how much `look` finds when the last one has ended that it did
        not find when the authority was revoked.
        """
        calling = [asyncio.create_task(until_refused(call)) for call in calls]
        try:
            await asyncio.sleep(_HEAD_START * self.random.random())
            await take_away()
            there = set(await look())
            done = await asyncio.gather(*calling)
        finally:
            for task in calling:
                task.cancel()
        return sum(done), len(set(await look()) - there)

    @asynccontextmanager
    async def busy(self, calls: Sequence[Call]) -> AsyncIterator[None]:
        """Repeat calls while the block runs."""
        over = False

        async def repeat(call: Call) -> None:
            while not over:
                await answered(call)

        tasks = [asyncio.create_task(repeat(call)) for call in calls]
        try:
            yield
        finally:
            over = True
            await asyncio.gather(*tasks)
