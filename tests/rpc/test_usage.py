"""GetKeyUsage, PreviewRevocation and PreviewAllowedNetworks."""

import asyncio
from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest

from authsvc.gateway.access import Allowed, GatewayRequest
from authsvc.model.caller import Caller
from authsvc.model.errors import Unavailable
from authsvc.model.key_use import MAX_ROWS, OTHER
from authsvc.v1 import key_service_pb2 as pb
from tests.conftest import Clock, Service, serving
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import code_of
from tests.store.test_batch_writer import sql

ABORTED, NOT_FOUND = grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
IP, ELSEWHERE = "192.0.2.7", "198.51.100.9"


async def make(service: Service, owner_id: str = "acme", display_name: str = "Orders", **fields: Any) -> Any:
    return await service.admin.CreateKey(owner_id=owner_id, display_name=display_name, **fields)


async def use(service: Service, key_string: str, client_ip: str = IP, agent: str = "curl/8.5.0") -> None:
    answer = await service.admin.VerifyKey(key_string=key_string, client_ip=client_ip, user_agent=agent)
    assert answer.valid


async def usage(service: Service, key_id: str, **asked: Any) -> list[tuple[Any, ...]]:
    """Return the rows without the times."""
    await service.flush()
    found = await service.admin.GetKeyUsage(key_id=key_id, **asked)
    assert not found.next_page_token
    return [(row.day, row.verifier_id, row.network, row.program, row.uses) for row in found.usage]


async def admin_id(service: Service) -> str:
    found: str = (await service.admin.LookupKey(key_string=service.admin_key)).key_id
    return found


async def test_who_asked_from_where_with_what_and_how_often(service: Service, clock: Clock) -> None:
    """By day, verifier, network and program; the verifier by its name, too."""
    made = await make(service)
    other = await make(service, owner_id="authsvc", display_name="Gateway", scopes=["keys:verify"])
    gateway = service.as_caller(other.key_string)
    for _ in range(3):
        await use(service, made.key_string)
    await use(service, made.key_string, "192.0.2.200", "curl/8.5.1 libcurl")
    await use(service, made.key_string, "2001:db8:1:2::3", "")
    await gateway.VerifyKey(key_string=made.key_string)
    clock.advance(days=1)
    await use(service, made.key_string, ELSEWHERE, "python-requests/2.31.0")
    me, today = await admin_id(service), clock.now.date()
    yesterday = f"{today - timedelta(1)}"
    assert await usage(service, made.key.key_id) == [
        (f"{today}", me, "198.51.100.0/24", "python-requests/2.31", 1),
        *sorted(
            [
                (yesterday, me, "192.0.2.0/24", "curl/8.5", 4),
                (yesterday, me, "2001:db8:1::/48", "", 1),
                (yesterday, other.key.key_id, "", "", 1),
            ]
        ),
    ]
    found = await service.admin.GetKeyUsage(key_id=made.key.key_id, group_by=["USAGE_GROUP_VERIFIER"])
    rows = {row.verifier_name: (row.uses, row.day, row.network) for row in found.usage}
    assert rows == {"administrator": (6, "", ""), "Gateway": (1, "", "")}
    assert found.total_uses == 7
    last = max(row.last_use_time.ToDatetime(tzinfo=UTC) for row in found.usage)
    assert (
        last
        == clock.now
        == (await service.admin.GetKey(key_id=made.key.key_id)).last_use_time.ToDatetime(UTC)
    )


async def test_what_is_refused_is_no_use(service: Service) -> None:
    made = await make(service)
    await service.admin.VerifyKey(key_string=made.key_string, required_scopes=["orders:delete"])
    await service.admin.DisableKey(key_id=made.key.key_id)
    await service.admin.VerifyKey(key_string=made.key_string)
    assert await usage(service, made.key.key_id) == []


async def test_a_key_that_calls_authsvc_itself(service: Service) -> None:
    """Its verifier is authsvc."""
    other = await make(service, owner_id="authsvc", display_name="Gateway", scopes=["keys:verify"])
    for _ in range(2):
        await service.as_caller(other.key_string).VerifyKey(key_string="nothing")
    [(_, verifier_id, network, program, uses)] = await usage(service, other.key.key_id)
    assert (verifier_id, network, program, uses) == ("authsvc", "127.0.0.0/24", "", 2)


