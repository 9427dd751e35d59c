"""Human-readable texts, in every RPC that takes one."""

import json
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from unicodedata import normalize

import asyncpg
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message_factory import GetMessageClass

from authsvc.rpc import protos
from authsvc.v1 import (
    audit_service_pb2,
    key_service_pb2,
    options_pb2,
    owner_policy_service_pb2,
    resources_pb2,
    session_service_pb2,
)
from tests.conftest import Client, Service
from tests.rpc.refusal import refused
from tests.rpc.test_revoke import make

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Send = Callable[[Client, str, str], Awaitable[Any]]


async def name(client: Client, _: str, text: str) -> str:
    made = await client.CreateKey(owner_id="acme", display_name=text)
    return str(made.key.display_name)


async def description(client: Client, _: str, text: str) -> str:
    made = await client.CreateKey(owner_id="acme", display_name="x", description=text)
    return str(made.key.description)


async def contact(client: Client, _: str, text: str) -> str:
    contacts = [
        resources_pb2.TechnicalContact(name="Ada", email="ada@example.org"),
        resources_pb2.TechnicalContact(name=text, email="ops@example.org"),
    ]
    made = await client.CreateKey(owner_id="acme", display_name="x", technical_contacts=contacts)
    return str(made.key.technical_contacts[1].name)


async def annotation(client: Client, _: str, text: str) -> str:
    made = await client.CreateKey(owner_id="acme", display_name="x", annotations={"team": text})
    return str(made.key.annotations["team"])


async def annotation_of_a_session(client: Client, _: str, text: str) -> str:
    opened = await client.CreateSession(owner_id="acme", annotations={"team": text})
    return str(opened.session.annotations["team"])


async def new_name(client: Client, key_id: str, text: str) -> str:
    key = resources_pb2.Key(key_id=key_id, display_name=text)
    mask = FieldMask(paths=["display_name"])
    return str((await client.UpdateKey(key=key, update_mask=mask)).display_name)


async def reason(client: Client, key_id: str, text: str) -> str:
    return str((await client.RevokeKey(key_id=key_id, reason=text)).revoke_reason)


async def reason_for_many(client: Client, key_id: str, text: str) -> str:
    revoked = await client.BatchRevokeKeys(key_ids=[key_id], reason=text)
    return str(revoked.keys[0].revoke_reason)


FIELDS: dict[str, Send] = {
    "display_name": name,
    "description": description,
    "technical_contacts[1].name": contact,
    "annotations['team']": annotation,
    "annotations['team'] ": annotation_of_a_session,
    "key.display_name": new_name,
    "reason": reason,
    "reason ": reason_for_many,
}


@pytest.mark.parametrize("text", ["a\u202eb", "a\u2028b", "a\u200bb"], ids=ascii)
@pytest.mark.parametrize("field", FIELDS)
async def test_what_hides_or_turns_is_refused(service: Service, field: str, text: str) -> None:  # rule 2
    """In every text field, with the path of the field; nothing is changed."""
    made = await make(service)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await FIELDS[field](service.admin, made.key.key_id, text)
    assert list(refusal.fields) == [field.strip()]
    assert await service.admin.GetKey(key_id=made.key.key_id) == made.key
    assert len((await service.admin.ListKeys(owner_id="acme")).keys) == 1


@pytest.mark.parametrize("field", FIELDS)
async def test_texts_are_kept_alike(service: Service, field: str) -> None:
    """In normalization form C, without blanks at the ends, with the joiners that scripts and emoji need."""
    made = await make(service)
    shown = await FIELDS[field](service.admin, made.key.key_id, "\u3000Zoe\u0308 👨\u200d👩\u200d👧\u2800 ")
    assert shown == "Zoë 👨\u200d👩\u200d👧"


@pytest.mark.parametrize(
    "blank", ["\u3000", "\u00a0", "\u3164", "\u2800", "\uffa0 \u115f", "\u2003"], ids=ascii
)
async def test_a_name_is_more_than_blanks(service: Service, blank: str) -> None:  # rule 2
    """Blanks are those of Unicode, and letters that look like one."""
    made = await make(service)
    for field in "display_name", "technical_contacts[1].name":
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await FIELDS[field](service.admin, "", blank)
        assert refusal.fields == {field: "use 1 to 255 characters in one line, not only spaces"}
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await new_name(service.admin, made.key.key_id, blank)
    assert refusal.fields == {"key.display_name": "must not be empty"}


async def test_descriptions_and_annotations_have_lines(service: Service) -> None:
    """A name and a reason have only one line."""
    made = await make(service)
    lines = "one\n\ttwo\r\nthree"
    for field in "description", "annotations['team']", "annotations['team'] ":
        assert await FIELDS[field](service.admin, "", f"\n{lines}\n") == lines
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await reason(service.admin, made.key.key_id, lines)
    assert refusal.fields == {"reason": "use one line, without control characters"}


