"""A client that follows a worker: what it says, what it carries out, and what it answers meanwhile."""

import asyncio
import os
import threading
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from authsvc.client import (
    AuthClient,
    BlockingAuthClient,
    CredentialType,
    HoldState,
    Unavailable,
    Verdict,
    VerdictCode,
    look_ups,
)
from authsvc.client import auth_client as auth_client_module
from authsvc.client import holding as holding_module
from authsvc.client.memory import Memory
from authsvc.client.outbox import Outbox
from authsvc.client.questions import about_key
from authsvc.model.credential import CredentialKind
from tests.client.follow_standin import (
    KEY,
    LEASE,
    NOW,
    SESSION,
    Request,
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
    prefix,
    until,
)
from tests.client.target import target

VALID = VerdictCode.VALID


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The stopwatch of clients and their pauses."""
    time = Time()
    monkeypatch.setattr(auth_client_module, "boottime", time)
    monkeypatch.setattr(holding_module, "_pause", time.pause)
    return time


async def soon(call: Awaitable[Any]) -> Any:
    async with asyncio.timeout(20):
        return await call


async def test_the_first_words() -> None:  # R12
    """It joins with its own key and its capacity. Until a sub-lease is granted, every call is an RPC."""
    worker = Worker()
    async with following(worker, hold_capacity=7) as client:
        stream = await worker.stream()
        join = await stream.joined()
        assert (join.capacity, join.instance.endswith(f" {os.getpid()}")) == (7, True)
        assert stream.metadata["authorization"] == "Bearer own"
        text = key_string()
        assert await client.verify_key(text)
        assert client.verify_key_now(text) is None
        assert worker.asked == 1
        assert client.hold_state == HoldState(asked=1)
        assert {request.WhichOneof("message") for request in stream.seen} == {"join"}


async def test_a_key_is_asked_for_once() -> None:
    """Then it is verified from memory: by coroutines, and without an event loop."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        asking = [asyncio.ensure_future(client.verify_key(f" {text}\n", "a")) for _ in range(20)]
        sent = await stream.hold(a_key(annotations={"team": "x"}))
        assert (sent.credential, sent.kind) == (text, KEY)
        expected = Verdict(VALID, CredentialType.KEY, "key_1", "acme", ("a",), None, {"team": "x"})
        assert await soon(asyncio.gather(*asking)) == [expected] * 20
        assert await client.verify_key(text, "a", "192.0.2.7") == expected
        assert client.verify_key_now(text, "a") == expected
        assert (await client.verify_key(text, "b")).code is VerdictCode.INSUFFICIENT_SCOPE
        found = await asyncio.to_thread(client.verify_key_now, text, ["a"])
        assert found == expected
        assert client.hold_state == HoldState(24, 1, 0, 1, LEASE)
        assert worker.asked == 0


async def test_a_session_is_verified_from_memory(time: Time) -> None:
    """With the address, the user agent and the client hints of its user for the report."""
    worker, token = Worker(), key_string("session")
    async with holding(worker) as (client, stream):
        asking = asyncio.ensure_future(client.verify_session(token))
        sent = await stream.hold(a_session())
        assert (sent.credential, sent.kind) == (token, SESSION)
        assert await soon(asking) == Verdict(
            VALID, CredentialType.SESSION, "ses_1", "alice", ("a",), NOW + timedelta(seconds=1800)
        )
        time.now += 1
        hints = {"Sec-CH-UA": '"Brand";v="1"', "sec-ch-ua-platform": '"Windows"'}
        assert client.verify_session_now(token, "a", "192.0.2.7", "Firefox", headers=hints)
        await time.tick()
        (use,) = (await stream.until("uses")).uses
        assert (use.credential_id, use.client_ip, use.user_agent) == ("ses_1", "192.0.2.7", "Firefox")
        assert use.use_time.ToDatetime() == NOW.replace(tzinfo=None) + timedelta(seconds=1)
        assert (use.client_hints.brands, use.client_hints.platform) == ('"Brand";v="1"', '"Windows"')
        assert worker.asked == 0


async def test_what_only_looks_like_a_credential_is_not_asked_for() -> None:
    """A look-up is for strings of the form of a credential. Others are asked as before, or are none."""
    worker = Worker()
    async with holding(worker) as (client, stream):
        assert client.verify_key_now("") == Verdict(VerdictCode.NOT_FOUND, CredentialType.KEY)
        assert await client.verify_key("another form")
        assert worker.asked == 1
        assert not [request for request in stream.seen if request.HasField("hold")]


