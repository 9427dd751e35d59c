"""The first and the last instant of a Timestamp, in every filter and field that takes one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.store.bounds import bound
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import make

FIRST = Timestamp(seconds=-62_135_596_800)  # 0001-01-01T00:00:00Z, Go's zero time
LAST = Timestamp(seconds=253_402_300_799, nanos=999_999_999)
ENDS = {
    "0001-01-01T00:00:00Z": FIRST,
    "0001-01-01T00:00:00.000001Z": Timestamp(seconds=FIRST.seconds, nanos=1000),
    "9999-12-31T23:59:59.999998Z": Timestamp(seconds=LAST.seconds, nanos=999_998_000),
    "9999-12-31T23:59:59.999999999Z": LAST,
}
assert [moment.ToJsonString() for moment in ENDS.values()] == list(ENDS)
# Which of three keys match: "idle" never expires and was never used, "expiring" expires and was never used,
# "used" never expires and was used.
NONE, ALL = (set[str](), {"idle", "expiring", "used"})
RETRYABLE = {
    "create_time_after": (ALL, NONE),
    "create_time_before": (NONE, ALL),
    "expire_time_before": (NONE, {"expiring"}),
    "unused_since": ({"idle", "expiring"}, ALL),
}


@pytest.mark.parametrize("order_by", ["create_time", "expire_time desc", "last_use_time", "display_name asc"])
async def test_filters_of_keys(service: Service, clock: Clock, order_by: str) -> None:
    """They are ordinary instants; they do not match "never", in any sort order."""
    expiry = Timestamp()
    expiry.FromDatetime(clock.now + timedelta(days=1))
    await service.admin.CreateKey(owner_id="acme", display_name="idle")
    await service.admin.CreateKey(owner_id="acme", display_name="expiring", expire_time=expiry)
    used = await service.admin.CreateKey(owner_id="acme", display_name="used")
    assert (await service.admin.VerifyKey(key_string=used.key_string)).valid
    await service.flush()
    for field, (at_first, at_last) in RETRYABLE.items():
        for told, moment in ENDS.items():
            wanted = at_first if told.startswith("0001") else at_last
            answer = await service.admin.ListKeys(
                owner_id="acme", filter={field: moment}, order_by=order_by, include_total_size=True
            )
            assert {key.display_name for key in answer.keys} == wanted, (field, told)
            assert answer.total_size == len(wanted)


async def test_filters_of_audit_events(service: Service) -> None:
    """All events come after the first instant and before the last one."""
    await make(service)
    [event] = (await service.admin.ListAuditEvents(owner_id="acme")).events
    chosen: tuple[dict[str, Any], ...] = (
        {},
        {"actor_id": event.actor_id},
        {"target_id": event.target_id},
        {"actions": [event.action]},
    )
    for also in chosen:
        for told, moment in ENDS.items():
            is_first = told.startswith("0001")
            for field, passes in (("time_after", is_first), ("time_before", not is_first)):
                answer = await service.admin.ListAuditEvents(owner_id="acme", filter={field: moment, **also})
                assert list(answer.events) == ([event] if passes else []), (field, told, also)


@pytest.mark.parametrize("told", ENDS)
async def test_expiry(service: Service, told: str) -> None:  # rule 3
    """It is in the past or too far ahead; no key gets such an expiry, and none loses its expiry by it."""
    made = await make(service)
    problem = "in the past" if told.startswith("0001") else "more than 100 years ahead"
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", expire_time=ENDS[told])
    assert problem in refusal.fields["expire_time"]
    key = resources_pb2.Key(key_id=made.key.key_id, expire_time=ENDS[told])
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.UpdateKey(key=key, update_mask={"paths": ["expire_time"]})
    assert problem in refusal.fields["key.expire_time"]


async def test_the_words_of_the_driver(database_url: str) -> None:
    """The driver sends two instants as infinities. A bound is never one of them, and otherwise unchanged."""
    connection = await asyncpg.connect(database_url)
    try:
        for end in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
            assert not await connection.fetchval("SELECT isfinite($1::timestamptz)", end)
            assert await connection.fetchval("SELECT isfinite($1::timestamptz)", bound(end))
            assert abs(bound(end) - end) == timedelta.resolution
    finally:
        await connection.close()
    inner = datetime(2026, 1, 1, tzinfo=UTC)
    assert bound(inner) == inner
