"""A tenant with all scopes on its own data tries to reach another, by every field of every RPC.

For each field, a value of the other tenant and a value that does not exist must have exactly the same
outcome, and no answer may reveal anything of the other tenant.
"""

import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from authsvc.model.key_string import SESSION
from tests.conftest import Service
from tests.rpc.test_access_table import (
    METHODS,
    OWNER,
    ROWS,
    delivery_of,
    no_calls,
    target,
    token_keys,
    token_of,
)

__all__ = ["no_calls", "token_keys"]
OTHER, NOBODY = "globex", "nobody"
# Texts that the caller chooses freely: they do not name anything that exists.
_WORDS = {
    "annotations",
    "audience",
    "brand",
    "description",
    "device",
    "display_name",
    "email",
    "environment",
    "event_types",
    "first_day",
    "instance",
    "key_prefix",
    "key_prefixes",
    "last_day",
    "last_use_ip",
    "client_hints",
    "client_ip",
    "ip_address",
    "name",
    "order_by",
    "place",
    "reason",
    "refund_id",
    "allowed_networks",
    "any_of_scopes",
    "disable_reason",
    "disabler_id",
    "required_scopes",
    "revoke_reason",
    "revoker_id",
    "rotated_from_key_id",
    "rotated_to_key_id",
    # Whether somebody has imported the same is told, but not who: test_imports.
    "hash",
    "key_hash",
    "look_up_prefix",
    "seal_to",
    "update_mask",
    "url",
    "user_agent",
}


class Tenant:
    """The values of the other tenant, or values of nobody: one for each field that could name something."""

    def __init__(self, owner_id: str, **values: str) -> None:
        self.values = {
            "owner_id": owner_id,
            "scope": f"{owner_id}:read",
            "scopes": f"{owner_id}:read",
            "allowed_scopes": f"{owner_id}:read",
            "query": f"{owner_id} inc",
            "request_id": f"made-by-{owner_id}",
            **values,
        }

    def of(self, field: str) -> str:
        """Return the value for a field of this name."""
        for ending in ("key_id", "session_id"):
            if field.removesuffix("s").endswith(ending):
                return self.values[ending]
        if field in ("creator_id", "actor_id", "target_id", "credential_id"):
            return self.values["key_id"]
        if field == "credential":
            return self.values["key_string"]
        return self.values[field]