async def test_gateways(service: Service) -> None:
    """The verifier is the proxy, the network and the program are those of its client."""
    made = await make(service)
    proxy = Caller("key_proxy", "authsvc", ("keys:verify", "sessions:verify"))
    headers = {"authorization": f"Bearer {made.key_string}", "user-agent": "curl/8.5.0"}
    for _ in range(2):
        asked = GatewayRequest("GET", "/orders", headers, client_ip=ELSEWHERE)
        assert isinstance(await service.app.access.decide(proxy, asked), Allowed)
    [row] = await usage(service, made.key.key_id)
    assert row[1:] == ("key_proxy", "198.51.100.0/24", "curl/8.5", 2)


async def test_pages(service: Service, clock: Clock) -> None:
    """Each row is on one page, whatever the size; a token is of one query."""
    made = await make(service)
    for day in range(3):
        for number in range(3):
            await use(service, made.key_string, f"10.0.{number}.1", f"agent/{day}")
        clock.advance(days=1)
    whole = await usage(service, made.key.key_id)
    assert len(whole) == 9
    for groups in ([], ["USAGE_GROUP_NETWORK", "USAGE_GROUP_PROGRAM"], ["USAGE_GROUP_DAY"]):
        asked = {"key_id": made.key.key_id, "group_by": groups}
        rows = list((await service.admin.GetKeyUsage(**asked)).usage)
        found, token = [], ""
        while True:
            page = await service.admin.GetKeyUsage(**asked, page_size=2, page_token=token)
            assert page.total_uses == 9
            found += page.usage
            token = page.next_page_token
            if not token:
                break
        assert found == rows
    token = (await service.admin.GetKeyUsage(key_id=made.key.key_id, page_size=1)).next_page_token
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.GetKeyUsage(
            key_id=made.key.key_id, page_token=token, group_by=["USAGE_GROUP_DAY"]
        )
    assert set(refusal.fields) == {"page_token"}


async def test_days(service: Service, clock: Clock) -> None:
    """The days are those of UTC, both are included, and 30 are the default."""
    made = await make(service)
    clock.advance(days=100)
    for _ in range(40):
        await use(service, made.key_string)
        await service.flush()
        clock.advance(days=1)
    assert len(await usage(service, made.key.key_id)) == 29
    day = (clock.now - timedelta(days=5)).date()
    assert [
        row[0] for row in await usage(service, made.key.key_id, first_day=f"{day}", last_day=f"{day}")
    ] == [f"{day}"]
    for bad, fields in (
        ({"first_day": "2026-1-1"}, {"first_day"}),
        ({"last_day": "20260101"}, {"last_day"}),
        ({"first_day": "2026-02-30"}, {"first_day"}),
        ({"first_day": "2026-02-03", "last_day": "2026-02-02"}, {"first_day"}),
        ({"first_day": "2020-01-01", "last_day": "2026-01-01"}, {"first_day"}),
        ({"last_day": "x" * 11}, {"last_day"}),
        ({"group_by": [9]}, {"group_by[0]"}),
        ({"page_size": -1}, {"page_size"}),
    ):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.GetKeyUsage(key_id=made.key.key_id, **bad)
        assert set(refusal.fields) == fields
    for first_day, last_day in (("0001-01-01", "0001-01-01"), ("9999-12-31", ""), ("", "9999-12-31")):
        await service.admin.GetKeyUsage(key_id=made.key.key_id, first_day=first_day, last_day=last_day)


async def test_a_use_at_midnight_counts_for_one_of_the_days(service: Service, clock: Clock) -> None:
    """A count is of the day of its last use, which is right but for the time between two writes."""
    made = await make(service)
    midnight = clock.now.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    clock.advance(seconds=(midnight - clock.now).total_seconds() - 2)
    await use(service, made.key_string)
    await service.flush()
    clock.advance(seconds=1)
    await use(service, made.key_string)
    clock.advance(seconds=2)
    await use(service, made.key_string)
    rows = [(row[0], row[-1]) for row in await usage(service, made.key.key_id)]
    assert rows == [(f"{midnight.date()}", 2), (f"{midnight.date() - timedelta(1)}", 1)]


