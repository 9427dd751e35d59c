"""What a client does when it may not hold, or when the worker says what no worker says."""

import asyncio
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from authsvc.client import AuthClient, Unavailable, VerdictCode, follow_stream, rich_status
from authsvc.client import auth_client as auth_client_module
from authsvc.client import holding as holding_module
from authsvc.v1 import holder_service_pb2 as pb
from tests.client.follow_standin import (
    KEY,
    LEASE,
    NOW,
    Response,
    Stream,
    Time,
    Worker,
    a_key,
    a_session,
    following,
    held,
    holding,
    key_string,
    until,
)
from tests.client.standin import Standin


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The stopwatch of clients and their pauses."""
    time = Time()
    monkeypatch.setattr(auth_client_module, "boottime", time)
    monkeypatch.setattr(holding_module, "_pause", time.pause)
    return time


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("authsvc.client.")]


def is_backoff(seconds: float) -> bool:
    return seconds != LEASE / 5


@pytest.mark.parametrize(
    ("code", "retry_after", "pause", "remedy"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, 0, 30, "holders:follow"),
        (grpc.StatusCode.UNAUTHENTICATED, 0, 30, "own key"),
        (grpc.StatusCode.UNIMPLEMENTED, 0, 30, "older than hold=True"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 7.5, 7.5, "AUTHSVC_HOLDERS"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 0, 30, "AUTHSVC_HOLDERS"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 1e6, 600, "AUTHSVC_HOLDERS"),
    ],
)
async def test_a_client_that_may_not_hold(
    time: Time,
    caplog: pytest.LogCaptureFixture,
    code: grpc.StatusCode,
    retry_after: float,
    pause: float,
    remedy: str,
) -> None:
    """It says so once, with the remedy, tries seldom, and asks for each verification."""
    caplog.set_level(logging.INFO)
    worker, trailers = Worker(), ()
    if retry_after:
        trailers = rich_status.write(code, "told", "REASON", {}, retry_after)  # type: ignore[assignment]
    async with following(worker) as client:
        for turn in range(3):
            stream = await worker.stream()
            await stream.next()
            stream.end(code, *trailers)
            assert await time.paused(is_backoff) == pause
            assert await client.verify_key(key_string())
            assert worker.asked == turn + 1
        (line,) = told(caplog)
        assert remedy in line
        # When it may, it holds at once.
        stream = await worker.stream()
        await stream.joined()
        await stream.grant()
        await until(lambda: client.hold_state.lease_seconds)
        await held(client, stream, key_string(), a_key())


async def test_an_older_service(time: Time) -> None:
    """It has no such RPC. Everything else works."""
    standin = Standin(VerdictCode.VALID)
    async with (
        standin.serving() as address,
        AuthClient(address, key="own", tls=None, deadline=60, hold=True) as client,
    ):
        assert await time.paused() == 30
        assert await client.verify_key(key_string())
        assert client.hold_state.asked == 1


@pytest.mark.parametrize(("times", "lines"), [(2, 0), (3, 1), (5, 1)])
async def test_a_refusal_that_grpc_does_not_pass_on(
    time: Time,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    lines: int,
) -> None:
    """It is tried again, and logged only if that is all that there is to say."""

    async def fail(*_: object) -> None:
        nothing = grpc.aio.Metadata()
        details = "Internal error from Core"
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details)

    monkeypatch.setattr(follow_stream.FollowStream, "run", fail)
    async with following(Worker()):
        for turn in range(times):
            await time.pausing(is_backoff)
            if turn < times - 1:
                await time.paused(is_backoff)
        assert len(told(caplog)) == lines


async def test_a_right_that_is_taken_away(time: Time) -> None:
    """Nothing is answered from memory any more, although there was a sub-lease."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        stream.end(grpc.StatusCode.PERMISSION_DENIED)
        await time.pausing(lambda seconds: seconds == 30)
        assert client.verify_key_now(text) is None
        assert client.hold_state.lease_seconds == 0


async def test_a_client_without_its_own_key(time: Time, tmp_path: Path) -> None:
    worker, file = Worker(), tmp_path / "key"
    async with following(worker, key=file) as client:
        assert await time.paused(is_backoff) == 30
        file.write_text("own")
        assert await client.verify_key(key_string())
        stream = await worker.stream()
        assert stream.metadata["authorization"] == "Bearer own"


async def test_failures_are_followed_by_growing_pauses(time: Time, caplog: pytest.LogCaptureFixture) -> None:
    """Up to a second. One line says so, and another one that it holds again."""
    caplog.set_level(logging.INFO)
    worker = Worker()
    async with following(worker):
        pauses = []
        for _ in range(7):
            stream = await worker.stream()
            stream.end(grpc.StatusCode.UNAVAILABLE)
            pauses.append(await time.paused(is_backoff))
        assert all(0.5 * base <= pause <= base for pause, base in zip(pauses, BACKOFF, strict=True))
        stream = await worker.stream()
        await stream.joined()
        await stream.grant()
        await until(lambda: len(told(caplog)) == 2)
        stream.end(grpc.StatusCode.UNAVAILABLE)
        assert await time.paused(is_backoff) <= 0.05
    lines = told(caplog)
    assert [line.split(":")[0] for line in lines] == [
        "this client holds no credentials and asks for each verification",
        "credentials are verified in this process now, by a sub-lease of 5 s",
        "this client holds no credentials and asks for each verification",
    ]


BACKOFF = [0.05, 0.1, 0.2, 0.4, 0.8, 1, 1]