async def test_the_length_is_that_of_what_is_kept(service: Service) -> None:
    """Blanks at the ends and the encoding of an accent do not count."""
    assert await name(service.admin, "", " " + "e\u0301" * 255 + " ") == "é" * 255


async def test_no_key_string_comes_of_it(service: Service) -> None:  # rule 1
    """Neither by normalization nor by trimming."""
    made = await make(service)
    body = made.key.key_prefix.removesuffix(made.key.key_prefix[-12:]) + "K" * 63
    for field in FIELDS:
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await FIELDS[field](service.admin, made.key.key_id, body.replace("K", "\u212a"))
        assert "contains a key string, which this field does not allow" in refusal.fields[field.strip()]


@pytest.mark.parametrize("first", [0xFF21, 0xFF41], ids=["capital", "small"])
async def test_no_key_string_is_searched_for(service: Service, first: int) -> None:  # rule 1
    """The folded form of names turns full-width letters into ordinary ones, in lower case."""
    made = await make(service)
    body = made.key.key_prefix.removesuffix(made.key.key_prefix[-12:])
    for wide in (body + chr(first) * 63, "".join(chr(ord(a) + 0xFEE0) for a in body + "K" * 63)):
        for field in FIELDS:
            with refused(INVALID, "INVALID_FIELD") as refusal:
                await FIELDS[field](service.admin, made.key.key_id, wide)
            assert "contains a key string, which this field does not allow" in refusal.fields[field.strip()]


