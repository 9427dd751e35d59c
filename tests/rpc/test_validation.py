"""Rules that cannot be evaluated, invalid durations and invalid timestamps."""

from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsvc.model.errors import InvalidArgument
from authsvc.rpc import protos, validation
from authsvc.rpc.validation import validator
from authsvc.v1 import key_service_pb2, owner_policy_service_pb2, resources_pb2
from tests.conftest import Clock, Service
from tests.rpc.refusal import refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
INT64, MESSAGE = FieldDescriptorProto.TYPE_INT64, FieldDescriptorProto.TYPE_MESSAGE
OPTIONAL, REPEATED = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED


def a_type_to_come() -> type[Any]:
    """Return a message type whose rules divide: on a field, on items, on the sum of two fields."""
    pool = protos.pool(protos.read())
    described = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FileDescriptorProto"))
    of_field, of_message = map(pool.FindExtensionByName, ("buf.validate.field", "buf.validate.message"))
    file: Any = described(name="to_come.proto", package="to_come", syntax="proto3")
    file.dependency.append("buf/validate/validate.proto")
    inner = file.message_type.add(name="Inner")
    divided = inner.field.add(name="divided", number=1, type=INT64, label=OPTIONAL)
    rule = divided.options.Extensions[of_field].cel.add(id="inner.divided", message="is too small")
    rule.expression = "60 / (this - 7) > 1"
    outer = file.message_type.add(name="Outer")
    outer.field.add(name="one", number=1, type=MESSAGE, type_name=".to_come.Inner", label=OPTIONAL)
    outer.field.add(name="many", number=2, type=MESSAGE, type_name=".to_come.Inner", label=REPEATED)
    outer.field.add(name="a", number=3, type=INT64, label=OPTIONAL)
    outer.field.add(name="b", number=4, type=INT64, label=OPTIONAL)
    rule = outer.options.Extensions[of_message].cel.add(id="outer.sum", message="is no sum")
    rule.expression = "this.a + this.b >= 0"
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("to_come.Outer"))


OUTER = a_type_to_come()
LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"one": {"divided": 7}}, ["one.divided"]),
        ({"many": [{"divided": 8}, {"divided": 7}], "a": 1}, ["many[1].divided"]),
        ({"one": {"divided": 7}, "many": [{"divided": 7}]}, ["one.divided", "many[0].divided"]),
        ({"a": LARGEST, "b": 1}, [""]),
    ],
)
def test_a_rule_that_cannot_be_evaluated(fields: dict[str, Any], paths: list[str]) -> None:
    """The value is the error, and its field is named; this holds for every future rule."""
    check = validator(OUTER.DESCRIPTOR)
    check(OUTER(one={"divided": 8}, a=1))
    with pytest.raises(InvalidArgument) as refusal:
        check(OUTER(**fields))
    assert [violation.field for violation in refusal.value.violations] == paths
    assert {violation.rule for violation in refusal.value.violations} == {"rule.evaluable"}


NO_DURATIONS = {
    "beyond 10,000 years": Duration(seconds=315_576_000_001),
    "beyond all": Duration(seconds=2**63 - 1),
    "below all": Duration(seconds=-(2**63)),
    "nanos of a second": Duration(seconds=100, nanos=1_000_000_000),
    "mixed signs": Duration(seconds=100, nanos=-1),
    "other mixed signs": Duration(seconds=-100, nanos=1),
}


async def policy(service: Service, length: Duration) -> None:
    update = {"owner_id": "acme", "max_key_lifetime": length}
    await service.admin.UpdateOwnerPolicy(policy=update, update_mask={"paths": ["max_key_lifetime"]})


async def rotation_period(service: Service, length: Duration) -> None:
    update = {"owner_id": "acme", "rotation_period": length}
    await service.admin.UpdateOwnerPolicy(policy=update, update_mask={"paths": ["rotation_period"]})


async def ttl(service: Service, length: Duration) -> None:
    await service.admin.CreateKey(owner_id="acme", display_name="x", ttl=length)


async def grace_period(service: Service, length: Duration) -> None:
    await service.admin.RotateKey(key_id="key_1", grace_period=length)


async def revoke_in(service: Service, length: Duration) -> None:
    await service.admin.RevokeKey(key_id="key_1", revoke_in=length)


