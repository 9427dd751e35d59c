"""The check over HTTP uses the same entrance as gRPC: gate, limits, refusals, metrics."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from authsvc.gateway.http_check import OPERATION
from authsvc.model.rate import Rate
from authsvc.store.verification import VerificationStore
from authsvc.v1 import audit_service_pb2
from tests.conftest import Client, Clock, Service, serving
from tests.gateway.client import Answer, get_http1
from tests.gateway.conftest import ASKS, bearer, key
from tests.rpc.test_limits import Stopwatch, metric, stopwatch

__all__ = ["stopwatch"]

_ABOUT: list[tuple[str, str | bytes]] = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/")]


@asynccontextmanager
async def served(database_url: str, clock: Clock, **settings: Any) -> AsyncIterator[Service]:
    async with serving(database_url, clock, http_listen="127.0.0.1:0", **settings) as service:
        yield service


async def check(
    service: Service, own: str, *headers: tuple[str, str | bytes], target: str = "/check"
) -> Answer:
    """Ask as a proxy with the key `own`."""
    return await get_http1(service.app.http_port, target, [("X-Authsvc-Key", own), *_ABOUT, *headers])


def reason(answer: Answer) -> str:
    found: str = json.loads(answer.body)["reason"]
    return found


def errors(service: Service, code: str) -> float:
    return (
        service.app.metrics.registry.get_sample_value(
            "authsvc_rpc_errors_total", {"method": OPERATION, "code": code}
        )
        or 0
    )


async def test_a_proxy_that_guesses_waits(database_url: str, clock: Clock, stopwatch: Stopwatch) -> None:
    """Guesses count by address, together with those over gRPC; a cached key is still accepted."""
    async with served(database_url, clock, stopwatch=stopwatch, failure_limit=Rate(2, 3)) as service:
        own, _ = await key(service, *ASKS, owner_id="authsvc")
        cold, _ = await key(service, *ASKS, owner_id="authsvc")
        text, _ = await key(service)
        assert (await check(service, own, *bearer(text))).status == 200
        for _ in range(2):
            assert reason(await check(service, "rubbish")) == "GATEWAY_FAULT"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Client(service.channel, "rubbish").VerifyKey(key_string="x")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        runs = service.app.hasher.runs
        for guess in ("rubbish", cold):
            answer = await check(service, guess)
            assert (answer.status, reason(answer), answer.headers["retry-after"]) == (
                503,
                "RATE_LIMITED",
                "1",
            )
        assert service.app.hasher.runs == runs
        assert metric(service, "failure") == 2
        assert (await check(service, own, *bearer(text))).status == 200
        stopwatch.now += 0.5
        assert (await check(service, cold, *bearer(text))).status == 200
        assert (errors(service, "UNAUTHENTICATED"), errors(service, "RESOURCE_EXHAUSTED")) == (2, 2)


async def test_an_empty_key_is_nobodys(
    database_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty key does not make the caller anonymous; beside a valid one it is ignored."""
    async with served(database_url, clock, anonymous_scopes=",".join(ASKS)) as service:
        own, _ = await key(service, *ASKS, owner_id="authsvc")
        text, _ = await key(service)

        async def status(*keys: str) -> int:
            headers = [("x-authsvc-key", text) for text in keys]
            about = [*headers, *_ABOUT, *bearer(text)]
            return (await get_http1(service.app.http_port, "/check", about)).status

        assert await status() == 200
        for empty in ("", " "):
            caplog.clear()
            assert await status(empty) == 500
            assert "CREDENTIAL_MISSING" in caplog.text
            assert await status(empty, own) == 200
            assert await status(own, empty) == 200
        assert await status(own, own) == 500