async def test_a_string_that_belongs_to_nothing() -> None:
    """It is NOT_FOUND, and is asked for again the next time."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        for _ in range(2):
            asking = asyncio.ensure_future(client.verify_key(text))
            await stream.hold(None)
            assert (await soon(asking)).code is VerdictCode.NOT_FOUND
        assert worker.asked == 0


async def test_what_the_worker_cannot_look_up_is_asked() -> None:
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        asking = asyncio.ensure_future(client.verify_key(text))
        await stream.hold(None, unanswered=True)
        assert await soon(asking)
        assert worker.asked == 1


@pytest.mark.parametrize(
    "order",
    [
        {"key_prefixes": ["prefix"]},
        {"owner_id": "acme"},
        {"owner_id": "acme", "kind": KEY},
        {"owner_id": "acme", "kind": 99},
        {"everything": True},
    ],
)
async def test_a_credential_is_forgotten_before_that_is_confirmed(order: dict[str, Any]) -> None:  # R14
    """When the worker has the confirmation, no thread gets the old answer; a look-up gets the new one."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        if "key_prefixes" in order:
            order = {"key_prefixes": [prefix(text)]}
        await stream.forget(**order)
        assert client.verify_key_now(text) is None
        asking = asyncio.ensure_future(client.verify_key(text))
        await stream.hold(a_key(revoke_time=NOW))
        assert (await soon(asking)).code is VerdictCode.REVOKED


async def test_messages_are_carried_out_in_their_order() -> None:  # R12, R14
    """A change before the credential was sent is in it; a change after it removes it."""
    worker, text, other = Worker(), key_string(), key_string()
    async with holding(worker) as (client, stream):
        asking = [asyncio.ensure_future(client.verify_key(each)) for each in (text, other)]
        asked = [await stream.until("hold") for _ in asking]
        numbers = {each.credential: each.number for each in asked}
        forgotten = Response.Forget(number=1, key_prefixes=[prefix(text)])
        await stream.send(forget=forgotten)
        await stream.send(held=Response.Held(number=numbers[text], credential=a_key()))
        await stream.send(held=Response.Held(number=numbers[other], credential=a_key()))
        await stream.send(forget=Response.Forget(number=2, key_prefixes=[prefix(other)]))
        while (await stream.until("confirm")).number != 2:
            pass
        assert client.verify_key_now(text)
        assert client.verify_key_now(other) is None
        assert await soon(asking[0])


async def test_an_answer_that_is_forgotten_before_it_is_used() -> None:  # R16
    """A caller that waited reads memory once more; it is never given what the look-up had found."""
    memory = Memory(10, lambda: 1.0)
    memory.start(10)
    memory.grant(10, NOW, 1, 1)
    text, on = key_string(), look_ups.LookUps(memory, Outbox())
    on.open()
    waiting = on.ask(text, CredentialKind.KEY)
    assert waiting is not None
    on.take(Response.Held(number=1, credential=a_key()))
    memory.forget([prefix(text)], "", None, everything=False)
    assert await waiting is look_ups.Found.HELD
    assert memory.recall(about_key((), ""), text) is None


async def test_the_sub_lease_counts_from_before_it_was_asked_for(time: Time) -> None:  # R13
    """However late the grant arrives. When it is over, the service is asked, and no good key is refused."""
    worker, text = Worker(), key_string()
    async with following(worker) as client:
        stream = await worker.stream()
        await stream.joined()
        number = (await stream.until("renew")).number
        time.now += 3
        await stream.grant(number)
        await until(lambda: client.hold_state.lease_seconds)
        assert client.hold_state.lease_seconds == LEASE - 3
        await held(client, stream, text, a_key())
        time.now += 1.999
        assert client.verify_key_now(text)
        time.now += 0.001
        assert client.verify_key_now(text) is None
        assert await client.verify_key(text)
        assert worker.asked == 1


async def test_a_grant_for_one_of_several_renewals(time: Time) -> None:  # R13
    """It counts from the one that it names; an earlier one cannot be granted any more."""
    worker = Worker()
    async with following(worker) as client:
        stream = await worker.stream()
        await stream.joined()
        numbers = [(await stream.until("renew")).number]
        for _ in range(3):
            time.now += 1
            await time.tick()
            numbers.append((await stream.until("renew")).number)
        await stream.grant(numbers[1])
        await until(lambda: client.hold_state.lease_seconds)
        assert client.hold_state.lease_seconds == LEASE - 2
        await stream.grant(numbers[3])
        await until(lambda: client.hold_state.lease_seconds > LEASE - 2)
        assert client.hold_state.lease_seconds == LEASE


