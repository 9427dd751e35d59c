"""allowed_networks of keys and of policies, and any_of_scopes."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from authsvc.v1 import audit_service_pb2, resources_pb2
from tests.conftest import Client, Clock, Service
from tests.rpc.refusal import refused
from tests.rpc.test_policies import set_policy
from tests.rpc.test_revoke import make
from tests.rpc.test_update import update

OFFICE, ELSEWHERE = "192.0.2.0/24", "203.0.113.0/24"
REFUSED = audit_service_pb2.AUDIT_ACTION_KEY_ADDRESS_REFUSED


async def code(service: Service, key_string: str, client_ip: str = "", /, **fields: Any) -> str:
    verdict = await service.admin.VerifyKey(key_string=key_string, client_ip=client_ip, **fields)
    return resources_pb2.VerdictCode.Name(verdict.code).removeprefix("VERDICT_CODE_")


async def events(service: Service) -> list[dict[str, str]]:
    await service.app.refused_addresses.flush()
    page = await service.admin.ListAuditEvents(owner_id="acme", filter={"actions": [REFUSED]})
    return [dict(event.details) for event in page.events]


async def test_a_key_is_confined_to_its_networks(service: Service) -> None:
    """Warm and cold; a missing address is refused, and a wrong secret told nothing."""
    made = await make(service, allowed_networks=[OFFICE, "2001:db8::/32"])
    assert made.key.allowed_networks == [OFFICE, "2001:db8::/32"]
    for _ in range(2):
        for address in ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1:4711", "2001:db8::7"):
            assert await code(service, made.key_string, address) == "VALID", address
        for address in ("198.51.100.1", "2001:db9::7", "", "rubbish"):
            assert await code(service, made.key_string, address) == "ADDRESS_NOT_ALLOWED", address
        service.app.cache.clear()
    wrong = made.key_string[:-1] + ("a" if made.key_string[-1] != "a" else "b")
    assert await code(service, wrong, "192.0.2.1") == "NOT_FOUND"


async def test_verdicts_come_in_their_order(service: Service) -> None:
    """Disabled comes before the address, the address before the scopes."""
    made = await make(service, allowed_networks=[OFFICE])
    asked = {"required_scopes": ["orders:read"]}
    assert await code(service, made.key_string, "192.0.2.1", **asked) == "INSUFFICIENT_SCOPE"
    assert await code(service, made.key_string, "198.51.100.1", **asked) == "ADDRESS_NOT_ALLOWED"
    await service.admin.DisableKey(key_id=made.key.key_id)
    assert await code(service, made.key_string, "198.51.100.1", **asked) == "DISABLED"


async def test_what_is_refused_counts_as_no_use(service: Service) -> None:  # rule 23
    made = await make(service, allowed_networks=[OFFICE])
    await code(service, made.key_string, "198.51.100.1")
    await service.flush()
    assert not (await service.admin.GetKey(key_id=made.key.key_id)).HasField("last_use_time")


async def test_networks_change_on_every_worker_before_the_answer(service: Service) -> None:
    """Narrower, wider, none: the next verification goes by them."""
    made = await make(service)
    key_id = made.key.key_id
    assert await code(service, made.key_string) == "VALID"
    await update(service, key_id, "allowed_networks", allowed_networks=[ELSEWHERE])
    assert await code(service, made.key_string, "192.0.2.1") == "ADDRESS_NOT_ALLOWED"
    await update(service, key_id, "allowed_networks", allowed_networks=[ELSEWHERE, OFFICE])
    assert await code(service, made.key_string, "192.0.2.1") == "VALID"
    await update(service, key_id, "allowed_networks")
    assert await code(service, made.key_string) == "VALID"


async def test_the_policy_confines_all_keys_of_an_owner(service: Service) -> None:
    """Old and new ones, at once, in addition to their own networks; sessions and other owners are free."""
    old, other = await make(service), await make(service, owner_id="globex")
    narrow = await make(service, allowed_networks=["192.0.2.7"])
    opened = await service.admin.CreateSession(owner_id="acme")
    for each in (old, narrow):
        assert await code(service, each.key_string, "192.0.2.7") == "VALID"
    await set_policy(service, allowed_networks=[OFFICE])
    assert await code(service, old.key_string, "198.51.100.1") == "ADDRESS_NOT_ALLOWED"
    assert await code(service, old.key_string, "192.0.2.9") == "VALID"
    assert await code(service, narrow.key_string, "192.0.2.9") == "ADDRESS_NOT_ALLOWED"
    assert await code(service, narrow.key_string, "192.0.2.7") == "VALID"
    assert await code(service, other.key_string, "198.51.100.1") == "VALID"
    verdict = await service.admin.VerifySession(session_token=opened.session_token)
    assert verdict.valid
    await set_policy(service, allowed_networks=[])
    assert await code(service, old.key_string) == "VALID"


async def test_a_successor_is_confined_as_well(service: Service) -> None:
    made = await make(service, allowed_networks=[OFFICE])
    successor = await service.admin.RotateKey(key_id=made.key.key_id)
    assert await code(service, successor.key_string, "198.51.100.1") == "ADDRESS_NOT_ALLOWED"


async def test_a_confined_caller(service: Service) -> None:
    """Its calls and changes count by the address that they come from: 127.0.0.1 here."""
    here = await make(service, scopes=["keys:write", "keys:read"], allowed_networks=["127.0.0.0/8"])
    away = await make(service, scopes=["keys:write", "keys:read"], allowed_networks=[ELSEWHERE])
    calls = service.as_caller(here.key_string)
    made = await calls.CreateKey(owner_id="acme", display_name="x")
    await calls.RevokeKey(key_id=made.key.key_id)
    with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_ADDRESS_NOT_ALLOWED"):
        await service.as_caller(away.key_string).ListKeys(owner_id="acme")


async def test_only_who_has_the_scopes_of_a_key_gives_it_more_networks(service: Service) -> None:
    manager = service.as_caller((await make(service, scopes=["keys:write"])).key_string)
    made = await make(service, scopes=["orders:write"], allowed_networks=[OFFICE, ELSEWHERE])

    async def confine(client: Client, *networks: str) -> None:
        key = resources_pb2.Key(key_id=made.key.key_id, allowed_networks=networks)
        await client.UpdateKey(key=key, update_mask={"paths": ["allowed_networks"]})

    await confine(manager, OFFICE)
    for networks in ((), (OFFICE, ELSEWHERE), ("192.0.0.0/16",)):
        with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_NOT_GRANTABLE"):
            await confine(manager, *networks)
    await confine(service.admin)


async def test_the_last_administrator_is_not_confined_by_accident(service: Service) -> None:
    """One without networks has to be left: those of the others may be those of nobody."""
    page = await service.admin.ListKeys(owner_id="authsvc")
    [admin] = page.keys
    other = await make(service, owner_id="authsvc", scopes=["full_access"])
    await service.admin.VerifyKey(key_string=other.key_string)
    await update(service, other.key.key_id, "allowed_networks", allowed_networks=[ELSEWHERE])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "LAST_ADMINISTRATOR_KEY"):
        await update(service, admin.key_id, "allowed_networks", allowed_networks=["127.0.0.1"])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "LAST_ADMINISTRATOR_KEY"):
        await service.admin.RevokeKey(key_id=admin.key_id)


async def test_contacts_are_told_once_an_hour(service: Service, clock: Clock) -> None:
    """With the last address and the count; a wrong secret and an allowed address tell nothing."""
    made = await make(service, allowed_networks=[OFFICE])
    await code(service, made.key_string, "192.0.2.1")
    await code(service, made.key_string[:-6] + "000000", "198.51.100.1")
    assert await events(service) == []
    await code(service, made.key_string)
    assert await events(service) == []  # a service that passes no address does not use up the hour
    for address in ("198.51.100.1", "198.51.100.2"):
        await code(service, made.key_string, address)
    assert await events(service) == [{"address": "198.51.100.2", "count": "2"}]
    clock.advance(minutes=59)
    await code(service, made.key_string, "198.51.100.3")
    assert len(await events(service)) == 1
    clock.advance(minutes=1)
    await code(service, made.key_string, "198.51.100.4")
    assert (await events(service))[0] == {"address": "198.51.100.4", "count": "1"}


async def test_refusals_of_a_deleted_key_are_forgotten(service: Service) -> None:
    made = await make(service, allowed_networks=[OFFICE])
    await code(service, made.key_string, "198.51.100.1")
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)
    assert await events(service) == []


async def test_a_flood_of_refusals_is_bounded(
    service: Service, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """An owner has half of the room, and what is over that is counted."""
    monkeypatch.setattr("authsvc.audit.refused_addresses.MAX_KEYS", 4)
    made = await asyncio.gather(*(make(service, allowed_networks=[OFFICE]) for _ in range(5)))
    for each in made:
        for _ in range(3):
            await code(service, each.key_string, "198.51.100.1")
    assert service.app.refused_addresses.dropped == 9
    assert len(await events(service)) == 2
    clock.now += timedelta(minutes=1)
    await code(service, made[-1].key_string, "198.51.100.1")
    assert len(await events(service)) == 3


async def test_bad_networks_name_the_field_and_the_remedy(service: Service) -> None:
    made = await make(service)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await make(service, allowed_networks=[OFFICE, "192.0.2.1/24"])
    assert "use 192.0.2.0/24" in refusal.fields["allowed_networks[1]"]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await update(service, made.key.key_id, "allowed_networks", allowed_networks=["office"])
    assert "use a form like" in refusal.fields["key.allowed_networks[0]"]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await set_policy(service, allowed_networks=["10.0.0.0/33"])
    assert "policy.allowed_networks[0]" in refusal.fields
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        await make(service, allowed_networks=[f"192.0.2.{n}" for n in range(51)])
    assert await code(service, made.key_string) == "VALID"


@pytest.mark.parametrize(
    ("scopes", "any_of", "expected"),
    [
        (["a"], [], "VALID"),
        (["a"], ["a"], "VALID"),
        (["a"], ["b", "a"], "VALID"),
        (["a"], ["b", "c"], "INSUFFICIENT_SCOPE"),
        ([], ["b"], "INSUFFICIENT_SCOPE"),
        (["full_access"], ["b"], "VALID"),
    ],
)
async def test_any_of_scopes(service: Service, scopes: list[str], any_of: list[str], expected: str) -> None:
    """Of keys and of sessions, from memory and not."""
    made = await make(service, scopes=scopes)
    opened = await service.admin.CreateSession(owner_id="acme", scopes=scopes)
    for _ in range(2):
        assert await code(service, made.key_string, any_of_scopes=any_of) == expected
        verdict = await service.admin.VerifySession(session_token=opened.session_token, any_of_scopes=any_of)
        assert resources_pb2.VerdictCode.Name(verdict.code) == f"VERDICT_CODE_{expected}"


async def test_any_of_scopes_comes_in_addition(service: Service) -> None:
    made = await make(service, scopes=["a", "b"])
    for required, expected in ((["a"], "VALID"), (["c"], "INSUFFICIENT_SCOPE")):
        asked: dict[str, Any] = {"required_scopes": required, "any_of_scopes": ["b", "x"]}
        assert await code(service, made.key_string, **asked) == expected