async def test_a_worker_that_does_not_answer_a_join(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_stream, "_JOIN_SECONDS", 0.05)
    worker = Worker()
    async with following(worker) as client:
        stream = await worker.stream()
        await time.paused(is_backoff)
        async with asyncio.timeout(20):
            await stream.ended.wait()
        assert await client.verify_key(key_string())
        await worker.stream()


Say = Callable[[Stream], Any]


def grant(**fields: Any) -> Say:
    return lambda stream: stream.send(grant=Response.Grant(**fields))


def sends(credential: pb.HeldCredential) -> Say:
    return lambda stream: stream.hold(credential)


def a_session_with(**fields: Any) -> pb.HeldCredential:
    message = a_session()
    for name, value in fields.items():
        if value is None:
            message.activity.ClearField(name)  # type: ignore[arg-type]
        else:
            getattr(message.activity, name).seconds = value
    return message


def a_key_with_seconds(seconds: int) -> pb.HeldCredential:
    message = a_key()
    message.expire_time.seconds = seconds
    return message


GARBAGE: dict[str, Say] = {
    "nothing": lambda stream: stream.send(),
    "joined twice": lambda stream: stream.send(joined=Response.Joined(capacity=1)),
    "an unknown grant": grant(number=99),
    "an old grant": grant(number=1),
    "an unknown answer": lambda stream: stream.send(held=Response.Held(number=99)),
    "no kind": sends(a_key(kind=0)),
    "an unknown kind": sends(a_key(kind=7)),
    "no id": sends(a_key(credential_id="")),
    "no owner": sends(a_key(owner_id="")),
    "a session without activity": sends(a_key(kind=pb.HOLDER_CREDENTIAL_KIND_SESSION)),
    "a key with activity": sends(a_session(kind=KEY)),
    "no record": sends(a_session_with(record_time=None)),
    "no timeout": sends(a_session_with(idle_timeout=None)),
    "a negative timeout": sends(a_session_with(idle_timeout=-1)),
    "an endless timeout": sends(a_session_with(idle_timeout=10**15)),
    "a time beyond the calendar": sends(a_key_with_seconds(10**15)),
    "the end of the calendar": sends(a_session(recorded=datetime.max.replace(tzinfo=UTC), idle=10**9)),
}


@pytest.mark.parametrize("say", GARBAGE.values(), ids=GARBAGE)
async def test_a_worker_that_breaks_the_protocol(
    time: Time, caplog: pytest.LogCaptureFixture, say: Say
) -> None:
    """It is left at once, with everything that it has sent. The caller gets its verdict from the RPC."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        asking = asyncio.ensure_future(client.verify_key(key_string()))
        await say(stream)
        await time.pausing(is_backoff)
        assert client.verify_key_now(text) is None
        assert await asking
        assert worker.asked == 1
        assert client.hold_state.size == client.hold_state.lease_seconds == 0
        assert "broke the protocol" in told(caplog)[-1]
        await time.paused(is_backoff)
        await worker.stream()


@pytest.mark.parametrize(
    "joined",
    [{"capacity": 0}, {"capacity": -1}, {"lease": 0}, {"lease": -5}, {"lease": 0.01}],
    ids=str,
)
async def test_a_join_that_is_answered_wrongly(time: Time, joined: dict[str, Any]) -> None:
    worker = Worker()
    async with following(worker):
        await (await worker.stream()).joined(**joined)
        await time.paused(is_backoff)
        first = await (await worker.stream()).next()
        assert first is not None
        assert first.HasField("join")


async def test_a_grant_needs_the_time(time: Time) -> None:
    """Without it, keys would expire by another clock."""
    worker = Worker()
    async with following(worker) as client:
        stream = await worker.stream()
        await stream.joined()
        number = (await stream.until("renew")).number
        message = Response.Grant(number=number)
        message.lease.FromTimedelta(timedelta(seconds=5))
        await stream.send(grant=message)
        await time.paused(is_backoff)
        assert client.hold_state.lease_seconds == 0


async def test_a_service_that_cannot_be_reached(time: Time) -> None:
    """Memory answers until the sub-lease is over. Then it is not known: neither valid nor bad."""
    worker, text = Worker(grpc.StatusCode.UNAVAILABLE), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        assert await client.verify_key(text)
        time.now += LEASE
        with pytest.raises(Unavailable):
            await client.verify_key(text)
        assert worker.asked == 5


async def test_nothing_of_a_credential_is_told(
    caplog: pytest.LogCaptureFixture, time: Time
) -> None:  # rule 1
    """At the most verbose level: in no log, error or repr, whatever happens on the stream."""
    texts = [key_string(), key_string("session"), key_string()]
    own = "authsvc_live_" + "o" * 63
    worker = Worker(grpc.StatusCode.UNAVAILABLE)
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        async with holding(worker, key=own, attempts=1) as (client, stream):
            await held(client, stream, texts[0], a_key())
            await held(client, stream, texts[1], a_session())
            asking = asyncio.ensure_future(client.verify_key(texts[2]))
            await stream.hold(a_key(kind=7))
            try:
                await asking
            except Unavailable as error:
                said += traceback.format_exception(error)
            parts = (client, client._memory, client._holding, client.hold_state, stream.seen and None)
            said += map(repr, parts)
            await time.paused(is_backoff)
            second = await worker.stream()
            second.end(grpc.StatusCode.UNAUTHENTICATED)
            await time.paused(is_backoff)
    assert len(told(caplog)) >= 3
    everything = "\n".join([caplog.text, *said])
    for text in (*texts, own):
        assert text[20:-8] not in everything
    assert NOW.isoformat() not in everything
