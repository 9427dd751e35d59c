"""Requests in JSON: what is refused, how it is told, and how much of it is looked at."""

import asyncio
import json
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import MessageToDict, MessageToJson, Parse
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.errors import InvalidArgument
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import owner_policy_service_pb2 as policy_pb
from authsvc.v1 import resources_pb2
from authsvc.web import json_message
from tests.rpc.test_access_table import METHODS

SECRET = "authsvc_live_" + "a" * 63
TYPES = sorted({method.input_type.full_name for method in METHODS.values() if not method.client_streaming})
BY_NAME: dict[str, Any] = {
    method.input_type.full_name: GetMessageClass(method.input_type) for method in METHODS.values()
}


def refusal(text: str | bytes, request_type: Any = pb.CreateKeyRequest) -> list[str]:
    """Return the field, the rule and the problem of a request that is refused."""
    with pytest.raises(InvalidArgument) as caught:
        json_message.parse(text.encode() if isinstance(text, str) else text, request_type)
    [violation] = caught.value.violations
    assert SECRET not in caught.value.message
    return [violation.field, violation.rule, violation.description]


def test_both_names_are_read() -> None:
    """Those of the protos, and those of answers; in a field mask as well."""
    for text in (
        '{"key": {"key_id": "x", "display_name": "y"}, "update_mask": "display_name,technical_contacts"}',
        '{"key": {"keyId": "x", "displayName": "y"}, "updateMask": "displayName,technicalContacts"}',
    ):
        request: Any = json_message.parse(text.encode(), pb.UpdateKeyRequest)
        assert (request.key.key_id, request.key.display_name) == ("x", "y")
        assert list(request.update_mask.paths) == ["display_name", "technical_contacts"]