async def test_a_flood_of_agents_and_addresses(service: Service, clock: Clock) -> None:
    """A key has so many rows on a day, however many writes there are; another verifier is still seen."""
    made, calm = await make(service), await make(service, owner_id="globex")
    other = await make(service, owner_id="authsvc", display_name="Gateway", scopes=["keys:verify"])
    for batch in range(4):
        for number in range(70):
            await use(service, made.key_string, f"10.{batch}.{number}.1", f"agent{number}/{batch}")
        await service.flush()
    await use(service, calm.key_string)
    await service.as_caller(other.key_string).VerifyKey(key_string=made.key_string, client_ip=ELSEWHERE)
    await service.flush()
    found = await service.admin.GetKeyUsage(key_id=made.key.key_id, page_size=1000)
    assert found.total_uses == 281
    assert len(found.usage) <= MAX_ROWS
    assert other.key.key_id in {row.verifier_id for row in found.usage}
    [rest] = [row for row in found.usage if row.network == OTHER and row.verifier_id != other.key.key_id]
    assert (rest.program, rest.verifier_id) == (OTHER, await admin_id(service))
    assert len(await usage(service, calm.key.key_id)) == 1


async def test_a_flood_of_verifiers(service: Service, database_url: str) -> None:
    """Verifiers beyond those that there is room for are one."""
    made, counts = await make(service), service.app.usage
    for number in range(300):
        now = service.clock.now
        counts.note(made.key.key_id, now, f"10.0.{number % 256}.1", "", "acme", f"ses_{number}")
        if number % 50 == 0:
            await service.flush()
    await service.flush()
    listed = "SELECT verifier_id, network, uses FROM authsvc.key_usage WHERE key_id = $1"
    rows = await sql(database_url, listed, made.key.key_id)
    assert sum(row["uses"] for row in rows) == 300
    assert len(rows) <= MAX_ROWS
    assert (OTHER, OTHER) in {(row["verifier_id"], row["network"]) for row in rows}


async def test_three_workers_add_up(service: Service, database_url: str, clock: Clock) -> None:
    """Also when they write the same rows at the same time, in another order."""
    keys = [await make(service, display_name=f"{number}") for number in range(5)]
    async with serving(database_url, clock) as second, serving(database_url, clock) as third:
        workers = (service, second, third)
        for _ in range(4):
            for number, worker in enumerate(workers):
                client = worker.as_caller(service.admin_key)
                for key in keys[number:] + keys[:number]:
                    for each in range(number + 1):
                        await client.VerifyKey(key_string=key.key_string, client_ip=f"10.0.{each}.1")
            await asyncio.gather(*(worker.flush() for worker in workers))
        for key in keys:
            assert sorted(row[-1] for row in await usage(service, key.key.key_id)) == [4, 8, 12]


async def test_a_write_that_fails_is_repeated(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """No count is lost, and none is doubled."""
    made = await make(service)
    store, fails = service.app.usage._store, [True]
    record = store.record_key_uses

    async def failing(uses: Any) -> None:
        if fails:
            raise Unavailable("gone", reason="GONE", retry_after=1)
        await record(uses)

    monkeypatch.setattr(store, "record_key_uses", failing)
    await use(service, made.key_string)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await service.app.usage.flush()
        await use(service, made.key_string)
    fails.clear()
    assert [row[-1] for row in await usage(service, made.key.key_id)] == [3]


async def test_a_deleted_key(service: Service, database_url: str, clock: Clock) -> None:
    """Its counts are deleted with it, and what is written later is ignored."""
    made = await make(service)
    await use(service, made.key_string)
    await service.flush()
    await use(service, made.key_string)
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)
    await service.flush()
    assert service.app.usage.refused == 0
    key_id = made.key.key_id
    assert await sql(database_url, "SELECT FROM authsvc.key_usage WHERE key_id = $1", key_id) == []
    with refused(NOT_FOUND, "KEY_NOT_FOUND"):
        await service.admin.GetKeyUsage(key_id=key_id)


async def test_old_counts_are_purged(database_url: str, clock: Clock) -> None:
    async with serving(database_url, clock, usage_retention=timedelta(days=2)) as service:
        made = await make(service)
        for _ in range(5):
            await use(service, made.key_string)
            await service.flush()
            clock.advance(days=1)
        await service.app.purge.step()
        days = [row[0] for row in await usage(service, made.key.key_id)]
        assert days == [f"{(clock.now - timedelta(ago)).date()}" for ago in (1, 2)]


async def test_programs_say_nothing_else_of_the_agent(service: Service, database_url: str) -> None:
    """A key string in a user agent is not stored, and neither is what is not a name."""
    made = await make(service)
    for agent in (f"{made.key_string}/1.0", f"curl/8.5 {made.key_string}", "a\u202eb/1", "\x00", "x" * 9000):
        await use(service, made.key_string, agent=agent)
    rows = await usage(service, made.key.key_id)
    assert sum(row[-1] for row in rows) == 5
    assert not any(made.key_string[30:] in f"{row}" for row in rows)
    assert service.app.usage.refused == 0


