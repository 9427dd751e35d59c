"""A substitute for a worker that is followed: each test says what it sends, and when."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from authsvc.client import AuthClient, VerdictCode
from authsvc.model.key_string import KeyMint
from authsvc.v1 import holder_service_pb2 as pb
from authsvc.v1 import resources_pb2, session_service_pb2
from tests.client.standin import Standin

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MINT = KeyMint(b"0" * 32)
LEASE = 5.0
KEY, SESSION = pb.HOLDER_CREDENTIAL_KIND_KEY, pb.HOLDER_CREDENTIAL_KIND_SESSION
Request, Response = pb.FollowRequest, pb.FollowResponse


def key_string(environment: str = "live") -> str:
    return MINT.mint("test", environment).text


def prefix(text: str) -> str:
    return text[:-51]


def a_key(**fields: Any) -> pb.HeldCredential:
    """Return a key as it is sent, with `expire_time` and `revoke_time` as times."""
    times = {name: fields.pop(name) for name in ("expire_time", "revoke_time") if name in fields}
    message = pb.HeldCredential(
        **{"credential_id": "key_1", "owner_id": "acme", "kind": KEY, "scopes": ["a"], **fields}
    )
    for name, time in times.items():
        getattr(message, name).FromDatetime(time)
    return message


def a_session(
    *, last: datetime = NOW, recorded: datetime = NOW, idle: float = 1800, **fields: Any
) -> pb.HeldCredential:
    message = a_key(**{"credential_id": "ses_1", "owner_id": "alice", "kind": SESSION, **fields})
    message.activity.last_activity_time.FromDatetime(last)
    message.activity.record_time.FromDatetime(recorded)
    message.activity.idle_timeout.FromTimedelta(timedelta(seconds=idle))
    return message


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds that has no event."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


class Time:
    """The stopwatch of a client and its pauses. Time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[tuple[float, asyncio.Event]] = []

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        pause = seconds, asyncio.Event()
        self.pauses.append(pause)
        try:
            await pause[1].wait()
        finally:
            if pause in self.pauses:
                self.pauses.remove(pause)

    async def paused(self, seconds: Callable[[float], bool] = lambda _: True) -> float:
        """Wait for a pause of such a length, end it, and return its length."""
        while True:
            for each in self.pauses:
                if seconds(each[0]):
                    self.pauses.remove(each)
                    each[1].set()
                    return each[0]
            await asyncio.sleep(0)

    async def pausing(self, seconds: Callable[[float], bool]) -> None:
        """Wait for a pause of such a length, and do not end it."""
        await until(lambda: any(seconds(each) for each, _ in self.pauses))

    async def tick(self) -> None:
        """Let the next renewal come."""
        await self.paused(lambda seconds: seconds == LEASE / 5)


class Stream:
    """One stream, as the worker sees it."""

    def __init__(self, requests: AsyncIterator[pb.FollowRequest], context: Any) -> None:
        self._requests = requests
        self._context = context
        self._sending = asyncio.Lock()
        self.metadata = dict(context.invocation_metadata())
        self.number = 0
        # All that was read.
        self.seen: list[pb.FollowRequest] = []
        self.ended = asyncio.Event()
        self.outcome: tuple[grpc.StatusCode, tuple[tuple[str, bytes], ...]] = (grpc.StatusCode.OK, ())

    async def next(self) -> pb.FollowRequest | None:
        """Return the next message; None when the client has said everything."""
        async for request in self._requests:
            self.seen.append(request)
            return request
        return None

    async def until(self, name: str) -> Any:
        """Read until there is a message of this name, and return what it says."""
        while True:
            request = await self.next()
            assert request is not None, f"no {name}"
            if request.HasField(name):  # type: ignore[arg-type]
                return getattr(request, name)

    async def send(self, **message: Any) -> None:
        async with self._sending:  # gRPC writes one message at a time
            await self._context.write(pb.FollowResponse(**message))

    async def joined(self, lease: float = LEASE, capacity: int = 1000) -> pb.FollowRequest.Join:
        """Let the client join."""
        first = await self.next()
        assert first is not None
        assert first.WhichOneof("message") == "join"
        joined = Response.Joined(capacity=capacity)
        joined.lease.FromTimedelta(timedelta(seconds=lease))
        await self.send(joined=joined)
        return first.join

    async def grant(self, number: int | None = None, *, lease: float = LEASE, now: datetime = NOW) -> int:
        """Grant the next renewal, or one that was read before."""
        granted: int = (await self.until("renew")).number if number is None else number
        grant = Response.Grant(number=granted)
        grant.lease.FromTimedelta(timedelta(seconds=lease))
        grant.now.FromDatetime(now)
        await self.send(grant=grant)
        return granted

    async def hold(self, credential: pb.HeldCredential | None, *, unanswered: bool = False) -> Any:
        """Answer the next look-up, and return it."""
        asked = await self.until("hold")
        await self.send(held=Response.Held(number=asked.number, credential=credential, unanswered=unanswered))
        return asked

    async def forget(self, **what: Any) -> None:
        """Have something forgotten, and wait for the confirmation."""
        self.number += 1
        await self.send(forget=Response.Forget(number=self.number, **what))
        assert (await self.until("confirm")).number == self.number

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, *trailers: tuple[str, bytes]) -> None:
        """End the stream, without a word of the protocol."""
        self.outcome = code, trailers
        self.ended.set()


