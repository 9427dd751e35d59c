"""`authsvc policies`: what owners may do with API keys, for people who sell plans."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from authsvc.cli.call import ClientError, Metadata, calling, output, when
from authsvc.cli.duration import Duration
from authsvc.cli.table import Table, table
from authsvc.v1 import owner_policy_service_pb2 as pb
from authsvc.v1 import owner_policy_service_pb2_grpc

policies = cyclopts.App(
    name="policies",
    help_format="plaintext",
    help="Show and change what owners may do with API keys.\n\n"
    "Calls AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY, or else the service of `authsvc dev` with its "
    "admin.key. Only keys of the owner `authsvc` may change a policy.",
)
_Service = tuple["owner_policy_service_pb2_grpc.OwnerPolicyServiceAsyncStub", Metadata]
_AsJson = Annotated[bool, Parameter(name="--json", negative="")]


@policies.command
async def get(owner_id: str, *, as_json: _AsJson = False) -> None:
    """Show the policy that an owner has: its own, or the default one.

    Parameters
    ----------
    owner_id
        Whose policy.
    as_json
        One JSON object instead of a table.
    """
    async with _service() as (stub, metadata):
        policy = await stub.GetOwnerPolicy(pb.GetOwnerPolicyRequest(owner_id=owner_id), metadata=metadata)
    _show(policy, as_json=as_json)


@policies.command
async def update(
    owner_id: str,
    *,
    keys_enabled: bool | None = None,
    max_active_keys: int | None = None,
    allowed_scopes: str | None = None,
    max_key_lifetime: Duration = None,
    expiration_required: bool | None = None,
    contacts_required: bool | None = None,
    key_edits: Literal["none", "details", "all"] | None = None,
    key_managers: Literal["any", "sessions-only"] | None = None,
    brand: str | None = None,
    etag: str = "",
    as_json: _AsJson = False,
) -> None:
    """Change what is given of an owner's policy, and show it then.

    Keys that exist keep what they have. Only --no-keys-enabled acts on them, at once: they are
    refused everywhere when this has answered, until --keys-enabled.

    Parameters
    ----------
    owner_id
        Whose policy.
    keys_enabled
        Whether the owner has API keys at all.
    max_active_keys
        How many may be active at a time; 0: any number.
    allowed_scopes
        The scopes that keys may have, by commas; "": any.
    max_key_lifetime
        How long a key may live, for instance 90d; 0: without limit.
    expiration_required
        Whether a key must have an expiry.
    contacts_required
        Whether a key must have a technical contact.
    key_edits
        What may be changed of a key: none, details (name, description, contacts) or all.
    key_managers
        Which callers of the owner may manage its keys: any, or sessions only.
    brand
        The first part of new key strings; "": the service's.
    etag
        Change nothing unless this is still the policy's etag.
    as_json
        One JSON object instead of a table.
    """
    policy = pb.OwnerPolicy(owner_id=owner_id, etag=etag)
    given: dict[str, object] = {
        "keys_enabled": keys_enabled,
        "max_active_keys": max_active_keys,
        "allowed_scopes": None if allowed_scopes is None else _words(allowed_scopes),
        "max_key_lifetime": max_key_lifetime,
        "expiration_required": expiration_required,
        "contacts_required": contacts_required,
        "key_edits": _number(pb.KeyEdits, "KEY_EDITS", key_edits),
        "key_managers": _number(pb.KeyManagers, "KEY_MANAGERS", key_managers),
        "brand": brand,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise ClientError("say what to change, for instance --max-active-keys 5; see --help")
    policy.MergeFrom(pb.OwnerPolicy(**changes))  # type: ignore[arg-type]
    request = pb.UpdateOwnerPolicyRequest(policy=policy, update_mask=FieldMask(paths=sorted(changes)))
    async with _service() as (stub, metadata):
        policy = await stub.UpdateOwnerPolicy(request, metadata=metadata)
    _show(policy, as_json=as_json)


@asynccontextmanager
async def _service() -> AsyncIterator[_Service]:
    async with calling() as (channel, metadata):
        stub: owner_policy_service_pb2_grpc.OwnerPolicyServiceAsyncStub
        stub = owner_policy_service_pb2_grpc.OwnerPolicyServiceStub(channel)
        yield stub, metadata


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(enum: type, prefix: str, choice: str | None) -> int | None:
    if choice is None:
        return None
    return int(enum.Value(f"{prefix}_{choice.upper().replace('-', '_')}"))  # type: ignore[attr-defined]


def _show(policy: pb.OwnerPolicy, *, as_json: bool) -> None:
    if as_json:
        shown = MessageToDict(
            policy, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(shown))
    else:
        output.print(_table(policy))


def _table(policy: pb.OwnerPolicy) -> Table:
    lifetime = policy.max_key_lifetime.ToTimedelta()
    rows = (
        ("owner", policy.owner_id),
        (
            "policy",
            f"updated {when(policy.update_time)}" if policy.HasField("update_time") else "the default one",
        ),
        ("keys enabled", "yes" if policy.keys_enabled else "NO: none works, none can be created"),
        ("max active keys", str(policy.max_active_keys or "any number")),
        ("allowed scopes", " ".join(policy.allowed_scopes) or "any"),
        ("max key lifetime", str(lifetime).removesuffix(", 0:00:00") if lifetime else "without limit"),
        ("expiration required", _yes(policy.expiration_required)),
        ("contacts required", _yes(policy.contacts_required)),
        ("key edits", _word(pb.KeyEdits.Name(policy.key_edits), "KEY_EDITS_")),
        ("key managers", _word(pb.KeyManagers.Name(policy.key_managers), "KEY_MANAGERS_")),
        ("brand", policy.brand or "the service's"),
        ("etag", policy.etag),
    )
    return table(("field", "value"), rows, with_header=False)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")