# PreviewRevocation.


async def test_a_preview_shows_who_would_be_cut_off(service: Service, clock: Clock) -> None:
    made = await make(service, scopes=["keys:write", "sessions:write", "orders:read"])
    await use(service, made.key_string)
    clock.advance(days=2)
    await use(service, made.key_string, ELSEWHERE)
    tenant = service.as_caller(made.key_string)
    await tenant.CreateKey(owner_id="acme", display_name="Made", scopes=["orders:read"])
    await tenant.CreateSession(owner_id="acme")
    await service.flush()
    preview = await service.admin.PreviewRevocation(key_id=made.key.key_id)
    assert preview.key.key_id == made.key.key_id
    networks = [user.network for user in preview.users]
    assert networks.index("198.51.100.0/24") < networks.index("192.0.2.0/24")
    assert (preview.created_keys, preview.created_sessions) == (1, 1)
    assert not preview.successor_key_id
    assert not preview.more_users
    assert len((await service.admin.PreviewRevocation(key_id=made.key.key_id, days=1)).users) == 2

    new = await service.admin.RotateKey(key_id=made.key.key_id, grace_period=timedelta(days=1))
    preview = await service.admin.PreviewRevocation(key_id=made.key.key_id)
    assert preview.successor_key_id == new.key.key_id
    assert not preview.HasField("successor_last_use_time")
    await use(service, new.key_string)
    await service.flush()
    preview = await service.admin.PreviewRevocation(key_id=made.key.key_id)
    assert preview.successor_last_use_time.ToDatetime(UTC) == clock.now


async def test_an_etag_stands_for_what_was_shown(service: Service, clock: Clock) -> None:
    """More uses by those that were shown change nothing, nor do other programs, nor another day."""
    made = await make(service)
    await use(service, made.key_string)
    await service.flush()
    preview = await service.admin.PreviewRevocation(key_id=made.key.key_id)
    clock.advance(days=3)
    await use(service, made.key_string, agent="wget/1.0")
    await service.flush()
    revoked = await service.admin.RevokeKey(key_id=made.key.key_id, etag=preview.etag)
    assert revoked.HasField("revoke_time")
    assert await code_of(service, made.key_string) == "REVOKED"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "KEY_ALREADY_REVOKED"):
        await service.admin.RevokeKey(key_id=made.key.key_id, etag=preview.etag)


@pytest.mark.parametrize("change", ["update", "network", "verifier", "made up", "another key's", "absurd"])
async def test_an_outdated_preview_revokes_nothing(service: Service, change: str) -> None:
    made = await make(service)
    other = await make(service, owner_id="authsvc", display_name="Gateway", scopes=["keys:verify"])
    await use(service, made.key_string)
    await service.flush()
    etag = (await service.admin.PreviewRevocation(key_id=made.key.key_id)).etag
    match change:
        case "update":
            await service.admin.UpdateKey(
                key={"key_id": made.key.key_id, "description": "new"}, update_mask={"paths": ["description"]}
            )
        case "network":
            await use(service, made.key_string, ELSEWHERE)
        case "verifier":
            gateway = service.as_caller(other.key_string)
            await gateway.VerifyKey(key_string=made.key_string, client_ip=IP)
        case "another key's":
            etag = (await service.admin.PreviewRevocation(key_id=other.key.key_id)).etag
        case "absurd":
            etag = "99999999-" + "0" * 16
        case _:
            etag = "x"
    await service.flush()
    for revoke_in in (timedelta(), timedelta(hours=1)):
        with refused(ABORTED, "ETAG_MISMATCH") as refusal:
            await service.admin.RevokeKey(key_id=made.key.key_id, etag=etag, revoke_in=revoke_in)
        assert "preview the revocation again" in refusal.message
        assert refusal.info.metadata["key_id"] == made.key.key_id
    assert await code_of(service, made.key_string) == "VALID"
    fresh = (await service.admin.PreviewRevocation(key_id=made.key.key_id)).etag
    await service.admin.RevokeKey(key_id=made.key.key_id, etag=fresh)
    assert await code_of(service, made.key_string) == "REVOKED"


