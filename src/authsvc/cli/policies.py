"""`authsvc policies`: shows and updates what owners may do with API keys."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from authsvc.cli.call import ClientError, Metadata, calling, output, when
from authsvc.cli.parameters import Duration
from authsvc.cli.rate_limit import read_limits
from authsvc.cli.table import Table, table
from authsvc.rpc.rate_limits import shown_limits
from authsvc.v1 import owner_policy_service_pb2 as pb
from authsvc.v1 import owner_policy_service_pb2_grpc

policies = cyclopts.App(
    name="policies",
    help_format="plaintext",
    help="Show and update what owners may do with API keys.\n\n"
    "Calls the service at AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY. The defaults are the service "
    "of `authsvc dev` and its admin.key. Only keys of the owner `authsvc` can update a policy.",
)
_Service = tuple["owner_policy_service_pb2_grpc.OwnerPolicyServiceAsyncStub", Metadata]
_AsJson = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one JSON object instead of a table.")
]
_Networks = Annotated[
    str | None, Parameter(help='The networks that keys may be used from, comma-separated; "" for any.')
]
_Limits = Annotated[
    str | None,
    Parameter(
        help="How often all keys of the owner together may be used, comma-separated, for instance "
        'requests=1000/1m; "" for no limit.'
    ),
]
_Brand = Annotated[
    str | None, Parameter(help='The first part of new key strings; "" for the default of the service.')
]
_Etag = Annotated[str, Parameter(help="Update the policy only if this is its current etag.")]


@policies.command
async def get(owner_id: str, *, as_json: _AsJson = False) -> None:
    """Show the policy that applies to an owner: its own, or the default one.

    Parameters
    ----------
    owner_id
        The owner whose policy is shown.
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
    brand: _Brand = None,
    rotation_period: Duration = None,
    allowed_networks: _Networks = None,
    rate_limits: _Limits = None,
    etag: _Etag = "",
    as_json: _AsJson = False,
) -> None:
    """Update the given fields of an owner's policy, and show the result.

    Existing keys do not change. Only --no-keys-enabled, --allowed-networks and --rate-limits affect them.

    Parameters
    ----------
    owner_id
        The owner whose policy is updated.
    keys_enabled
        Whether the owner can have API keys at all.
    max_active_keys
        The maximum number of active keys; 0 for no limit.
    allowed_scopes
        The scopes that keys may have, comma-separated; "" for any.
    max_key_lifetime
        The maximum lifetime of a key, for instance 90d; 0d for no limit.
    expiration_required
        Whether keys must have an expiry.
    contacts_required
        Whether keys must have a technical contact.
    key_edits
        Which fields of a key may be changed: none, details (name, description, contacts) or all.
    key_managers
        Which callers of the owner may manage its keys: any, or only sessions.
    rotation_period
        The age at which contacts are asked to rotate a key, for instance 90d; 0d for never.
    """
    given = {
        "keys_enabled": keys_enabled,
        "max_active_keys": max_active_keys,
        "allowed_scopes": None if allowed_scopes is None else _words(allowed_scopes),
        "max_key_lifetime": max_key_lifetime,
        "expiration_required": expiration_required,
        "contacts_required": contacts_required,
        "key_edits": _number(pb.KeyEdits, "KEY_EDITS", key_edits),
        "key_managers": _number(pb.KeyManagers, "KEY_MANAGERS", key_managers),
        "brand": brand,
        "rotation_period": rotation_period,
        "allowed_networks": None if allowed_networks is None else _words(allowed_networks),
        "rate_limits": None if rate_limits is None else read_limits(_words(rate_limits), "--rate-limits"),
    }
    await _update(pb.OwnerPolicy(owner_id=owner_id, etag=etag), given, as_json=as_json)


async def _update(policy: pb.OwnerPolicy, given: Mapping[str, object], *, as_json: bool) -> None:
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise ClientError(
            "nothing to update; give at least one field, for instance --max-active-keys 5; see --help"
        )
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
    lifetime, rotation = policy.max_key_lifetime.ToTimedelta(), policy.rotation_period.ToTimedelta()
    rows = (
        ("owner", policy.owner_id),
        (
            "policy",
            f"updated {when(policy.update_time)}" if policy.HasField("update_time") else "the default policy",
        ),
        ("keys enabled", "yes" if policy.keys_enabled else "NO: keys do not work and cannot be created"),
        ("max active keys", str(policy.max_active_keys or "no limit")),
        ("allowed scopes", " ".join(policy.allowed_scopes) or "any"),
        ("max key lifetime", _length(lifetime) if lifetime else "no limit"),
        ("expiration required", _yes(policy.expiration_required)),
        ("contacts required", _yes(policy.contacts_required)),
        ("key edits", _word(pb.KeyEdits.Name(policy.key_edits), "KEY_EDITS_")),
        ("key managers", _word(pb.KeyManagers.Name(policy.key_managers), "KEY_MANAGERS_")),
        ("brand", policy.brand or "the service's default"),
        ("rotation period", _length(rotation) if rotation else "never due"),
        ("allowed networks", " ".join(policy.allowed_networks) or "any"),
        ("rate limits", " ".join(shown_limits(policy.rate_limits)) or "none"),
        ("etag", policy.etag),
    )
    return table(("field", "value"), rows, with_header=False)


def _length(length: timedelta) -> str:
    return str(length).removesuffix(", 0:00:00")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")
