"""What operators and callers see of clients that verify by themselves."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest

from authsvc.audit.check import AuditCheck
from authsvc.v1 import audit_service_pb2 as audit_pb
from authsvc.v1 import key_service_pb2 as key_pb
from authsvc.v1.key_service_pb2_grpc import KeyServiceStub
from tests.conftest import Service, eventually, serving
from tests.rpc.following import FollowingClient, following
from tests.rpc.test_replicas import status_of

CONFIRMED = audit_pb.AUDIT_ACTION_CHANGE_CONFIRMED


async def made_key(service: Service, owner_id: str = "acme") -> Any:
    return await service.admin.CreateKey(owner_id=owner_id, display_name="Orders", scopes=["orders:read"])


@asynccontextmanager
async def holding(
    service: Service, *key_strings: str, instance: str = "shop 7"
) -> AsyncIterator[FollowingClient]:
    """Yield a client that holds keys, and has a sub-lease."""
    async with following(service.address, service.admin_key) as client:
        await client.join(instance=instance)
        for key_string in key_strings:
            await client.hold(key_string)
        await client.renew()
        yield client
        if not client.call.done():
            await client.send(leave={})  # otherwise it may answer for some seconds


async def confirming(client: FollowingClient, call: Any) -> Any:
    """Await a call that waits until the client has confirmed; confirm."""
    waiting = asyncio.ensure_future(call)
    await client.confirm(await client.read("forget"))
    return await waiting


async def changed(service: Service, method: str, request: Any) -> tuple[Any, dict[str, str]]:
    """Call by the administrator; return the answer and the trailers about its wait."""
    metadata = [("authorization", f"Bearer {service.admin_key}")]
    call = getattr(KeyServiceStub(service.channel), method)(request, metadata=metadata)
    return await call, told(await call.trailing_metadata())


def told(trailers: Any) -> dict[str, str]:
    return {name: value for name, value in trailers or () if name in ("authsvc-holders", "authsvc-wait-ms")}


async def rows(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    count: int = await connection.fetchval("SELECT count(*) FROM authsvc.client_reports")
    await connection.close()
    return count


async def age_reports(database_url: str, age: str) -> None:
    """Make the reports older, and those of other processes."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE authsvc.client_reports SET report_time = report_time - $1::text::interval,"
        " worker_process_id = gen_random_uuid()",
        age,
    )
    await connection.close()


async def test_who_follows(database_url: str) -> None:
    """Each client is shown with the worker that it follows and what it holds, by any worker."""
    async with serving(database_url, None) as one, serving(database_url, None) as other:
        keys = [await made_key(one) for _ in range(2)]
        async with holding(one, *(key.key_string for key in keys)):
            await one.app.client_report.write()
            answer = await status_of(other, one.admin_key)
            [client] = answer.clients
            [worker] = [each for each in answer.workers if each.worker_id == str(one.app.follower.worker_id)]
            assert (client.host, client.pid) == (worker.host, worker.pid)
            assert (client.instance, client.held_count, client.late_count) == ("shop 7", 2, 0)
            assert client.credential_id.startswith("key_")
            assert client.address == "127.0.0.1"
            assert not client.HasField("behind_since")
            assert answer.omitted_client_count == 0


async def test_the_last_client_goes(service: Service, database_url: str) -> None:
    """Its worker deletes the row."""
    async with holding(service) as client:
        await service.app.client_report.write()
        assert await rows(database_url) == 1
        await client.send(leave={})
        assert await client.ended() is grpc.StatusCode.OK
        await service.app.client_report.write()
        assert await rows(database_url) == 0
        assert not (await status_of(service)).clients


async def test_a_worker_that_stops(database_url: str) -> None:
    """Leaves no row."""
    async with serving(database_url, None) as service:
        async with holding(service):
            await service.app.client_report.write()
        assert await rows(database_url) == 1
    assert await rows(database_url) == 0


async def test_reports_are_written_by_themselves(service: Service) -> None:
    async with holding(service):
        await eventually(lambda: status_of(service), lambda status: len(status.clients) == 1)


async def test_nothing_is_written_without_clients(service: Service, database_url: str) -> None:
    before = service.app.database.checkouts
    await service.app.client_report.write()
    assert service.app.database.checkouts == before
    assert await rows(database_url) == 0


async def test_who_delays_a_change(service: Service) -> None:
    """The client is shown with the time since when, before those that delay nothing."""
    key = await made_key(service)
    async with holding(service, key.key_string) as client, holding(service, instance="a"):
        revoking = asyncio.ensure_future(service.admin.RevokeKey(key_id=key.key.key_id))
        forget = await client.read("forget")
        await service.app.client_report.write()
        slow, other = (await status_of(service)).clients
        assert (slow.instance, other.instance) == ("shop 7", "a")
        assert slow.HasField("behind_since")
        assert not other.HasField("behind_since")
        await client.confirm(forget)
        await revoking