async def test_marks_that_take_long_to_sort(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:  # rule 2
    """A text or a search of any length is refused before it is normalized as a whole."""
    longest = 0  # of those with marks

    def counted(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
        nonlocal longest
        longest = max(longest, sum(map(unicodedata.combining, text)) and len(text))
        return normalize(form, text)

    made = await make(service)
    monkeypatch.setattr(unicodedata, "normalize", counted)
    text = "a" + "\u0301\u0323" * 30_000
    for field in FIELDS:
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await FIELDS[field](service.admin, made.key.key_id, text)
        assert list(refusal.fields) == [field.strip()]
        with refused(INVALID, "INVALID_FIELD") as refusal:
            await FIELDS[field](service.admin, made.key.key_id, text[:40])
        assert "more than 30 combining marks in a row" in refusal.fields[field.strip()]
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.ListKeys(owner_id="acme", filter={"query": text})
    assert list(refusal.fields) == ["filter.query"]
    assert longest == 1


async def test_a_search_finds_what_is_written_otherwise(service: Service) -> None:
    """The filter is normalized like names, and may contain what a name cannot."""
    made = await service.admin.CreateKey(owner_id="acme", display_name="Zoe\u0308's key")
    for query in ("zoë", "ZOE\u0308", " zoë's ", "\u3000key"):
        found = await service.admin.ListKeys(owner_id="acme", filter={"query": query})
        assert list(found.keys) == [made.key], query
    for query in ("\u202e", "a\u2028b"):
        found = await service.admin.ListKeys(owner_id="acme", filter={"query": query})
        assert list(found.keys) == []


async def test_what_stands_there_from_before(service: Service, database_url: str) -> None:
    """It can be read, found and rotated, and does not prevent changes of other fields."""
    made = await make(service, scopes=["a"])
    key_id, old = made.key.key_id, "a\u202eb\u2028"
    contacts = json.dumps([{"name": "\u3164", "email": "ops@example.org"}])
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE authsvc.keys SET display_name = $1, folded_name = $1, description = $1, "
        "technical_contacts = $2, annotations = $3",
        old,
        contacts,
        json.dumps({"team": old}),
    )
    await connection.close()
    [listed] = (await service.admin.ListKeys(owner_id="acme", filter={"query": "\u202eb"})).keys
    assert (listed.display_name, listed.description, listed.annotations["team"]) == (old, old, old)
    assert (await service.admin.VerifyKey(key_string=made.key_string)).annotations == {"team": old}
    listed.scopes[:] = ["b"]
    changed = await service.admin.UpdateKey(key=listed, update_mask=FieldMask(paths=["scopes"]))
    assert (changed.scopes, changed.display_name) == (["b"], old)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.UpdateKey(key=changed, update_mask=FieldMask(paths=["*"]))
    assert set(refusal.fields) == {
        "key.display_name",
        "key.description",
        "key.annotations['team']",
        "key.technical_contacts[0].name",
    }
    rotated = (await service.admin.RotateKey(key_id=key_id)).key
    assert rotated.display_name == old


@pytest.mark.parametrize("address", ["zoë@exämple.org", "用户@例子.公司", "o'neil+keys@mail.example.org"])
async def test_international_mail_addresses(service: Service, address: str) -> None:  # rule 4
    """They are kept unchanged, in normalization form C."""
    contact = resources_pb2.TechnicalContact(name="Zoë", email=f" {address}")
    made = await service.admin.CreateKey(owner_id="acme", display_name="x", technical_contacts=[contact])
    assert made.key.technical_contacts[0].email == address


@pytest.mark.parametrize("address", ["", "zoë", "a@b\u200bc.d", "a@b..c", "é" * 125 + "@b.org"], ids=ascii)
async def test_what_is_no_mail_address(service: Service, address: str) -> None:  # rule 4
    """The error names the field."""
    contact = resources_pb2.TechnicalContact(name="Zoë", email=address)
    with refused(INVALID, "INVALID_FIELD") as refusal:
        await service.admin.CreateKey(owner_id="acme", display_name="x", technical_contacts=[contact])
    assert list(refusal.fields) == ["technical_contacts[0].email"]


def test_no_text_is_forgotten() -> None:
    """Every field that a client writes is a text, has rules that exclude free text, or is cleaned."""
    cleaned = {
        "CreateSessionRequest.ip_address",
        "CreateSessionRequest.user_agent",
        "VerifySessionRequest.client_ip",
        "VerifySessionRequest.user_agent",
        "VerifyKeyRequest.client_ip",
        "VerifyKeyRequest.user_agent",
        "LeakedKey.place",
        "VerifyTokenRequest.client_ip",
        *(f"ClientHints.{field.name}" for field in session_service_pb2.ClientHints.DESCRIPTOR.fields),
    }
    # Only compared with stored values, and never stored.
    compared = {
        "AuditEventFilter.actor_id",
        "AuditEventFilter.target_id",
        "GetKeyUsageRequest.page_token",
        "Key.etag",
        "KeyFilter.creator_id",
        "VerifyKeyRequest.any_of_scopes",
        "VerifySessionRequest.any_of_scopes",
        "ListAuditEventsRequest.page_token",
        "ListKeysRequest.order_by",
        "ListKeysRequest.page_token",
        "ListSessionsRequest.page_token",
        "LeakedKey.key_string",
        "LookupKeyRequest.key_string",
        "OwnerPolicy.etag",
        "RevokeKeyRequest.etag",
        "VerifyKeyRequest.key_string",
        "VerifyKeyRequest.required_scopes",
        "VerifySessionRequest.required_scopes",
        "VerifySessionRequest.session_token",
        "VerifyTokenRequest.any_of_scopes",
        "VerifyTokenRequest.audience",
        "VerifyTokenRequest.required_scopes",
        "VerifyTokenRequest.token",
    }
    # Read as networks, and stored in their normal form.
    networks = {
        "CreateKeyRequest.allowed_networks",
        "ImportedKey.allowed_networks",
        "Key.allowed_networks",
        "OwnerPolicy.allowed_networks",
        "PreviewAllowedNetworksRequest.allowed_networks",
    }
    # Read as days, and never stored.
    days = {"GetKeyUsageRequest.first_day", "GetKeyUsageRequest.last_day"}
    # Read as hashes and look-up prefixes, which have certain characters only.
    hashes = {"CreateKeyRequest.key_hash", "ImportedKey.hash", "ImportedKey.look_up_prefix"}
    # Output only.
    output = {
        "Key.owner_id",
        "Key.key_prefix",
        "Key.creator_id",
        "Key.revoker_id",
        "Key.revoke_reason",
        "Key.disable_reason",
        "Key.disabler_id",
        "Key.last_use_ip",
        "Key.rotated_from_key_id",
        "Key.rotated_to_key_id",
    }
    # Their rules allow only certain characters.
    forms = (
        "identifier_rule",
        "owner_rule",
        "scope_rule",
        "request_id_rule",
        "brand_rule",
        "age_recipient_rule",
        "in:",
        'pattern: "^[!-~]*$"',  # an audience
        'pattern: "^[a-z][a-z0-9_-]*$"',  # the name of a rate limit
    )
    files = (key_service_pb2, session_service_pb2, owner_policy_service_pb2, audit_service_pb2)
    pool = protos.pool(protos.read())
    with_rules = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FieldOptions"))
    found = set()
    seen: set[str] = set()

    def look(message: Any) -> None:
        if message.full_name in seen or message.file.package != "authsvc.v1":
            return
        seen.add(message.full_name)
        for field in message.fields:
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                look(field.message_type)
            elif field.type == field.TYPE_STRING or field.message_type is not None:
                options = field.GetOptions()
                is_text = options.Extensions[options_pb2.text] != options_pb2.TEXT_KIND_UNSPECIFIED
                rules = str(with_rules.FromString(options.SerializeToString()))
                if not is_text and not any(form in rules for form in forms):
                    found.add(f"{message.name}.{field.name}")

    for file in files:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                look(method.input_type)
    assert found == cleaned | compared | networks | days | hashes | output