@pytest.mark.parametrize("target", ["/check", "/healthz", "/readyz", "/other"])
async def test_floods_are_delayed(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """By address, above a rate, for every path; a known proxy is not delayed."""
    monkeypatch.setattr("authsvc.entrance.strangers.DELAY_SECONDS", 0.0)
    async with served(database_url, clock, stranger_limit=Rate(0.001, 2)) as service:
        own, _ = await key(service, *ASKS, owner_id="authsvc")
        text, _ = await key(service)
        for _ in range(5):
            await check(service, "rubbish", target=target)
        assert metric(service, "stranger") == 3
        assert (await check(service, own, *bearer(text))).status == 200
        assert metric(service, "stranger") == 3


async def test_calls_in_flight_are_bounded(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP and gRPC together; the refusal has the time to retry after."""
    async with served(database_url, clock, in_flight_limit=4) as service:
        own, _ = await key(service, *ASKS, owner_id="authsvc")
        text, _ = await key(service)
        assert (await check(service, own, *bearer(text))).status == 200
        cold = [(await key(service))[0] for _ in range(4)]
        arrived, go_on = asyncio.Semaphore(0), asyncio.Event()
        find = VerificationStore.find_credential

        async def wait(self: VerificationStore, *given: Any) -> Any:
            arrived.release()
            await go_on.wait()
            return await find(self, *given)

        async def once_let_in(text: str) -> Answer:
            # A call over gRPC leaves the gate when its answer is sent, which may be after it has arrived.
            while (answer := await check(service, own, *bearer(text))).status == 503:
                pass
            return answer

        monkeypatch.setattr(VerificationStore, "find_credential", wait)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(once_let_in(each)) for each in cold]
            for _ in cold:
                await arrived.acquire()
            in_flight = service.app.metrics.registry.get_sample_value
            assert in_flight("authsvc_calls_in_flight", {"kind": "verification"}) == 4
            assert in_flight("authsvc_calls_in_flight_limit") == 4
            refused = metric(service, "in_flight")
            answer = await check(service, own, *bearer(text))
            assert (answer.status, reason(answer)) == (503, "IN_FLIGHT_LIMIT")
            assert answer.headers["retry-after"] == "1"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.admin.VerifyKey(key_string=text)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert metric(service, "in_flight") == refused + 2
            go_on.set()
        assert [task.result().status for task in waiting] == [200] * 4
        assert (await check(service, own, *bearer(text))).status == 200


async def test_its_latency_and_its_errors_are_measured(database_url: str, clock: Clock) -> None:
    async with served(database_url, clock) as service:
        own, _ = await key(service, *ASKS, owner_id="authsvc")
        text, _ = await key(service)
        await check(service, own, *bearer(text))
        await check(service, own)
        await check(service, "rubbish")
        sample = service.app.metrics.registry.get_sample_value
        assert sample("authsvc_rpc_seconds_count", {"method": OPERATION}) == 3
        # A client without a credential is an answer, and not an error of the proxy.
        assert errors(service, "UNAUTHENTICATED") == 1


async def test_a_proxy_that_is_refused_is_in_the_audit_log(
    database_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:  # rule 28
    """A proxy whose key lacks a scope, and one whose key was revoked."""
    async with served(database_url, clock) as service:
        weak, weak_id = await key(service, "keys:verify", owner_id="authsvc")
        revoked, revoked_id = await key(service, *ASKS, owner_id="authsvc")
        await service.admin.RevokeKey(key_id=revoked_id)
        for own in (weak, revoked):
            assert reason(await check(service, own)) == "GATEWAY_FAULT"
        assert "SCOPE_MISSING: HttpCheck needs the scope sessions:verify" in caplog.text
        await service.app.refusals.flush()
        events = (await service.admin.ListAuditEvents(owner_id="authsvc", page_size=1000)).events
        refused = [event for event in events if event.action == audit_service_pb2.AUDIT_ACTION_REFUSED]
        assert {(event.actor_id, event.details["method"], event.details["reason"]) for event in refused} == {
            (weak_id, "HttpCheck", "SCOPE_MISSING"),
            (revoked_id, "HttpCheck", "CREDENTIAL_REVOKED"),
        }


async def test_refusals_for_our_own_state_are_not_delayed(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy with a valid key is refused without delay when we cannot serve it: it is not unknown."""
    monkeypatch.setattr("authsvc.entrance.strangers.DELAY_SECONDS", 0.0)
    async with served(database_url, clock, stranger_limit=Rate(0.001, 1)) as service:
        own, _ = await key(service, *ASKS, owner_id="authsvc")
        assert (await check(service, own)).status == 401
        service.app.lease.end("a test says so")
        for _ in range(3):
            assert reason(await check(service, own)) == "LEASE_OVER"
        assert metric(service, "stranger") == 0


async def test_a_wrong_key_does_not_delay_health(
    database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy and the health probe of its host may share an address."""
    monkeypatch.setattr("authsvc.entrance.strangers.DELAY_SECONDS", 0.0)
    async with served(database_url, clock, stranger_limit=Rate(0.001, 1)) as service:
        for _ in range(3):
            await check(service, "rubbish")
        assert metric(service, "stranger") == 2
        assert (await check(service, "rubbish", target="/readyz")).status == 200
        assert metric(service, "stranger") == 2
