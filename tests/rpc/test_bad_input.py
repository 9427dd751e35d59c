"""Input that well-behaved clients do not send."""

from typing import Any

import grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsvc.rpc.limits import MAX_MESSAGE_BYTES
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Service
from tests.rpc.refusal import refused

SERVICE = pb.DESCRIPTOR.services_by_name["KeyService"]
# Two of them would end the key that all of this is called with.
METHODS = [each.name for each in SERVICE.methods if each.name not in ("RevokeSelf", "RotateSelf")]
# Statuses that an invalid request may get; any other is a server error.
FINE = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
}


async def send(service: Service, method: str, data: bytes) -> object:
    rpc: Any = service.channel.unary_unary(f"/{SERVICE.full_name}/{method}")
    return await rpc(data, metadata=[("authorization", f"Bearer {service.admin_key}")])


async def test_bytes_that_are_no_message(service: Service) -> None:
    """They are an error of the client, not of the server."""
    for data in (b"\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
            await send(service, "VerifyKey", data)


async def test_a_message_that_is_too_large(service: Service) -> None:
    """It is refused before it is read, and the service continues."""
    try:
        await service.admin.VerifyKey(key_string="x" * (MAX_MESSAGE_BYTES + 1))
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
    else:
        raise AssertionError("it was taken")
    await service.admin.VerifyKey(key_string="x")


async def test_the_largest_message_that_is_good(service: Service) -> None:
    """A batch with the greatest number of scopes of the greatest length fits."""
    asked = {"key_string": "x" * 512, "required_scopes": ["x" * 64] * 64, "client_ip": ":".join(["ffff"] * 8)}
    assert len((await service.admin.BatchVerifyKeys(requests=[asked] * 100)).responses) == 100


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(method=st.sampled_from(METHODS), data=st.binary(max_size=300))
async def test_random_bytes(service: Service, method: str, data: bytes) -> None:
    """No bytes make a handler fail with a server error."""
    try:
        await send(service, method, data)
    except grpc.aio.AioRpcError as error:
        assert error.code() in FINE, error  # noqa: PT017


async def test_a_management_call_that_is_too_large(service: Service) -> None:
    """A message larger than its fields allow is refused immediately, even if it is in unknown fields."""
    unknown = b"\xfa\x3f" + b"\x80\x80\x20" + b"a" * 2**19
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await send(service, "CreateKey", unknown)
    assert "bytes" in refusal.message


async def test_lists_that_are_far_too_long(service: Service) -> None:
    """They are refused by their length, before their items are checked."""
    contact = resources_pb2.TechnicalContact()
    many = [pb.VerifyKeyRequest(client_ip="x")] * 100_000
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(
            owner_id="acme", display_name="x", technical_contacts=[contact] * 20_000
        )
    assert refusal.fields == {"technical_contacts": "has 20000 items; the maximum is 100"}
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.BatchVerifyKeys(requests=many)
    assert list(refusal.fields) == ["requests"]
    key = resources_pb2.Key(key_id="key_1", technical_contacts=[contact] * 1000)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        await service.admin.UpdateKey(key=key, update_mask={"paths": ["technical_contacts"]})
    assert list(refusal.fields) == ["key.technical_contacts"]


async def test_errors_fit_into_trailers(service: Service) -> None:
    """However long the error is, the client gets it and not a broken stream."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        await service.admin.UpdateKey(
            key=resources_pb2.Key(key_id="key_1"), update_mask={"paths": ["x" * 3000] * 30}
        )
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"):
        await service.admin.CreateKey(
            owner_id="acme", display_name="x", annotations={f"{n} " + "x" * 3000: "" for n in range(30)}
        )


async def test_an_address_is_an_address_and_no_more(service: Service) -> None:  # rule 1
    """The zone of an IPv6 address could contain anything, even a key string; it is removed."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="x")
    for zone in ("eth0", made.key_string):
        verdict = await service.admin.VerifyKey(key_string=made.key_string, client_ip=f"fe80::1%{zone}")
        assert verdict.valid
        await service.flush()
        assert (await service.admin.GetKey(key_id=made.key.key_id)).last_use_ip == "fe80::1"


TEXT = st.text(max_size=20) | st.sampled_from(["acme", "key_1", "\0", "a:b", "r-1", "display_name", "*"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, pb.CreateKeyRequest]:
    """A method and a well-formed message of its type, with any values in any fields."""
    method = draw(st.sampled_from(METHODS))
    message = getattr(pb, SERVICE.methods_by_name[method].input_type.name)()
    _fill(draw, message, depth=3)
    return method, message


def _fill(draw: st.DrawFn, message: object, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:  # type: ignore[attr-defined]
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name).update(draw(st.dictionaries(TEXT, TEXT, max_size=3)))
        elif field.message_type is not None:
            if depth:
                child = getattr(message, field.name)
                for target in [child.add() for _ in range(2)] if field.is_repeated else [child]:
                    if not field.is_repeated:
                        target.SetInParent()
                    _fill(draw, target, depth - 1)
        else:
            values = {
                field.TYPE_STRING: TEXT,
                field.TYPE_BOOL: st.booleans(),
                field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**33),
                field.TYPE_UINT32: st.integers(0, 2**32 - 1) | st.integers(0, 5),
            }.get(field.type, st.integers(-(2**31), 2**31 - 1) | st.integers(0, 5))
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(values, max_size=3)))
            else:
                setattr(message, field.name, draw(values))


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(asked=requests())
async def test_random_fields(service: Service, asked: tuple[str, pb.CreateKeyRequest]) -> None:
    """No values make a handler fail with a server error."""
    method, message = asked
    try:
        await send(service, method, message.SerializeToString())
    except grpc.aio.AioRpcError as error:
        assert error.code() in FINE, error  # noqa: PT017