def test_null_is_no_value() -> None:
    """As in ProtoJSON."""
    assert (
        json_message.parse(b'{"owner_id": null, "scopes": null}', pb.CreateKeyRequest)
        == pb.CreateKeyRequest()
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["", "request.decodable", "is empty; send {} at least"]),
        (
            "{",
            ["", "request.decodable", "is not valid JSON: Expecting property name enclosed in double quotes"],
        ),
        ('{"a": 1}}', ["", "request.decodable", "is not valid JSON: Extra data, in line 1, column 9"]),
        ("[]", ["", "request.decodable", "must be an object"]),
        ("null", ["", "request.decodable", "must be an object"]),
        ('"x"', ["", "request.decodable", "must be an object"]),
        ("\ufeff{}", ["", "request.decodable", "is not valid JSON"]),
        (b'{"owner_id": "\xff"}', ["", "request.decodable", "is not UTF-8"]),
        (b'{"owner_id": "\xed\xa0\x80"}', ["", "request.decodable", "is not UTF-8"]),
        ('{"owner": "x"}', ["owner", "request.known_field", "is not a field of this request"]),
        (
            '{"technical_contacts": [{}, {"mail": ""}]}',
            ["technical_contacts[1].mail", "request.known_field", "is not a field of this request"],
        ),
        ('{"[google.protobuf.x]": 1}', ["[google.protobuf.x]", "request.known_field", "is not a field"]),
        ('{"@type": 1}', ["@type", "request.known_field", "is not a field"]),
        (
            f'{{"{SECRET}": 1}}',
            ["", "request.known_field", "has a field that requests of this kind have not"],
        ),
        ('{"\\ud800": 1}', ["", "request.known_field", "has a field that requests of this kind have not"]),
        (
            '{"owner_id": "a", "owner_id": "b"}',
            ["", "request.decodable", "has an object with the same name twice"],
        ),
        (
            '{"owner_id": "a", "ownerId": "b"}',
            ["owner_id", "request.decodable", "is there twice, also as ownerId"],
        ),
        ('{"owner_id": 7}', ["owner_id", "request.decodable", "must be a string of Unicode characters"]),
        (f'{{"owner_id": ["{SECRET}"]}}', ["owner_id", "request.decodable", "must be a string of Unicode"]),
        (
            '{"owner_id": "\\ud800"}',
            ["owner_id", "request.decodable", "must be a string of Unicode characters"],
        ),
        ('{"scopes": "a:b"}', ["scopes", "request.decodable", "must be a list"]),
        (
            '{"scopes": ["a:b", 1]}',
            ["scopes", "request.decodable", "has an item that cannot be read; each must be a"],
        ),
        (
            '{"scopes": [null]}',
            ["scopes", "request.decodable", "has an item that cannot be read; each must be a str"],
        ),
        ('{"annotations": []}', ["annotations", "request.decodable", "must be an object"]),
        (
            '{"annotations": {"a": 1}}',
            ["annotations", "request.decodable", "has an item that cannot be read; each"],
        ),
        (
            '{"annotations": {"a": null}}',
            ["annotations", "request.decodable", "has an item that cannot be read"],
        ),
        ('{"technical_contacts": {}}', ["technical_contacts", "request.decodable", "must be a list"]),
        ('{"technical_contacts": [7]}', ["technical_contacts[0]", "request.decodable", "must be an object"]),
        (
            '{"technical_contacts": [null]}',
            ["technical_contacts[0]", "request.decodable", "must be an object"],
        ),
        (
            '{"technical_contacts": [{}, {"email": {}}]}',
            ["technical_contacts[1].email", "request.decodable", "must be a string of Unicode characters"],
        ),
        (
            f'{{"expire_time": "{SECRET}"}}',
            ["expire_time", "request.decodable", 'must be an instant such as "2026-11-27T12:00:00Z"'],
        ),
        ('{"expire_time": 7}', ["expire_time", "request.decodable", "must be an instant such as"]),
        (
            '{"expire_time": {"seconds": 7}}',
            ["expire_time", "request.decodable", "must be an instant such as"],
        ),
        ('{"owner_id": NaN}', ["", "request.decodable", "has a number that is out of range"]),
        (f'{{"owner_id": {"9" * 5000}}}', ["", "request.decodable", "has a number that is out of range"]),
        ("[" * 100_000, ["", "request.decodable", "is nested too deeply"]),
        ('{"key":' * 100_000, ["", "request.decodable", "is nested too deeply"]),
        (
            '{"a":[' + "{}," * 2000 + "{}]}",
            ["", "request.decodable", "has more than 2000 objects; send fewer"],
        ),
        (
            json.dumps({"scopes": ["a:b"] * 101}),
            ["scopes", "repeated.max_items", "has 101 items; the maximum is 100"],
        ),
        (
            json.dumps({"annotations": {str(number): "" for number in range(101)}}),
            ["annotations", "repeated.max_items", "has 101 items; the maximum is 100"],
        ),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_refused(text: str | bytes, told: list[str]) -> None:
    """The field is named, and no value is repeated."""
    found = refusal(text)
    assert found[:2] == told[:2]
    assert found[2].startswith(told[2])


def test_other_types() -> None:
    """Numbers, truth values, durations, enumerations and field masks."""
    policy = policy_pb.UpdateOwnerPolicyRequest
    for text, told in (
        ('{"policy": {"keys_enabled": "yes"}}', ["policy.keys_enabled", "must be true or false"]),
        (
            '{"policy": {"max_active_keys": 1e99}}',
            ["policy.max_active_keys", "must be a whole number of 32 bits"],
        ),
        (
            '{"policy": {"max_active_keys": []}}',
            ["policy.max_active_keys", "must be a whole number of 32 bits"],
        ),
        (
            '{"policy": {"max_key_lifetime": "1d"}}',
            ["policy.max_key_lifetime", 'must be a number of seconds such as "3600s"'],
        ),
        (
            '{"update_mask": ["x"]}',
            ["update_mask", 'must name fields, separated by commas, such as "displayName,scopes"'],
        ),
    ):
        assert refusal(text, policy)[::2] == told
    assert refusal('{"filter": {"states": ["ACTIVE"]}}', pb.ListKeysRequest)[2].endswith(
        "each must be one of KEY_STATE_UNSPECIFIED, KEY_STATE_ACTIVE, KEY_STATE_EXPIRED, KEY_STATE_REVOKED, "
        "KEY_STATE_DISABLED"
    )