async def test_a_sub_lease_is_not_longer_than_the_worker_said(time: Time) -> None:
    worker = Worker()
    async with following(worker) as client:
        stream = await worker.stream()
        await stream.joined(LEASE)
        await stream.grant(lease=3600)
        await until(lambda: client.hold_state.lease_seconds)
        assert client.hold_state.lease_seconds == LEASE


async def test_an_end_is_confirmed_when_everything_is_given_up() -> None:  # R14
    """Uses are reported before. Then it joins again, with nothing held."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        await stream.send(end=Response.End(number=9, reason="it drains"))
        assert (await stream.until("confirm")).number == 9
        assert client.verify_key_now(text) is None
        assert client.hold_state.lease_seconds == client.hold_state.size == 0
        assert [request.WhichOneof("message") for request in stream.seen[-2:]] == ["uses", "confirm"]
        assert await stream.next() is None
        stream.end()


async def next_stream(worker: Worker, time: Time) -> Stream:
    """Return the stream that the client opens after the pause."""
    await soon(time.paused(lambda seconds: seconds < LEASE / 5))
    return await worker.stream()


async def test_it_joins_again_with_nothing(time: Time) -> None:  # R12
    """When a stream is cut, memory answers until the sub-lease is over, or until the next stream begins."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        stream.end()
        await until(lambda: client._holding and client._holding._stream is None)
        assert client.verify_key_now(text)
        second = await next_stream(worker, time)
        assert client.verify_key_now(text) is None
        assert client.hold_state.lease_seconds == 0
        await second.joined()
        await second.grant()
        await until(lambda: client.hold_state.lease_seconds)
        assert client.verify_key_now(text) is None


async def test_uses_are_reported_until_they_arrived(time: Time) -> None:
    """What may have been lost with a stream is reported on the next one, with the latest time."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        await time.tick()
        assert len((await stream.until("uses")).uses) == 1
        await stream.grant()
        time.now += 1
        assert client.verify_key_now(text, (), "192.0.2.7")
        await time.tick()
        lost = await stream.until("uses")
        stream.end()
        second = await next_stream(worker, time)
        await second.joined()
        assert (await second.until("uses")) == lost
        await second.grant()
        await until(lambda: client.hold_state.lease_seconds)
        await time.tick()
        await second.until("renew")
        assert sum(request.HasField("uses") for request in second.seen) == 1


async def test_reports_are_bounded(time: Time) -> None:
    """At most a thousand uses in a message, each of another credential."""
    worker = Worker()
    async with holding(worker, hold_capacity=3000) as (client, stream):
        memory: Any = client._memory
        for number in range(2300):
            memory._keys.note(f"key_{number}", NOW, "", "", "acme", "")
        await time.tick()
        sizes = [len((await stream.until("uses")).uses) for _ in range(3)]
        assert sizes == [1000, 1000, 300]


async def test_evicted_credentials_are_released(time: Time) -> None:
    worker, texts = Worker(), [key_string() for _ in range(4)]
    async with following(worker) as client:
        stream = await worker.stream()
        await stream.joined(capacity=4)
        await stream.grant()
        await until(lambda: client.hold_state.lease_seconds)
        for text in texts:
            await held(client, stream, text, a_key())
        assert client.hold_state.size == 3
        await time.tick()
        assert (await stream.until("release")).key_prefixes == [prefix(texts[0])]


async def test_a_worker_that_grants_nothing_is_left(time: Time) -> None:
    """After the length of a sub-lease. Whatever is asked meanwhile is answered by the RPC."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())
        for _ in range(6):
            assert not stream.ended.is_set()
            time.now += 1
            await time.tick()
        await soon(stream.ended.wait())
        assert await client.verify_key(text)
        assert worker.asked == 1
        second = await next_stream(worker, time)
        await second.joined()
        await second.grant()
        await until(lambda: client.hold_state.lease_seconds)
        await held(client, second, text, a_key())


async def test_a_look_up_that_takes_too_long(time: Time) -> None:
    """Its caller asks by the RPC in time. Others do not wait until the worker has said something again."""
    worker, text, other = Worker(), key_string(), key_string()
    async with holding(worker) as (client, stream):
        assert await client.verify_key(text, deadline=2)
        assert worker.asked == 1
        assert await client.verify_key(other, deadline=60)
        assert worker.asked == 2
        asked = await stream.until("hold")
        assert asked.credential == text
        await stream.send(held=Response.Held(number=asked.number, credential=a_key()))
        await until(lambda: client.verify_key_now(text))
        await held(client, stream, other, a_key())
        assert worker.asked == 2