async def idle_timeout(service: Service, length: Duration) -> None:
    await service.admin.CreateSession(owner_id="acme", idle_timeout=length)


async def lifetime(service: Service, length: Duration) -> None:
    await service.admin.CreateSession(owner_id="acme", lifetime=length)


@pytest.mark.parametrize("length", NO_DURATIONS.values(), ids=NO_DURATIONS)
@pytest.mark.parametrize(
    ("send", "field"),
    [
        (policy, "policy.max_key_lifetime"),
        (rotation_period, "policy.rotation_period"),
        (ttl, "ttl"),
        (grace_period, "grace_period"),
        (revoke_in, "revoke_in"),
        (idle_timeout, "idle_timeout"),
        (lifetime, "lifetime"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_lengths_of_time_that_are_none(
    service: Service, send: Any, field: str, length: Duration
) -> None:
    """Every RPC that takes a duration refuses them, with the field."""
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await send(service, length)
    assert list(refusal.fields) == [field]


@pytest.mark.parametrize(
    "moment",
    [
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=253_402_300_800),
        Timestamp(seconds=2**63 - 1),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
    ],
    ids=["before year 1", "after year 9999", "beyond all", "negative nanos", "nanos of a second"],
)
async def test_instants_that_are_none(service: Service, moment: Timestamp) -> None:
    """Every RPC that takes a timestamp refuses them, with the field."""
    for name in ("create_time_after", "create_time_before", "expire_time_before", "unused_since"):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.ListKeys(owner_id="acme", filter={name: moment})
        assert list(refusal.fields) == [f"filter.{name}"]
    for name in ("time_after", "time_before"):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.ListAuditEvents(owner_id="acme", filter={name: moment})
        assert list(refusal.fields) == [f"filter.{name}"]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", expire_time=moment)
    assert list(refusal.fields) == ["expire_time"]
    key = resources_pb2.Key(key_id="key_1", expire_time=moment)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.UpdateKey(key=key, update_mask={"paths": ["expire_time"]})
    assert list(refusal.fields) == ["key.expire_time"]


DURATIONS = st.builds(
    Duration,
    seconds=st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2) | st.just(315_576_000_000),
    nanos=st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 2) | st.just(1_000_000_000),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=DURATIONS)
def test_all_lengths_of_time(length: Duration) -> None:
    """What is accepted is a valid duration, as protobuf defines it; for others, the error names the field."""
    limits = owner_policy_service_pb2.OwnerPolicy(owner_id="acme", max_key_lifetime=length)
    mask = FieldMask(paths=["*"])
    requests: dict[str, Any] = {
        "policy.max_key_lifetime": owner_policy_service_pb2.UpdateOwnerPolicyRequest(
            policy=limits, update_mask=mask
        ),
        "revoke_in": key_service_pb2.RevokeKeyRequest(key_id="key_1", revoke_in=length),
    }
    for path, request in requests.items():
        refused_fields = fields_refused(request)
        assert refused_fields in (set(), {path})
        if not refused_fields:
            assert 0 <= length.nanos < 1_000_000_000
            assert timedelta(0) <= length.ToTimedelta() <= timedelta(days=36525)


def fields_refused(request: Any) -> set[str]:
    try:
        validator(request.DESCRIPTOR)(request)
    except InvalidArgument as error:
        return {violation.field for violation in error.violations}
    return set()


async def test_the_furthest_expiry(service: Service, clock: Clock) -> None:  # rule 3
    """A hundred years of 365.25 days, as the field's comment says; a microsecond more is refused."""
    furthest = clock.now + timedelta(days=36525)
    moment = Timestamp()
    moment.FromDatetime(furthest)
    made = await service.admin.CreateKey(owner_id="acme", display_name="x", expire_time=moment)
    assert made.key.expire_time == moment
    moment.FromDatetime(furthest + timedelta.resolution)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", expire_time=moment)
    assert "100 years" in refusal.fields["expire_time"]


def test_a_verification_is_validated_by_its_lengths_alone() -> None:
    """Also with an `optional` field, of which the compiler makes a oneof: all rules take 20 times as long."""
    check = validator(key_service_pb2.VerifyKeyRequest.DESCRIPTOR)
    assert isinstance(check, partial)
    assert check.func is validation._validate_lengths