async def test_reports_of_the_dead(service: Service, database_url: str) -> None:
    """What a worker has reported is believed for some seconds, and deleted by the next that reports."""
    async with holding(service):
        await service.app.client_report.write()
    await age_reports(database_url, "11 seconds")
    assert not (await status_of(service)).clients
    key = await made_key(service)
    _, trailers = await changed(service, "RevokeKey", key_pb.RevokeKeyRequest(key_id=key.key.key_id))
    assert trailers["authsvc-holders"] == "0"
    await age_reports(database_url, "1 minute")
    async with holding(service):
        await service.app.client_report.write()
        assert await rows(database_url) == 1


async def test_an_instance_of_any_text(service: Service) -> None:
    async with holding(service, instance="\0\x1b[31m\U0001f600"):
        await service.app.client_report.write()
        [client] = (await status_of(service)).clients
        assert client.instance == "\ufffd\x1b[31m\U0001f600"


async def test_a_change_says_what_it_waited_for(service: Service, transport: str) -> None:
    """In trailers of each answer: of those to changes, and of refusals that are answered after the wait."""
    key = await made_key(service)
    async with holding(service, key.key_string) as client:
        await service.app.client_report.write()
        request = key_pb.RevokeKeyRequest(key_id=key.key.key_id)
        _, trailers = await confirming(client, changed(service, "RevokeKey", request))
        assert trailers["authsvc-holders"] == "1"
        assert re.fullmatch(r"\d+\.\d", trailers["authsvc-wait-ms"])
        with pytest.raises(grpc.aio.AioRpcError, match="already revoked") as caught:
            await service.admin.RevokeKey(key_id=key.key.key_id)
        assert told(caught.value.trailing_metadata()).keys() == trailers.keys()


async def test_the_trailers_of_a_rotation(service: Service, transport: str) -> None:
    """Its answer is written by the endpoint, because it has a key string."""
    key = await made_key(service)
    _, trailers = await changed(service, "RotateKey", key_pb.RotateKeyRequest(key_id=key.key.key_id))
    assert trailers["authsvc-holders"] == "0"
    assert float(trailers["authsvc-wait-ms"]) > 0


async def test_calls_that_wait_for_nobody(service: Service, transport: str) -> None:
    """Have no such trailers."""
    request = key_pb.CreateKeyRequest(owner_id="acme", display_name="Orders")
    answer, trailers = await changed(service, "CreateKey", request)
    assert trailers == {}
    _, trailers = await changed(service, "GetKey", key_pb.GetKeyRequest(key_id=answer.key.key_id))
    assert trailers == {}


async def test_the_audit_log_says_it(service: Service) -> None:
    """By a second event in the same chain, which names the first one; and the chains are whole."""
    keys = [await made_key(service, owner_id) for owner_id in ("acme", "acme", "globex")]
    async with holding(service, *(key.key_string for key in keys)) as client:
        await service.app.client_report.write()
        ids = [key.key.key_id for key in keys]
        await confirming(client, service.admin.BatchRevokeKeys(key_ids=ids))
    await service.app.confirmations.flush()
    for owner_id, count in ("acme", 2), ("globex", 1):
        events = (await service.admin.ListAuditEvents(owner_id=owner_id)).events
        confirmed = {event.target_id: event for event in events if event.action == CONFIRMED}
        revoked = [event for event in events if event.action == audit_pb.AUDIT_ACTION_KEY_REVOKED]
        assert len(confirmed) == len(revoked) == count
        for event in revoked:
            second = confirmed[event.target_id]
            assert second.details["event_id"] == event.event_id
            assert second.details["holders"] == "1"
            assert float(second.details["wait_ms"]) > 0
            assert (second.actor_id, second.client_ip) == (event.actor_id, event.client_ip)
    faults: list[object] = []
    await AuditCheck(service.app.database, on_fault=faults.append).run()
    assert faults == []


async def test_no_second_event_without_clients(service: Service) -> None:
    key = await made_key(service)
    await service.admin.RevokeKey(key_id=key.key.key_id)
    await service.app.confirmations.flush()
    events = (await service.admin.ListAuditEvents(owner_id="acme")).events
    assert CONFIRMED not in {event.action for event in events}


async def test_metrics(database_url: str) -> None:
    """How many follow, what they hold, and how many were refused."""
    async with serving(database_url, None, holders=1) as service:
        keys = [await made_key(service) for _ in range(3)]
        read = service.app.metrics.registry.get_sample_value
        async with holding(service, *(key.key_string for key in keys)):
            async with following(service.address, service.admin_key) as refused:
                with pytest.raises(grpc.aio.AioRpcError, match="too many clients"):
                    await refused.join()
            assert read("authsvc_clients_following") == 1
            assert read("authsvc_clients_held") == 3
            assert read("authsvc_clients_late_total") == 0
            assert read("authsvc_clients_refused_total", {"reason": "HOLDER_LIMIT"}) == 1
            assert read("authsvc_clients_refused_total", {"reason": "HOLDER_LATE"}) == 0
