"""ListKeys."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import make

ORDERS = ["display_name", "create_time", "expire_time", "last_use_time"]
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def at(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


async def named(service: Service, *names: str, **fields: Any) -> list[Any]:
    return [await service.admin.CreateKey(owner_id="acme", display_name=name, **fields) for name in names]


async def names(service: Service, order_by: str = "display_name", **filter_: Any) -> list[str]:
    answer = await service.admin.ListKeys(
        owner_id="acme", filter=pb.KeyFilter(**filter_), order_by=order_by, include_total_size=True
    )
    assert answer.total_size == len(answer.keys)
    return [key.display_name for key in answer.keys]


async def pages(service: Service, size: int, **fields: Any) -> list[list[str]]:
    """Return the names on each page."""
    found, token = [], ""
    while True:
        answer = await service.admin.ListKeys(owner_id="acme", page_size=size, page_token=token, **fields)
        found.append([key.display_name for key in answer.keys])
        token = answer.next_page_token
        if not token:
            return found


async def test_a_list_shows_what_people_look_for(service: Service, clock: Clock) -> None:  # rule 9
    """Name, prefix, scopes, last use, state, creation and expiry times; never the secret."""
    made = await make(service, scopes=["a"], ttl=Duration(seconds=3600))
    await service.admin.VerifyKey(key_string=made.key_string)
    await service.flush()
    (key,) = (await service.admin.ListKeys(owner_id="acme")).keys
    assert (key.display_name, key.scopes, key.state) == ("x", ["a"], resources_pb2.KEY_STATE_ACTIVE)
    assert made.key_string.startswith(key.key_prefix)
    assert key.last_use_time == key.create_time == at(clock.now)
    assert key.expire_time == at(clock.now + timedelta(hours=1))


async def test_dead_keys_stay_listed(service: Service, clock: Clock) -> None:  # rule 11
    """Also revoked and expired ones, until they are deleted."""
    await named(service, "active")
    await named(service, "expired", ttl=Duration(seconds=1))
    (revoked,) = await named(service, "revoked")
    await service.admin.RevokeKey(key_id=revoked.key.key_id)
    clock.advance(seconds=1)
    assert await names(service, "display_name") == ["active", "expired", "revoked"]
    await service.admin.DeleteKey(key_id=revoked.key.key_id)
    assert await names(service, "display_name") == ["active", "expired"]


async def test_by_state(service: Service, clock: Clock) -> None:  # rule 10, 12
    """By the current state, in any combination; a key with a scheduled revocation is still ACTIVE."""
    await named(service, "active")
    await named(service, "expired", ttl=Duration(seconds=1))
    for name, seconds in (("scheduled", 3600), ("revoked", 0)):
        (made,) = await named(service, name)
        await service.admin.RevokeKey(key_id=made.key.key_id, revoke_in=Duration(seconds=seconds))
    (both,) = await named(service, "expired and revoked", ttl=Duration(seconds=1))
    await service.admin.RevokeKey(key_id=both.key.key_id)
    clock.advance(seconds=1)
    expected = {
        resources_pb2.KEY_STATE_ACTIVE: {"active", "scheduled"},
        resources_pb2.KEY_STATE_EXPIRED: {"expired"},
        resources_pb2.KEY_STATE_REVOKED: {"revoked", "expired and revoked"},
    }
    for count in (1, 2, 3):
        for states in itertools.combinations(expected, count):
            assert set(await names(service, states=states)) == set().union(*(expected[s] for s in states))


async def test_by_name_or_prefix(service: Service) -> None:  # rule 10
    """Part of the name in any case, or the beginning of the prefix; wildcards have no special meaning."""
    made = await named(service, "Billing Straße", "50% off_peak", "back\\slash", "ab")
    assert await names(service, query="STRASSE") == ["Billing Straße"]
    assert await names(service, query="ling") == ["Billing Straße"]
    assert await names(service, query="0%") == ["50% off_peak"]
    assert await names(service, query="off_") == ["50% off_peak"]
    assert await names(service, query="f%p") == []
    assert await names(service, query="k\\s") == ["back\\slash"]
    assert await names(service, query="B") == ["ab", "back\\slash", "Billing Straße"]
    assert await names(service, query=made[3].key.key_prefix) == ["ab"]
    assert await names(service, query=made[3].key.key_prefix[:-2]) == ["ab"]
    assert await names(service, query="authsvc_live_") == [
        "50% off_peak",
        "ab",
        "back\\slash",
        "Billing Straße",
    ]
    assert await names(service, query="authsvc%live") == []


async def test_by_creator_and_scope(service: Service) -> None:  # rule 10
    """By its creator and by an exact scope."""
    creator = await make(service, scopes=["keys:write", "a", "b"])
    caller = service.as_caller(creator.key_string)
    await caller.CreateKey(owner_id="acme", display_name="theirs", scopes=["a"])
    await named(service, "ours", scopes=["a", "b"])
    assert await names(service, creator_id=creator.key.key_id) == ["theirs"]
    assert set(await names(service, scope="a")) == {"theirs", "ours", "x"}
    assert await names(service, scope="b", creator_id=creator.key.creator_id) == ["ours", "x"]
    assert await names(service, scope="full_access") == []


@pytest.mark.parametrize(
    "name", ["CN=orders service, O=Example", "spiffe://example.org/" + "/".join(["orders"] * 70)]
)
async def test_keys_that_a_certificate_made(service: Service, name: str) -> None:
    """The creator is the name in the file of callers, which may be long and contain spaces."""
    await make(service)
    (theirs,) = await named(service, "theirs")
    async with service.app.database.connection() as connection:
        await connection.execute(
            "UPDATE authsvc.keys SET creator_id = $1 WHERE key_id = $2", name, theirs.key.key_id
        )
    assert await names(service, creator_id=name) == ["theirs"]


async def test_by_times(service: Service, clock: Clock) -> None:  # rule 10, 30
    """Created since and before, expiring before, unused since."""
    start = clock.now
    for name in ("first", "second", "third"):
        await named(service, name)
        clock.advance(days=1)
    (short,) = await named(service, "short", ttl=Duration(seconds=60))
    second_day = at(start + timedelta(days=1))
    assert await names(service, create_time_after=second_day) == ["second", "short", "third"]
    assert await names(service, create_time_before=second_day) == ["first"]
    assert await names(service, expire_time_before=at(clock.now + timedelta(seconds=60))) == []
    assert await names(service, expire_time_before=at(clock.now + timedelta(seconds=61))) == ["short"]
    await service.admin.VerifyKey(key_string=short.key_string)
    await service.flush()
    assert await names(service, unused_since=at(clock.now)) == ["first", "second", "third"]
    assert "short" in await names(service, unused_since=at(clock.now + timedelta(microseconds=1)))


async def test_sorted_both_ways(service: Service, clock: Clock) -> None:  # rule 10
    """In each order; keys that never expire come last, keys never used come first."""
    made = {}
    for name, ttl in (("b", 300), ("C", None), ("a", 100), ("É", 200)):
        fields = {} if ttl is None else {"ttl": Duration(seconds=ttl)}
        (made[name],) = await named(service, name, **fields)
        clock.advance(seconds=1)
    for name in ("a", "C"):
        clock.advance(seconds=1)
        await service.admin.VerifyKey(key_string=made[name].key_string)
    await service.flush()
    expected = {
        "display_name": ["a", "b", "C", "É"],
        "create_time": ["b", "C", "a", "É"],
        "expire_time": ["a", "É", "b", "C"],
        "last_use_time": ["b", "É", "a", "C"],
    }
    for order, wanted in expected.items():
        assert await names(service, order) == wanted
        assert await names(service, f"{order} asc") == wanted
        assert await names(service, f"{order} desc") == wanted[::-1]
    assert await names(service, order_by="") == expected["create_time"][::-1]


@pytest.mark.parametrize("order_by", [f"{o}{d}" for o in ORDERS for d in ("", " desc")])
async def test_pages_join_to_the_whole(service: Service, order_by: str) -> None:  # rule 10
    """In each order, also with equal values, pages of any size contain each key once."""
    await named(service, *"abcabc")
    await named(service, *"abc", ttl=Duration(seconds=60))
    whole = (await pages(service, 1000, order_by=order_by))[0]
    assert len(whole) == 9
    for size in (1, 2, 3, 9, 10):
        cut = await pages(service, size, order_by=order_by)
        assert [name for page in cut for name in page] == whole
        assert all(len(page) == size for page in cut[:-1])


async def test_pages_stay_right_while_keys_come_and_go(service: Service, clock: Clock) -> None:  # rule 10
    """Keys that stay are seen exactly once, whatever is added before and after, or deleted, between pages."""
    made = []
    for number in range(10):
        made.extend(await named(service, f"k{number}"))
        clock.advance(seconds=1)
    first = await service.admin.ListKeys(owner_id="acme", page_size=4, order_by="create_time")
    last_seen = first.keys[-1].key_id
    for key_id in (last_seen, made[0].key.key_id, made[5].key.key_id):
        await service.admin.RevokeKey(key_id=key_id)
        await service.admin.DeleteKey(key_id=key_id)
    await named(service, "late")
    seen, token = [key.display_name for key in first.keys], first.next_page_token
    while token:
        page = await service.admin.ListKeys(
            owner_id="acme", page_size=4, order_by="create_time", page_token=token
        )
        seen.extend(key.display_name for key in page.keys)
        token = page.next_page_token
    assert seen == ["k0", "k1", "k2", "k3", "k4", "k6", "k7", "k8", "k9", "late"]


async def test_a_page_token_is_of_one_query(service: Service) -> None:
    """A token of another owner, order or filter, an altered one and an invalid one are refused."""
    await named(service, "a", "b", "c")
    token = (await service.admin.ListKeys(owner_id="acme", page_size=1)).next_page_token
    again = await service.admin.ListKeys(owner_id="acme", page_size=2, page_token=token)
    assert len(again.keys) == 2
    others: Sequence[dict[str, Any]] = [
        {"owner_id": "globex", "page_token": token},
        {"owner_id": "acme", "page_token": token, "order_by": "create_time"},
        {"owner_id": "acme", "page_token": token, "filter": pb.KeyFilter(query="a")},
        {"owner_id": "acme", "page_token": token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]},
        {"owner_id": "acme", "page_token": "rubbish"},
        {"owner_id": "acme", "page_token": "ключ"},
        {"owner_id": "acme", "page_token": "="},
    ]
    for fields in others:
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.ListKeys(**fields)
        assert list(refusal.fields) == ["page_token"]


async def test_bounds(service: Service) -> None:
    """50 per page by default; more than 1000, negative sizes, unknown orders and states are refused."""
    await asyncio.gather(*(named(service, "x") for _ in range(51)))
    answer = await service.admin.ListKeys(owner_id="acme", include_total_size=True)
    assert (len(answer.keys), answer.total_size) == (50, 51)
    for fields, field in (
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"order_by": "colour"}, "order_by"),
        ({"order_by": "create_time sideways"}, "order_by"),
        ({"order_by": "create_time, display_name"}, "order_by"),
        ({"filter": pb.KeyFilter(states=[99])}, "filter.states[0]"),  # type: ignore[list-item]
        ({"filter": pb.KeyFilter(query="\0")}, "filter.query"),
        ({"filter": pb.KeyFilter(unused_since=Timestamp(seconds=2**60))}, "filter.unused_since"),
    ):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.ListKeys(owner_id="acme", **fields)
        assert list(refusal.fields) == [field]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.ListKeys()
    assert list(refusal.fields) == ["owner_id"]


@pytest.mark.parametrize("scope", ["", "a"], ids=["all", "filtered"])
async def test_a_page_of_large_keys_is_shorter(service: Service, scope: str) -> None:
    """A page has at most 2 MiB, for any page_size; together the pages have all keys."""
    large = {f"name{number:02}{'x' * 50}": "\U00020000" * 256 for number in range(32)}
    await named(service, *(f"{number:03}" for number in range(70)), scopes=["a"], annotations=large)
    fields = {"order_by": "display_name", "filter": pb.KeyFilter(scope=scope)}
    found = await pages(service, 1000, **fields)
    assert list(itertools.chain.from_iterable(found)) == [f"{number:03}" for number in range(70)]
    assert [len(page) for page in found] == [59, 11]
    assert [len(page) for page in await pages(service, 20, **fields)] == [20, 20, 20, 10]
