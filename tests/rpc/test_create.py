"""CreateKey."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2
from tests.conftest import Clock, Service, serving
from tests.rpc.refusal import refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def test_the_key_string_is_told_once(service: Service) -> None:  # rule 1
    """Only CreateKey and RotateKey have a field for the full string, and no other field contains it."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Orders")
    secret = made.key_string.removeprefix(made.key.key_prefix)
    seen = [
        made.key,
        await service.admin.GetKey(key_id=made.key.key_id),
        await service.admin.ListKeys(owner_id="acme"),
        await service.admin.LookupKey(key_string=made.key_string),
        await service.admin.VerifyKey(key_string=made.key_string),
        await service.admin.RevokeKey(key_id=made.key.key_id),
    ]
    assert all(made.key.key_id in str(message) for message in seen)
    assert not any(secret in str(message) or secret[:43] in str(message) for message in seen)


async def test_the_key_string_has_its_form(service: Service) -> None:
    """Brand, environment, lookup part, secret and tag; a double click selects the whole string."""
    made = await service.admin.CreateKey(
        owner_id="acme", display_name="Orders", brand="eg", environment="test"
    )
    assert re.fullmatch(r"eg_test_[0-9A-Za-z]{63}", made.key_string)
    assert made.key_string.startswith(made.key.key_prefix)
    assert len(made.key.key_prefix) == len("eg_test_") + 12


async def test_a_key_shows_what_it_was_made_with(service: Service, clock: Clock) -> None:
    """The answer has all fields of the request, with the timestamps and the creator (rule 5)."""
    request = pb.CreateKeyRequest(
        owner_id="user:7@acme",
        display_name="Orders ✓",
        description="two\nlines",
        scopes=["orders:write", "orders:read"],
        technical_contacts=[
            resources_pb2.TechnicalContact(name="Ada", email="ada@example.org"),
            resources_pb2.TechnicalContact(name="Ops", email="ops@example.org"),
        ],
        annotations={"team": "payments", "note": ""},
    )
    made = (await service.admin.CreateKey(request)).key
    administrator = (await service.admin.LookupKey(key_string=service.admin_key)).key_id
    assert re.fullmatch("key_[0-9a-z]{26}", made.key_id)
    assert made.owner_id == "user:7@acme"
    assert made.display_name == "Orders ✓"
    assert made.description == "two\nlines"
    assert made.scopes == ["orders:read", "orders:write"]
    assert made.technical_contacts == request.technical_contacts  # rule 4
    assert made.annotations == {"team": "payments", "note": ""}
    assert made.state == resources_pb2.KEY_STATE_ACTIVE
    assert made.create_time.ToDatetime(tzinfo=UTC) == made.update_time.ToDatetime(tzinfo=UTC) == clock.now
    assert made.creator_id == administrator
    assert not made.HasField("expire_time")
    assert await service.admin.GetKey(key_id=made.key_id) == made


@pytest.mark.parametrize("name", ["", " ", "\t", "x" * 256, "a\nb", "a\0b"])
async def test_a_name_is_required(service: Service, name: str) -> None:  # rule 2
    """An empty name, only spaces, over 255 characters or control characters are refused, with the field."""
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name=name)
    assert refusal.fields == {"display_name": "use 1 to 255 characters in one line, not only spaces"}


async def test_a_name_of_255_characters(service: Service) -> None:  # rule 2
    """Characters count, not bytes."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="é" * 255)
    assert made.key.display_name == "é" * 255


async def test_scopes_come_from_the_allowed_ones(database_url: str, clock: Clock) -> None:  # rule 2
    """If the operator lists scopes, others are refused; authsvc's own always exist."""
    async with serving(database_url, clock, scopes="orders:read") as service:
        await service.admin.CreateKey(
            owner_id="acme", display_name="x", scopes=["orders:read", "keys:verify"]
        )
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.CreateKey(owner_id="acme", display_name="x", scopes=["orders:raed"])
        assert refusal.fields["scopes"] == "orders:raed is not known here; did you mean orders:read?"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (pb.EXPIRATION_PRESET_UNLIMITED, None),
        (pb.EXPIRATION_PRESET_FIVE_DAYS, datetime(2027, 2, 5, 10, tzinfo=UTC)),
        (pb.EXPIRATION_PRESET_ONE_MONTH, datetime(2027, 2, 28, 10, tzinfo=UTC)),
        (pb.EXPIRATION_PRESET_SIX_MONTHS, datetime(2027, 7, 31, 10, tzinfo=UTC)),
        (pb.EXPIRATION_PRESET_ONE_YEAR, datetime(2028, 1, 31, 10, tzinfo=UTC)),
    ],
)
async def test_presets_count_by_the_calendar(
    service: Service, clock: Clock, preset: pb.ExpirationPreset.ValueType, expected: datetime | None
) -> None:  # rule 3
    """A month ends on the same day of the month, or on its last day."""
    clock.now = datetime(2027, 1, 31, 10, tzinfo=UTC)
    made = (await service.admin.CreateKey(owner_id="acme", display_name="x", expiration_preset=preset)).key
    expiry = made.expire_time.ToDatetime(tzinfo=UTC) if made.HasField("expire_time") else None
    assert expiry == expected


async def test_a_date_and_a_ttl(service: Service, clock: Clock) -> None:  # rule 3
    """A key may expire at a date, or after a duration."""
    date, ttl = Timestamp(), Duration()
    date.FromDatetime(clock.now + timedelta(days=3))
    ttl.FromTimedelta(timedelta(hours=5))
    by_date = await service.admin.CreateKey(owner_id="acme", display_name="x", expire_time=date)
    by_ttl = await service.admin.CreateKey(owner_id="acme", display_name="x", ttl=ttl)
    assert by_date.key.expire_time == date
    assert by_ttl.key.expire_time.ToDatetime(tzinfo=UTC) == clock.now + timedelta(hours=5)