async def test_a_revocation_races_an_update(service: Service) -> None:
    """Either the update is first, and the revocation is refused; or the key is revoked, and not updated."""
    outcomes = set()
    for _ in range(8):
        made = await make(service)
        etag = (await service.admin.PreviewRevocation(key_id=made.key.key_id)).etag
        changed = {"key_id": made.key.key_id, "scopes": ["a"]}
        calls = [
            service.admin.RevokeKey(key_id=made.key.key_id, etag=etag),
            service.admin.UpdateKey(key=changed, update_mask={"paths": ["scopes"]}),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        failed = [isinstance(answer, grpc.aio.AioRpcError) for answer in answers]
        assert sorted(failed) == [False, True]
        key = await service.admin.GetKey(key_id=made.key.key_id)
        assert key.HasField("revoke_time") is not failed[0]
        outcomes.add(key.HasField("revoke_time"))
    assert outcomes


async def test_tenants_see_their_own_keys(service: Service) -> None:  # rule 19
    """Not the names of verifying keys of the platform; other owners' keys do not exist."""
    made = await make(service, scopes=["keys:read", "orders:read"])
    other = await make(service, owner_id="globex")
    await use(service, made.key_string)
    await service.flush()
    tenant = service.as_caller(made.key_string)
    [row] = [
        row
        for row in (await tenant.GetKeyUsage(key_id=made.key.key_id)).usage
        if row.network == "192.0.2.0/24"
    ]
    assert row.verifier_id == await admin_id(service)
    assert row.verifier_name == ""
    for method in (tenant.GetKeyUsage, tenant.PreviewRevocation, tenant.GetRotationStatus):
        for key_id in (other.key.key_id, "key_" + "0" * 26):
            with refused(NOT_FOUND, "KEY_NOT_FOUND"):
                await method(key_id=key_id)
    with refused(NOT_FOUND, "KEY_NOT_FOUND"):
        await tenant.PreviewAllowedNetworks(key_id=other.key.key_id)
    with refused(grpc.StatusCode.PERMISSION_DENIED, "OWNER_NOT_PERMITTED"):
        await tenant.PreviewAllowedNetworks(owner_id="globex")


# PreviewAllowedNetworks.


async def test_which_networks_would_be_refused(service: Service) -> None:
    """Wholly, in part, or by want of an address; of a key, and of all keys of an owner."""
    made, second = await make(service), await make(service)
    other = await make(service, owner_id="globex")
    for address in (IP, ELSEWHERE, "203.0.113.1", "", "2001:db8::1"):
        await use(service, made.key_string, address)
    await use(service, second.key_string, ELSEWHERE)
    await use(service, other.key_string, "10.0.0.1")
    await service.flush()
    # Two halves of a network allow all of it.
    networks = ["198.51.100.0/25", "198.51.100.128/25", "192.0.2.0/28", "2001:db8::/32"]

    async def preview(**target: str) -> tuple[set[Any], int]:
        found = await service.admin.PreviewAllowedNetworks(**target, allowed_networks=networks)
        assert not found.more_networks
        rows = {
            (row.network, pb.NetworkRefusal.Name(row.refusal)[16:], row.uses, row.keys)
            for row in found.refused_networks
        }
        return rows, found.allowed_uses

    refused_rows = {("192.0.2.0/24", "PART", 1, 1), ("203.0.113.0/24", "WHOLE", 1, 1), ("", "WHOLE", 1, 1)}
    assert await preview(key_id=made.key.key_id) == (refused_rows, 2)
    assert await preview(owner_id="acme") == (refused_rows, 3)
    nothing = await service.admin.PreviewAllowedNetworks(owner_id="acme")
    assert (len(nothing.refused_networks), nothing.allowed_uses) == (0, 6)
    for bad, fields in (
        ({"owner_id": "acme", "allowed_networks": ["192.0.2.1/24"]}, {"allowed_networks[0]"}),
        ({"owner_id": "acme", "allowed_networks": ["10.0.0.0/8"] * 51}, {"allowed_networks"}),
        ({"owner_id": "acme", "key_id": made.key.key_id}, {""}),
        ({}, {""}),
        ({"owner_id": "acme", "days": 401}, {"days"}),
    ):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.PreviewAllowedNetworks(**bad)
        assert set(refusal.fields) == fields


async def test_networks_that_were_not_counted_separately(service: Service) -> None:
    made = await make(service)
    for number in range(150):
        await use(service, made.key_string, f"10.0.{number}.1")
    await service.flush()
    found = await service.admin.PreviewAllowedNetworks(
        key_id=made.key.key_id, allowed_networks=["10.0.0.0/8"]
    )
    assert [pb.NetworkRefusal.Name(row.refusal) for row in found.refused_networks] == [
        "NETWORK_REFUSAL_UNKNOWN"
    ]
    assert found.allowed_uses + found.refused_networks[0].uses == 150
