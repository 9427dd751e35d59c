"""Workers whose database a test can replace, and the answers that must never be given then."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from pydantic import SecretStr

from authsvc import app
from authsvc.config.settings import Settings
from authsvc.model.caller import BOOTSTRAP
from authsvc.model.errors import RetryableError
from authsvc.model.key_string import TAIL_LENGTH
from authsvc.model.new_key import NewKey
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from authsvc.verify.clock import boottime
from tests.conftest import NO_PAUSES, Client
from tests.faults.load import reason_of
from tests.faults.replicated import Address, Server, until
from tests.verify.parts import ask

T = TypeVar("T")

# NOT_FOUND: it was created in a history that was lost.
_NOT_CONFIRMED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
}


@dataclass(frozen=True)
class Issued:
    """A key, as known to its creator."""

    key_id: str
    text: str

    @property
    def prefix(self) -> str:
        return self.text[:-TAIL_LENGTH]


@dataclass
class Worker:
    """A running service, its client, and the address of its database."""

    app: app.App
    address: Address
    channel: grpc.aio.Channel
    admin_key: str

    @property
    def admin(self) -> Client:
        return Client(self.channel, self.admin_key)

    async def issue(self) -> Issued:
        """Create a key."""
        key, minted = await self.app.keys.create(BOOTSTRAP, NewKey(owner_id="acme", display_name="Orders"))
        return Issued(key.key_id, minted.text)

    async def revoke(self, key: Issued, timeout: float = 30) -> resources_pb2.Key:
        """Revoke a key like a client that waits this long."""
        call = KeyServiceStub(self.channel).RevokeKey
        metadata = [("authorization", f"Bearer {self.admin_key}")]
        revoked: resources_pb2.Key = await call(
            pb.RevokeKeyRequest(key_id=key.key_id), metadata=metadata, timeout=timeout
        )
        return revoked

    async def verdict(self, key: Issued) -> str:
        """Return the verdict's code, or the reason why there is none."""
        try:
            return (await self.app.verifier.verify(ask(BOOTSTRAP), key.text)).code.name
        except RetryableError as error:
            return error.reason

    async def says(self, key: Issued, *expected: str) -> None:
        """Verify until the result is one of these; fail after ten seconds."""

        async def met() -> bool:
            return await self.verdict(key) in expected

        await until(met)

    async def renewed(self) -> None:
        """Return just after the next renewal of the lease."""
        ends = self.app.lease.left + boottime()

        async def later() -> bool:
            return self.app.lease.left + boottime() > ends + 0.01

        await until(later)

    async def move(self, old: Server, new: Server) -> None:
        """Move the worker to another server, with all its connections."""
        self.address.move(new)
        await self.address.cut(old)


@asynccontextmanager
async def fleet(
    server: Server, size: int, *, url: str = "", lease: float = 4.0, **settings: object
) -> AsyncIterator[list[Worker]]:
    """Run this many services on a server, each with its own address, or all with a given URL."""
    async with AsyncExitStack() as stack:
        workers: list[Worker] = []
        for _ in range(size):
            address = await stack.enter_async_context(Address(server))
            values = {
                "listen": "127.0.0.1:0",
                "database_url": SecretStr(url or address.url),
                "lease": lease,
                "drain_grace": 0.2,
                "usage_interval": 60.0,
                **settings,
            }
            running = await stack.enter_async_context(
                app.running(Settings(**values), pauses=NO_PAUSES)  # type: ignore[arg-type]
            )
            minted = await running.keys.ensure_administrator()
            admin_key = minted.text if minted else workers[0].admin_key
            target = f"127.0.0.1:{running.port}"
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
            workers.append(Worker(running, address, channel, admin_key))
        # The administrator's key is in every memory, so calls are authenticated without the database.
        await asyncio.gather(*(worker.says(Issued("", worker.admin_key), "VALID") for worker in workers))
        yield workers


@dataclass
class History:
    """What was guaranteed and what was answered; it finds the answers that break a guarantee."""

    alive: list[Issued] = field(default_factory=list)
    # When the revocation was first confirmed to a caller.
    revoked: dict[Issued, float] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    async def ask(self, worker: Worker, key: Issued) -> str:
        """Verify a key, and judge the answer by what was known before the call."""
        revoked, alive = key in self.revoked, key in self.alive
        verdict = await worker.verdict(key)
        self.answers[verdict] += 1
        if revoked and verdict == "VALID":
            since = time.monotonic() - self.revoked[key]
            self.violations.append(f"{key.key_id} is VALID {since:.3f} s after it was revoked")
        elif alive and key in self.alive and verdict in ("NOT_FOUND", "REVOKED"):
            self.violations.append(f"{key.key_id} is alive and {verdict}")
        return verdict

    async def revoke(self, worker: Worker, key: Issued) -> bool:
        """Revoke a key; return whether that was confirmed."""
        if key in self.alive:
            self.alive.remove(key)
        try:
            await worker.revoke(key)
        except grpc.aio.AioRpcError as error:
            self.answers[reason_of(error) or error.code().name] += 1
            if error.code() in _NOT_CONFIRMED:
                return False
            if reason_of(error) != "KEY_ALREADY_REVOKED":
                raise
        self.revoked[key] = time.monotonic()
        return True

    async def reach(self, count: int) -> None:
        """Return when this many keys were revoked."""

        async def reached() -> bool:
            return len(self.revoked) >= count

        await until(reached, seconds=30)

    async def settle(self, workers: list[Worker]) -> None:
        """Verify all keys on all workers, a last time."""
        for worker in workers:
            for key in self.alive:
                await worker.says(key, "VALID")
            for key in [*self.alive, *self.revoked]:
                await self.ask(worker, key)

    async def verify_for_ever(self, worker: Worker) -> None:
        """Verify random keys, some of which the worker has just evicted."""
        chance = random.Random(worker.app.port)  # noqa: S311 - no secret
        while True:
            await asyncio.sleep(0.002)
            key = chance.choice([*self.alive, *list(self.revoked)[-5:]])
            if chance.random() < 0.2:
                worker.app.cache.forget([key.prefix])
            await self.ask(worker, key)

    async def change_for_ever(self, worker: Worker, others: list[Worker]) -> None:
        """Create keys, verify them on all workers, revoke them, and verify all again."""
        while True:
            await asyncio.sleep(0.02)
            try:
                key = await worker.issue()
            except RetryableError as error:
                self.answers[error.reason] += 1
                continue
            self.alive.append(key)
            await asyncio.gather(*(self.ask(other, key) for other in others))
            for _ in range(5):
                if await self.revoke(worker, key):
                    await asyncio.gather(*(self.ask(other, key) for other in others))
                    break
                await asyncio.sleep(0.1)


@asynccontextmanager
async def load(history: History, workers: list[Worker]) -> AsyncIterator[None]:
    """Verify and revoke on all workers while the block runs."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(history.verify_for_ever(worker)) for worker in workers]
        tasks += [group.create_task(history.change_for_ever(worker, workers)) for worker in workers]
        yield
        for task in tasks:
            task.cancel()


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until it is not UNAVAILABLE any more, for at most ten seconds."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await call()
            except RetryableError:
                pass
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.05)