@pytest.mark.parametrize("name", TYPES)
def test_types_end(name: str) -> None:
    """No request can be nested without end, or hold a message of any type: the walk through it ends."""

    def walk(descriptor: Descriptor, above: tuple[str, ...]) -> None:
        assert descriptor.full_name not in above
        assert descriptor.full_name not in (
            "google.protobuf.Any",
            "google.protobuf.Struct",
            "google.protobuf.Value",
        )
        for field in descriptor.fields:
            if field.message_type is not None:
                walk(field.message_type, (*above, descriptor.full_name))

    walk(BY_NAME[name].DESCRIPTOR, ())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def _like(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Return objects with the fields of a message, of which some have values of another type."""
    values: dict[str, st.SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        inner = field.message_type
        value: st.SearchStrategy[Any] = _JSON
        if (
            inner is not None
            and not inner.full_name.startswith("google.protobuf.")
            and not inner.GetOptions().map_entry
        ):
            value = _like(inner) | _JSON
        values[field.json_name] = st.lists(value, max_size=3) | value if field.is_repeated else value
    return st.fixed_dictionaries({}, optional=values)


@given(st.data())
def test_any_json_is_read_or_refused(data: st.DataObject) -> None:
    """By InvalidArgument that names a field, and by nothing else."""
    request_type = BY_NAME[data.draw(st.sampled_from(TYPES))]
    value = data.draw(_like(request_type.DESCRIPTOR))
    text = json.dumps(value).encode()
    try:
        request = json_message.parse(text, request_type)
    except InvalidArgument as error:
        refused = error
    else:
        assert json_message.parse(MessageToJson(request).encode(), request_type) == request
        return
    assert "is not a valid message of its type" not in refused.message


async def test_large_answers_are_the_same() -> None:
    """They are written item by item."""
    key = resources_pb2.Key(
        key_id="key_x", display_name='"\u2028\U00020000\\', scopes=["a:b"], annotations={"a": "b"}
    )
    for count in (0, 1, 2, 1000):
        answer = pb.ListKeysResponse(keys=[key] * count, next_page_token="x" * count)
        written = await json_message.write(answer)
        assert json.loads(written) == MessageToDict(answer)
        assert Parse(written, pb.ListKeysResponse()) == answer
    only = pb.ListKeysResponse(keys=[key] * 1000)
    assert json.loads(await json_message.write(only)) == MessageToDict(only)


def importing(count: int, contacts: int = 2) -> dict[str, Any]:
    """Return a request to import keys with annotations and contacts."""
    keys = [
        {
            "hash": f"sha256:{number:064x}",
            "displayName": "Old key",
            "annotations": {"old-id": "8123"},
            "technicalContacts": [{"name": "Ada", "email": "ada@example.org"}] * contacts,
        }
        for number in range(count)
    ]
    return {"ownerId": "acme", "keys": keys}


async def test_a_large_request_is_the_same() -> None:
    """It is read item by item; a fault names the item by its number in the whole list."""
    text = json.dumps(importing(1000, contacts=7)).encode()
    assert await json_message.read(text, pb.ImportKeysRequest) == Parse(text, pb.ImportKeysRequest())
    wrong = importing(1000)
    wrong["keys"][777]["technicalContacts"][1] = {"name": 7}
    with pytest.raises(InvalidArgument) as caught:
        await json_message.read(json.dumps(wrong).encode(), pb.ImportKeysRequest)
    [violation] = caught.value.violations
    assert violation.field == "keys[777].technical_contacts[1].name"
    wrong = importing(1000) | {"ownerId": []}
    with pytest.raises(InvalidArgument) as caught:
        await json_message.read(json.dumps(wrong).encode(), pb.ImportKeysRequest)
    assert [each.field for each in caught.value.violations] == ["owner_id"]


async def test_an_import_has_more_objects_than_others() -> None:
    """Its bound is that of its keys together, and the error says what to do."""
    told = "has more than 10000 objects; send fewer keys at a time"
    assert refusal(json.dumps(importing(1000, contacts=8)), pb.ImportKeysRequest) == [
        "",
        "request.decodable",
        told,
    ]


async def test_large_messages_leave_others_their_time() -> None:
    """While they are read and written, the event loop turns."""
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    key = resources_pb2.Key(key_id="key_x", display_name="x" * 200)
    task = asyncio.create_task(turning())
    await json_message.write(pb.ListKeysResponse(keys=[key] * 300))
    written = turns
    await json_message.read(json.dumps(importing(300)).encode(), pb.ImportKeysRequest)
    task.cancel()
    assert written >= 300 // 25
    assert turns - written >= 300 // 25