async def test_look_ups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_ups, "_MAX_AWAITED", 1)
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        waiting = asyncio.ensure_future(client.verify_key(text))
        await stream.until("hold")
        assert await client.verify_key(key_string())
        assert worker.asked == 1
        waiting.cancel()


async def test_a_caller_that_goes_does_not_take_the_answer_from_others() -> None:
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        first, second = (asyncio.ensure_future(client.verify_key(text)) for _ in range(2))
        asked = await stream.until("hold")
        first.cancel()
        await stream.send(held=Response.Held(number=asked.number, credential=a_key()))
        assert await soon(second)
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_session_in_doubt_is_asked_and_then_held_anew(time: Time) -> None:
    """Of the worker that is followed, so that what it knows is certain again."""
    worker, token = Worker(), key_string("session")
    async with holding(worker) as (client, stream):
        await held(client, stream, token, a_session(idle=46))
        time.now += 1
        assert client.verify_session_now(token) is None
        assert await client.verify_session(token)
        assert worker.sessions == 1
        await stream.hold(a_session(recorded=NOW + timedelta(seconds=1), idle=46))
        await until(lambda: client.verify_session_now(token))
        assert worker.sessions == 1


async def test_it_says_goodbye() -> None:
    """It gives up its sub-lease, reports uses, and leaves. Callers that wait are told that it is closed."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key())

        async def goodbye() -> None:
            while await stream.next() is not None:
                pass
            stream.end()

        leaving = asyncio.ensure_future(goodbye())
        waiting = asyncio.ensure_future(client.verify_key(key_string()))
        await until(lambda: stream.seen[-1].HasField("hold") and stream.seen[-1].hold.credential != text)
        await client.__aexit__(None, None, None)
        await soon(leaving)
        assert [request.WhichOneof("message") for request in stream.seen[-2:]] == ["uses", "leave"]
        assert client.verify_key_now(text) is None
        assert client.hold_state.size == 0
        with pytest.raises(Unavailable, match="was closed"):
            await soon(waiting)
        assert Request.Leave() == stream.seen[-1].leave


async def test_a_blocking_client_answers_in_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look at its event loop, once it knows a credential."""
    worker, text, token = Worker(), key_string(), key_string("session")
    async with worker.serving() as address:
        client = BlockingAuthClient(address, key="own", tls=None, deadline=60, hold=True)
        assert client.verify_key_now(text) is None
        assert await asyncio.to_thread(client.verify_key, text)
        assert worker.asked == 1
        stream = await worker.stream()
        await stream.joined()
        await stream.grant()
        await until(lambda: client.hold_state.lease_seconds)
        for call, credential in ((client.verify_key, a_key()), (client.verify_session, a_session())):
            asking = asyncio.ensure_future(asyncio.to_thread(call, text if credential.kind == KEY else token))
            await stream.hold(credential)
            assert await soon(asking)

        def loop(*_: object) -> None:
            raise AssertionError("it is not needed")

        with monkeypatch.context() as patched:
            patched.setattr(BlockingAuthClient, "_running_loop", loop)
            found: list[Any] = []
            asked = threading.Thread(
                target=lambda: found.extend(
                    (client.verify_key(text), client.verify_key_now(text), client.verify_session(token))
                )
            )
            asked.start()
            asked.join()
            assert client.verify_session_now(token)
        assert [verdict.code for verdict in found] == [VALID] * 3
        assert worker.asked == 1
        worker.end()
        await asyncio.to_thread(client.close)
        assert client.verify_key_now(text) is None


async def test_calls_of_a_server_are_authenticated_from_memory() -> None:
    """`Authenticated` needs nothing else."""
    worker, text = Worker(), key_string()
    async with holding(worker) as (client, stream):
        await held(client, stream, text, a_key(scopes=["unary:call"]))
        async with target(client) as on:
            (answer,) = await on.call("Unary", ("authorization", f"Bearer {text}"))
        assert answer == b"acme key_1 key"
        assert worker.asked == 0


async def test_a_client_that_does_not_hold() -> None:
    """It opens no stream, and asks for each verification."""
    worker, text = Worker(), key_string()
    async with following(worker, hold=False) as client:
        for _ in range(2):
            assert await client.verify_key(text)
        assert client.verify_key_now(text) is None
        assert client.hold_state == HoldState(asked=2)
    assert worker.streams.empty()


@pytest.mark.parametrize("capacity", [0, -1, 1_000_001])
def test_a_capacity_that_is_none(capacity: int) -> None:
    with pytest.raises(ValueError, match="hold_capacity must be from 1 to 1000000"):
        AuthClient("127.0.0.1:1", key="x", tls=None, hold=True, hold_capacity=capacity)