@pytest.mark.parametrize("seconds", [0, -1, -86400 * 365 * 3000, 86400 * 36526, 253402300800, -(2**62)])
async def test_dates_that_make_no_sense(service: Service, clock: Clock, seconds: int) -> None:  # rule 3
    """Past dates, now, dates more than 100 years ahead or beyond the calendar: the error names the field."""
    moment = Timestamp(seconds=int(clock.now.timestamp()) + seconds)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", expire_time=moment)
    assert list(refusal.fields) == ["expire_time"]


@pytest.mark.parametrize("seconds", [0, -5, 3155760001])
async def test_a_ttl_that_makes_no_sense(service: Service, seconds: int) -> None:
    """A ttl is from one second to 100 years."""
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", ttl=Duration(seconds=seconds))
    assert list(refusal.fields) == ["ttl"]


@pytest.mark.parametrize("preset", [0, 99])
async def test_a_preset_that_is_none(service: Service, preset: int) -> None:
    """Unknown enum values are refused."""
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", expiration_preset=preset)
    assert list(refusal.fields) == ["expiration_preset"]


async def test_a_contact_needs_name_and_mail(service: Service) -> None:  # rule 4
    """Each contact is checked, and the error says which one."""
    contacts = [
        resources_pb2.TechnicalContact(name="Ada", email="ada@example.org"),
        resources_pb2.TechnicalContact(name="", email="nowhere"),
    ]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", technical_contacts=contacts)
    assert set(refusal.fields) == {"technical_contacts[1].name", "technical_contacts[1].email"}


async def test_all_bad_fields_are_named_at_once(service: Service) -> None:
    """A client can fix all fields after one error."""
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(
            owner_id="no spaces",
            scopes=["Upper", "a", "a"],
            brand="9",
            environment="prod",
            annotations={"a b": "", "ok": "x" * 257},
            request_id="?",
        )
    assert set(refusal.fields) == {
        "owner_id",
        "display_name",
        "scopes",
        "scopes[0]",
        "brand",
        "environment",
        "annotations['a b']",
        "annotations['ok']",
        "request_id",
    }
    assert all(refusal.fields.values())


async def test_an_owner_may_have_several_keys(service: Service) -> None:  # rule 5
    """Two keys of one owner both work, even with the same name."""
    made = [await service.admin.CreateKey(owner_id="acme", display_name="same") for _ in range(2)]
    assert all([(await service.admin.VerifyKey(key_string=m.key_string)).valid for m in made])
    assert len((await service.admin.ListKeys(owner_id="acme")).keys) == 2


async def test_a_request_id_makes_a_retry_safe(service: Service) -> None:
    """The second call creates nothing and names the key of the first call."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="x", request_id="r-1")
    with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_REPEATED") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", request_id="r-1")
    assert refusal.info.metadata["key_id"] == made.key.key_id
    assert len((await service.admin.ListKeys(owner_id="acme")).keys) == 1


async def test_a_request_id_in_a_race(service: Service) -> None:
    """Of many concurrent calls with one request_id, one creates a key; the others name it."""
    calls = [service.admin.CreateKey(owner_id="acme", display_name="x", request_id="r-1") for _ in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    made = [a for a in answers if not isinstance(a, BaseException)]
    assert len(made) == 1
    assert {a.code() for a in answers if isinstance(a, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.ALREADY_EXISTS
    }
    assert len((await service.admin.ListKeys(owner_id="acme")).keys) == 1


async def test_a_request_id_stays_taken_when_its_key_is_deleted(service: Service, clock: Clock) -> None:
    """For 30 days, for CreateKey and RotateKey; then it can be used again."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="x", request_id="r-1")
    await service.admin.RevokeKey(key_id=made.key.key_id)
    await service.admin.DeleteKey(key_id=made.key.key_id)
    other = await service.admin.CreateKey(owner_id="acme", display_name="x")
    clock.advance(days=30)
    await service.app.purge.step()
    with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_REPEATED") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", request_id="r-1")
    assert refusal.info.metadata["key_id"] == made.key.key_id
    with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_REPEATED") as refusal:
        await service.admin.RotateKey(key_id=other.key.key_id, request_id="r-1")
    assert refusal.info.metadata["key_id"] == made.key.key_id
    clock.advance(hours=1)
    await service.app.purge.step()
    again = await service.admin.CreateKey(owner_id="acme", display_name="x", request_id="r-1")
    assert again.key.key_id != made.key.key_id


async def test_a_request_id_belongs_to_its_owner(service: Service) -> None:
    """The same request_id of another owner is independent."""
    for owner_id in ("acme", "globex"):
        assert (
            await service.admin.CreateKey(owner_id=owner_id, display_name="x", request_id="r-1")
        ).key_string


async def test_a_key_string_pasted_into_a_field_is_refused(service: Service) -> None:  # rule 1
    """In a name it would be stored; it is refused, and the error does not repeat it."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="x")
    for fields in (
        {"display_name": made.key_string},
        {"display_name": "x", "description": f"the key is {made.key_string}!"},
        {"display_name": "x", "annotations": {"key": made.key_string}},
    ):
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await service.admin.CreateKey(owner_id="acme", **fields)
        assert made.key_string not in refusal.message
    with refused(INVALID, "INVALID_FIELD"):
        await service.admin.RevokeKey(key_id=made.key.key_id, reason=f"leaked: {made.key_string}")
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.GetKey(key_id=made.key_string)
    assert made.key_string not in refusal.message