def fields(
    descriptor: Descriptor, path: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield the path of each text field in a message."""
    for field in descriptor.fields:
        if field.message_type is not None:
            well_known = field.message_type.full_name.startswith("google.protobuf.")
            if not (well_known or field.message_type.GetOptions().map_entry):
                yield from fields(field.message_type, (*path, field))
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, field)


def put(message: Any, path: tuple[FieldDescriptor, ...], value: str) -> None:
    """Set the text at this path, in addition to existing values."""
    for field in path[:-1]:
        inner = getattr(message, field.name)
        message = (inner[0] if inner else inner.add()) if field.is_repeated else inner
    last = path[-1]
    if last.is_repeated:
        getattr(message, last.name).append(value)
    else:
        setattr(message, last.name, value)


def ways_of(method: str) -> list[tuple[FieldDescriptor, ...]]:
    """Return the paths of fields in a request that could name something of another tenant."""
    return [
        path
        for path in fields(METHODS[method].input_type)
        if _WORDS.isdisjoint(field.name for field in (path[0], *path[-2:]))
    ]


async def other_tenant(service: Service) -> Tenant:
    """Create another tenant with a key and a session, each with a value in every field."""
    admin = service.admin
    minted = [
        await admin.CreateKey(
            owner_id=OTHER,
            display_name=f"{OTHER} inc",
            scopes=[f"{OTHER}:read"],
            request_id=f"made-by-{OTHER}" if number == 0 else "",
            annotations={OTHER: OTHER},
        )
        for number in range(2)
    ]
    session = await admin.CreateSession(owner_id=OTHER, annotations={OTHER: OTHER})
    await admin.CreateSession(owner_id=OTHER)
    page = await admin.ListKeys(owner_id=OTHER, page_size=1)
    webhook_id, delivery_id = await delivery_of(service, OTHER)
    return Tenant(
        OTHER,
        key_id=minted[0].key.key_id,
        key_string=minted[0].key_string,
        session_id=session.session.session_id,
        session_token=session.session_token,
        token=await token_of(service, admin, OTHER),
        page_token=page.next_page_token,
        webhook_id=webhook_id,
        delivery_id=delivery_id,
        etag=minted[0].key.etag,
    )


def nobody(service: Service, other: Tenant) -> Tenant:
    """Make up a tenant that does not exist, with values of the same form."""
    # The tag is valid and the prefix does not exist: only a database query can tell.
    mint = service.app.verifier._mint
    made_up = secrets.token_hex(13)
    return Tenant(
        NOBODY,
        key_id=f"key_{made_up}",
        key_string=mint.mint("authsvc", "live").text,
        session_id=f"ses_{made_up}",
        session_token=mint.mint("authsvc", SESSION).text,
        token=other.values["token"][::-1],
        page_token=other.values["page_token"][::-1],
        webhook_id=f"whk_{made_up}",
        delivery_id=f"dlv_{made_up}",
        etag='"nobody"',
    )


async def state_of(service: Service) -> list[Message]:
    """Return everything that can be read of the other tenant."""
    admin = service.admin
    webhooks = await admin.ListWebhooks(owner_id=OTHER)
    return [
        webhooks,
        *[await admin.ListWebhookDeliveries(webhook_id=each.webhook_id) for each in webhooks.webhooks],
        await admin.ListKeys(owner_id=OTHER, include_total_size=True),
        await admin.ListSessions(owner_id=OTHER, include_ended=True),
        await admin.GetOwnerPolicy(owner_id=OTHER),
        await admin.ListAuditEvents(owner_id=OTHER),
    ]


async def outcome(
    channel: grpc.aio.Channel, key_string: str, method: str, request: Message, *sent: str
) -> str:
    """Return everything that the caller sees, with the values that it sent removed."""
    described = METHODS[method]
    rpc: Any = channel.unary_unary(
        f"/{described.containing_service.full_name}/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(described.output_type).FromString,
    )
    try:
        seen = str(await rpc(request, metadata=[("authorization", f"Bearer {key_string}")], timeout=30))
    except grpc.aio.AioRpcError as error:
        seen = str(rpc_status.from_call(error))
    for value in sent:
        seen = seen.replace(value, "<what was sent>")
    return seen


@pytest.mark.parametrize("method", [method for method in sorted(ROWS) if ways_of(method)])
async def test_nothing_of_another_tenant_is_reached(service: Service, method: str) -> None:  # rule 19
    """Values of another tenant and values that do not exist look the same; the other tenant is unchanged."""
    other = await other_tenant(service)
    before = await state_of(service)
    for path in ways_of(method):
        outcomes = []
        for tenant in (other, nobody(service, other)):
            # A new one each time: some calls end the key that they are made with.
            caller = await service.admin.CreateKey(
                owner_id=OWNER, display_name="hostile", scopes=["full_access"]
            )
            mine = await target(service)
            request = GetMessageClass(METHODS[method].input_type)(**ROWS[method].request(mine))
            value = tenant.of(path[-1].name)
            put(request, path, value)
            seen = await outcome(service.channel, caller.key_string, method, request, value, mine.key_id)
            assert not [own for own in (*other.values.values(), OTHER) if own in seen]
            outcomes.append(seen if is_telling(method, seen) else "OK")
        assert outcomes[0] == outcomes[1], path[-1].name
    # Whoever has the key string of another tenant's key may report it, which ends the key.
    assert (await state_of(service) == before) is (method != "ReportLeakedKeys")


def is_telling(method: str, seen: str) -> bool:
    """Return whether an answer is a refusal or a verdict, rather than a new object of the caller."""
    return "Verify" in method or seen.startswith("code: ")
