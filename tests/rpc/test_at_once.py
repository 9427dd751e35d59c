"""Verifications that are answered from memory at once, as the lane asks for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from unittest import mock

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.app import serving as app_serving
from authsvc.rpc.rpc import AtOnce
from authsvc.rpc.served import Served
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service, eventually, serving
from tests.rpc.test_revoke import make

_VERIFY = "/authsvc.v1.KeyService/VerifyKey"
VALID, NOT_FOUND, REVOKED, EXPIRED, DISABLED, INSUFFICIENT_SCOPE = (
    resources_pb2.VerdictCode.Value(f"VERDICT_CODE_{name}")
    for name in ("VALID", "NOT_FOUND", "REVOKED", "EXPIRED", "DISABLED", "INSUFFICIENT_SCOPE")
)


class Call:
    """A call whose message has arrived. `status` is that by which it was ended."""

    account = ""

    def __init__(self, key_string: str) -> None:
        self._metadata = [("authorization", f"Bearer {key_string}")]
        self.message = b""
        self.callbacks: list[Callable[[Any], None]] = []
        self.status: grpc.Status | None = None

    def peer(self) -> str:
        return "ipv4:192.0.2.1:4711"

    def invocation_metadata(self) -> Iterable[tuple[str, str]]:
        return self._metadata

    def time_remaining(self) -> None:
        return None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    async def read(self) -> bytes:
        return self.message

    async def abort_with_status(self, status: grpc.Status) -> None:
        self.status = status
        raise grpc.aio.AbortError

    def over(self) -> None:
        for callback in self.callbacks:
            callback(self)


class Stand:
    """A service, and its verification at once."""

    def __init__(self, service: Service, served: Served) -> None:
        self.service, self.served = service, served
        at_once = served.rpcs[_VERIFY].at_once
        assert at_once is not None
        self._at_once: AtOnce = at_once

    def ask(self, call: Any, key_string: str, *scopes: str) -> Any:
        """Return the answer, or what has to be awaited."""
        call.message = pb.VerifyKeyRequest(key_string=key_string, required_scopes=scopes).SerializeToString()
        return self._at_once(call, call.message)

    def answer(self, caller: str, key_string: str, *scopes: str) -> pb.VerifyKeyResponse:
        """Return the answer, which memory has."""
        answer = self.ask(Call(caller), key_string, *scopes)
        assert isinstance(answer, bytes)
        return pb.VerifyKeyResponse.FromString(answer)

    @property
    def counts(self) -> dict[str, int]:
        """The verdicts so far."""
        return {code.value: count for code, count in self.service.app.verifier.counts.items() if count}


@pytest.fixture
async def stand(database_url: str, clock: Clock) -> AsyncIterator[Stand]:
    served: list[Served] = []

    def catching(*arguments: Any, **options: Any) -> Served:
        served.append(Served(*arguments, **options))
        return served[-1]

    async with AsyncExitStack() as stack:
        stack.enter_context(mock.patch.object(app_serving, "Served", catching))
        service = await stack.enter_async_context(serving(database_url, clock))
        yield Stand(service, served[0])


async def test_what_memory_knows_is_answered_at_once(stand: Stand) -> None:
    """A key, a wrong secret, a string that is none: the same answers as by a call that waits."""
    caller = (await make(stand.service, scopes=["keys:verify"])).key_string
    made = await make(stand.service, scopes=["orders:read"])
    client = stand.service.as_caller(caller)
    awaited = await client.VerifyKey(key_string=made.key_string)
    assert stand.answer(caller, made.key_string) == awaited
    assert stand.answer(caller, f" {made.key_string}\n").code == VALID
    assert stand.answer(caller, made.key_string, "orders:write").code == INSUFFICIENT_SCOPE
    for text in (made.key_string[:-1] + "!", "rubbish", ""):
        assert stand.answer(caller, text) == pb.VerifyKeyResponse(code=NOT_FOUND)


async def test_each_verdict_and_each_use_counts_once(stand: Stand) -> None:
    """Also if memory knows only the caller, so that the answer has to be awaited, or neither."""
    caller = (await make(stand.service, scopes=["keys:verify"])).key_string
    made = await make(stand.service, scopes=["orders:read"])
    gate = stand.served.entrance.gate
    for forgotten in (("caller", "key"), ("key",), ()):
        prefixes = {"caller": caller[:-51], "key": made.key_string[:-51]}
        stand.service.app.cache.forget([prefixes[name] for name in forgotten])
        before = stand.counts.get("VALID", 0)
        call = Call(caller)
        answer = stand.ask(call, made.key_string)
        if forgotten:
            answer = await answer
            assert gate._in_flight == 1
            call.over()
        assert gate._in_flight == 0
        assert pb.VerifyKeyResponse.FromString(answer).valid
        assert stand.counts["VALID"] == before + 2, forgotten


async def test_a_refusal_is_awaited_and_counts_once(stand: Stand) -> None:
    """A caller that is unknown, spent, or lacks the scope."""
    spent = await make(stand.service, scopes=["keys:verify"])
    weak = await make(stand.service, scopes=["keys:read"])
    await stand.service.admin.RevokeKey(key_id=spent.key.key_id)
    for made in (spent, weak):
        await stand.service.admin.VerifyKey(key_string=made.key_string)
    errors = stand.service.app.metrics.rpc_errors
    told = {
        "rubbish": "UNAUTHENTICATED",
        spent.key_string: "UNAUTHENTICATED",
        weak.key_string: "PERMISSION_DENIED",
    }
    for key_string, code in told.items():
        counted = errors.labels("VerifyKey", code)
        before = counted._value.get()
        call = Call(key_string)
        with pytest.raises(grpc.aio.AbortError):
            await stand.ask(call, "x")
        assert call.status is not None
        assert call.status.code.name == code
        assert counted._value.get() == before + 1
        call.over()

    async def in_flight() -> int:
        await asyncio.sleep(0)  # grpcio tells later that the administrator has its answer
        return stand.served.entrance.gate._in_flight

    await eventually(in_flight, lambda count: count == 0)


async def test_an_answer_that_was_kept_is_not_given_after_a_change(stand: Stand, clock: Clock) -> None:
    """Of scopes, of the policy, by expiry, by revocation: each is looked at before the answer is."""
    platform, admin = stand.service.admin_key, stand.service.admin
    made = await admin.CreateKey(
        owner_id="acme", display_name="x", scopes=["orders:read"], expire_time=_in(clock, 3600)
    )
    text, key_id = made.key_string, made.key.key_id

    async def code() -> int:
        """Return the verdict at once, after memory has it."""
        assert (await admin.VerifyKey(key_string=text)).code == stand.answer(platform, text).code
        return stand.answer(platform, text).code

    assert await code() == VALID
    assert stand.answer(platform, text).scopes == ["orders:read"]
    await admin.UpdateKey(
        key=resources_pb2.Key(key_id=key_id, scopes=["orders:write"]), update_mask={"paths": ["scopes"]}
    )
    assert await code() == VALID
    assert stand.answer(platform, text).scopes == ["orders:write"]
    await admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "keys_enabled": False}, update_mask={"paths": ["keys_enabled"]}
    )
    assert await code() == DISABLED
    await admin.UpdateOwnerPolicy(
        policy={"owner_id": "acme", "keys_enabled": True}, update_mask={"paths": ["keys_enabled"]}
    )
    assert await code() == VALID
    clock.advance(seconds=3600)
    assert stand.answer(platform, text).code == EXPIRED
    clock.advance(seconds=-3600)
    assert stand.answer(platform, text).code == VALID
    await admin.RevokeKey(key_id=key_id)
    assert await code() == REVOKED


async def test_nothing_is_answered_without_the_lease(stand: Stand) -> None:
    """Whatever is kept."""
    caller = (await make(stand.service, scopes=["keys:verify"])).key_string
    await stand.service.as_caller(caller).VerifyKey(key_string=caller)
    assert stand.answer(caller, caller).valid
    stand.service.app.lease.end("this is a test")
    call = Call(caller)
    with pytest.raises(grpc.aio.AbortError):
        await stand.ask(call, caller)
    assert call.status is not None
    assert call.status.code is grpc.StatusCode.UNAVAILABLE


def _in(clock: Clock, seconds: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(clock.now + timedelta(seconds=seconds))
    return moment