class Worker(Standin):
    """A worker that is followed, and counts the verifications that it is asked for."""

    def __init__(self, *outcomes: grpc.StatusCode | VerdictCode) -> None:
        super().__init__(*(outcomes or (VerdictCode.VALID,)))
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.opened: list[Stream] = []
        self.sessions = 0

    @property
    def asked(self) -> int:
        return len(self.peers) + self.sessions

    async def stream(self) -> Stream:
        """Return the next stream that a client opens."""
        async with asyncio.timeout(20):
            return await self.streams.get()

    def end(self) -> None:
        """End all streams."""
        for stream in self.opened:
            stream.end()

    async def follow(self, requests: AsyncIterator[pb.FollowRequest], context: Any) -> None:
        stream = Stream(requests, context)
        self.opened.append(stream)
        self.streams.put_nowait(stream)
        try:
            await stream.ended.wait()
        finally:
            stream.ended.set()
        code, trailers = stream.outcome
        if code is not grpc.StatusCode.OK:
            await context.abort(code, "told", trailers)

    async def verify_session(self, request: bytes, context: Any) -> bytes:
        self.sessions += 1
        code = resources_pb2.VERDICT_CODE_VALID
        answer = session_service_pb2.VerifySessionResponse(valid=True, code=code, session_id="ses_1")
        return answer.SerializeToString()

    def more_handlers(self) -> list[grpc.GenericRpcHandler]:
        follow: Any = grpc.stream_stream_rpc_method_handler(
            self.follow, Request.FromString, Response.SerializeToString
        )
        verify: Any = grpc.unary_unary_rpc_method_handler(self.verify_session)
        return [
            grpc.method_handlers_generic_handler("authsvc.v1.HolderService", {"Follow": follow}),
            grpc.method_handlers_generic_handler("authsvc.v1.SessionService", {"VerifySession": verify}),
        ]


@asynccontextmanager
async def following(worker: Worker, **options: Any) -> AsyncIterator[AuthClient]:
    """A client of this worker that holds. At the end, the worker ends all streams."""
    given = {"key": "own", "tls": None, "deadline": 60, "connections": 1, "hold": True, **options}
    async with worker.serving() as address, AuthClient(address, **given) as client:
        try:
            yield client
        finally:
            worker.end()


@asynccontextmanager
async def holding(worker: Worker, **options: Any) -> AsyncIterator[tuple[AuthClient, Stream]]:
    """A client that has a sub-lease, and its stream."""
    async with following(worker, **options) as client:
        stream = await worker.stream()
        await stream.joined()
        await stream.grant()
        await until(lambda: client.hold_state.lease_seconds)
        yield client, stream


async def held(client: AuthClient, stream: Stream, text: str, credential: pb.HeldCredential) -> None:
    """Have a credential held."""
    verify = client.verify_session if credential.kind == SESSION else client.verify_key
    asking = asyncio.ensure_future(verify(text))
    await stream.hold(credential)
    assert await asking
