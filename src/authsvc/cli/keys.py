"""`authsvc keys`: the key service over gRPC, for people without grpcurl.

Tables and notes go to the terminal; a key string goes to standard output alone,
so that it can be piped.
"""

import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter
from rich.text import Text

from authsvc.cli.call import ClientError, Metadata, calling, first, notes, output, show, when
from authsvc.cli.duration import Duration
from authsvc.cli.table import Table, table
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import key_service_pb2_grpc, resources_pb2

keys = cyclopts.App(
    name="keys",
    help_format="plaintext",
    help="Create, list, revoke and rotate keys of a running service.\n\n"
    "Calls AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY, or else the service of `authsvc dev` with its "
    "admin.key.",
)
# A stub (its asynchronous type exists for the type checker only) and the metadata to call it with.
_Service = tuple["key_service_pb2_grpc.KeyServiceAsyncStub", Metadata]
_STYLES = {"ACTIVE": "green", "EXPIRED": "yellow", "REVOKED": "red"}


@keys.command
async def create(
    owner_id: str,
    display_name: str,
    *,
    scope: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    description: str = "",
    contact: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    annotation: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    ttl: Duration = None,
    expires: datetime | None = None,
    preset: Literal["unlimited", "five-days", "one-month", "six-months", "one-year"] | None = None,
    brand: str = "",
    environment: str = "",
    request_id: str = "",
) -> None:
    """Create a key and print its key string, which is never shown again.

    Parameters
    ----------
    owner_id
        The user or organization that the key is for.
    display_name
        What people call the key.
    scope
        What it may do; repeat for several.
    description
        What it is for.
    contact
        Whom to tell, as "Name <mail@example.org>"; repeat for several.
    annotation
        Your own note, as team=payments; repeat for several.
    ttl
        How long it lives, for instance 90d or 12h.
    expires
        When it expires, for instance 2027-01-31; UTC unless an offset is given.
    preset
        How long it lives, by the calendar.
    brand
        The first part of the key string.
    environment
        The second part: live or test.
    request_id
        Makes the call safe to repeat.
    """
    if sum(choice is not None for choice in (ttl, expires, preset)) > 1:
        raise ClientError("--ttl, --expires and --preset exclude each other; give one of them, or none")
    request = pb.CreateKeyRequest(
        owner_id=owner_id,
        display_name=display_name,
        description=description,
        scopes=scope,
        technical_contacts=[_contact(text) for text in contact],
        annotations=dict(_annotation(text) for text in annotation),
        brand=brand,
        environment=environment,
        request_id=request_id,
    )
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    if expires is not None:
        request.expire_time.FromDatetime(expires if expires.tzinfo else expires.replace(tzinfo=UTC))
    if preset is not None:
        name = f"EXPIRATION_PRESET_{preset.upper().replace('-', '_')}"
        request.expiration_preset = pb.ExpirationPreset.Value(name)
    async with _service() as (stub, metadata):
        response = await stub.CreateKey(request, metadata=metadata)
    _tell(response.key_string)
    notes.print(_table([response.key]))


@keys.command(name="list")
async def list_(
    owner_id: str,
    *,
    state: Annotated[tuple[Literal["active", "expired", "revoked"], ...], Parameter(negative="")] = (),
    query: str = "",
    scope: str = "",
    order_by: str = "",
    limit: int = 100,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List the keys of an owner.

    Parameters
    ----------
    owner_id
        Whose keys.
    state
        Only in this state; repeat for several.
    query
        Part of the name, or the beginning of the key prefix.
    scope
        Only with this scope.
    order_by
        display_name, create_time, expire_time or last_use_time, and " desc" or " asc".
    limit
        How many at most.
    as_json
        One JSON object a line instead of a table.
    """
    request = pb.ListKeysRequest(owner_id=owner_id, order_by=order_by)
    request.filter.query, request.filter.scope = query, scope
    request.filter.states.extend(resources_pb2.KeyState.Value(f"KEY_STATE_{s.upper()}") for s in state)
    async with _service() as (stub, metadata):
        found = await first(limit, request, partial(stub.ListKeys, metadata=metadata), lambda page: page.keys)
    show(found, limit, as_json=as_json, table=_table, more=bool(request.page_token))


@keys.command
async def revoke(
    key_id: str,
    *,
    reason: str = "",
    revoke_in: Annotated[Duration, Parameter(name="--in")] = None,
    allow_last_administrator: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Revoke a key for good, now or later.

    Parameters
    ----------
    key_id
        The key, as `authsvc keys list` shows it.
    reason
        Why, for whoever reads the list later.
    revoke_in
        How much longer it works, for instance 24h.
    allow_last_administrator
        Also if it is the last administrator key; only `authsvc bootstrap` makes another then.
    """
    request = pb.RevokeKeyRequest(
        key_id=key_id, reason=reason, allow_last_administrator=allow_last_administrator
    )
    if revoke_in is not None:
        request.revoke_in.FromTimedelta(revoke_in)
    async with _service() as (stub, metadata):
        key = await stub.RevokeKey(request, metadata=metadata)
    output.print(_table([key]))


@keys.command
async def rotate(key_id: str, *, grace: Duration = None, request_id: str = "") -> None:
    """Replace a key by a new one and print the new key string, which is never shown again.

    Parameters
    ----------
    key_id
        The key to replace.
    grace
        How much longer the old one works, for instance 24h.
    request_id
        Makes the call safe to repeat.
    """
    request = pb.RotateKeyRequest(key_id=key_id, request_id=request_id)
    if grace is not None:
        request.grace_period.FromTimedelta(grace)
    async with _service() as (stub, metadata):
        response = await stub.RotateKey(request, metadata=metadata)
    _tell(response.key_string)
    notes.print(_table([response.key]))


@asynccontextmanager
async def _service() -> AsyncIterator[_Service]:
    async with calling() as (channel, metadata):
        stub: key_service_pb2_grpc.KeyServiceAsyncStub = key_service_pb2_grpc.KeyServiceStub(channel)
        yield stub, metadata


def _contact(text: str) -> resources_pb2.TechnicalContact:
    match = re.fullmatch(r"\s*(.+?)\s*<([^<>]+)>\s*", text)
    if match is None:
        raise ClientError(f"--contact {text!r}: write it as 'Name <mail@example.org>'")
    return resources_pb2.TechnicalContact(name=match[1], email=match[2])


def _annotation(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ClientError(f"--annotation {text!r}: write it as name=value")
    return name, value


def _tell(key_string: str) -> None:
    if sys.stdout.isatty():
        notes.print("The key string, shown this once:")
    print(key_string)


def _table(found: Sequence[resources_pb2.Key]) -> Table:
    return table(
        ("id", "name", "prefix", "state", "scopes", "created", "expires", "last used"),
        (
            (
                key.key_id,
                key.display_name,
                f"{key.key_prefix}...",
                _state(key),
                " ".join(key.scopes),
                when(key.create_time),
                when(key.expire_time) if key.HasField("expire_time") else "never",
                _last_use(key),
            )
            for key in found
        ),
        unbroken=("id", "prefix", "state"),
    )


def _state(key: resources_pb2.Key) -> Text:
    state = resources_pb2.KeyState.Name(key.state).removeprefix("KEY_STATE_")
    if state == "ACTIVE" and key.HasField("revoke_time"):
        return Text(f"ACTIVE until {when(key.revoke_time)}", "yellow")
    return Text(state, _STYLES[state])


def _last_use(key: resources_pb2.Key) -> str | Text:
    if key.never_delivered:
        return Text("never delivered", "yellow")
    return when(key.last_use_time) if key.HasField("last_use_time") else "never"
