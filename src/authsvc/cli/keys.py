"""`authsvc keys`: calls the key service.

Commands that create a key print only the key string to standard output, or the age file with it, so that it
can be piped. Tables and notes go to standard error then.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from authsvc.cli.call import ClientError, first, notes, output, show
from authsvc.cli.contacts import read_contact
from authsvc.cli.credits import read_credits
from authsvc.cli.key_table import key_table
from authsvc.cli.minting import RequestId, SealTo, mint, service
from authsvc.cli.parameters import Duration, Time
from authsvc.cli.rate_limit import read_limits
from authsvc.rpc.confirmation import CASCADE_KEYS, CASCADE_SESSIONS, HOLDERS, WAIT_MS
from authsvc.v1 import key_service_pb2 as pb
from authsvc.v1 import resources_pb2

keys = cyclopts.App(
    name="keys",
    help_format="plaintext",
    help="Create, list, disable, enable, revoke and rotate keys of a running service.\n\n"
    "Calls the service at AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY. The defaults are the service "
    "of `authsvc dev` and its admin.key.",
)
Environment = Annotated[str, Parameter(help="The second part of the key string: live or test.")]
KeyHash = Annotated[
    str,
    Parameter(
        help="sha256: and the SHA-256 of a key string that you have made; no key string is printed then."
    ),
]
_Networks = Annotated[
    tuple[str, ...],
    Parameter(
        negative="",
        help="A network that the key may be used from, for instance 192.0.2.0/24; repeat for several.",
    ),
]
_Limits = Annotated[
    tuple[str, ...],
    Parameter(
        negative="",
        help="How often the key may be used, for instance requests=100/1m; repeat for several.",
    ),
]


_Brand = Annotated[str, Parameter(help="The first part of the key string.")]
_Description = Annotated[str, Parameter(help="What the key is for.")]
_Credits = Annotated[
    int | None,
    Parameter(name="--credits", help="How many units the key can take in all, until they are refilled."),
]
_Refill = Annotated[
    str,
    Parameter(help="How many credits the key gets each month, and on which day, for instance 1000@1."),
]


@keys.command
async def create(
    owner_id: str,
    display_name: str,
    *,
    scope: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    description: _Description = "",
    contact: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    annotation: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    ttl: Duration = None,
    expires: Time = None,
    preset: Literal["unlimited", "five-days", "one-month", "six-months", "one-year"] | None = None,
    brand: _Brand = "",
    environment: Environment = "",
    network: _Networks = (),
    rate_limit: _Limits = (),
    credits_: _Credits = None,
    credit_refill: _Refill = "",
    request_id: RequestId = "",
    seal_to: SealTo = "",
    key_hash: KeyHash = "",
) -> None:
    """Create a key and print its key string, which is never shown again.

    Parameters
    ----------
    owner_id
        The user or organization that the key is for.
    display_name
        The human-readable name of the key.
    scope
        A scope of the key; repeat for several.
    contact
        A person or team to contact, as "Name <mail@example.org>"; repeat for several.
    annotation
        A name=value pair of your choice, for instance team=payments; repeat for several.
    ttl
        The lifetime of the key, for instance 90d or 12h.
    expires
        When the key expires, for instance 2027-01-31; in UTC unless an offset is given.
    preset
        The lifetime of the key as a calendar period.
    """
    request = pb.CreateKeyRequest(
        owner_id=owner_id,
        display_name=display_name,
        description=description,
        scopes=scope,
        technical_contacts=[read_contact(text) for text in contact],
        annotations=dict(_annotation(text) for text in annotation),
        brand=brand,
        environment=environment,
        allowed_networks=network,
        rate_limits=read_limits(rate_limit, "--rate-limit"),
        request_id=request_id,
        key_hash=key_hash,
        credits=read_credits(credits_, credit_refill),
    )
    _set_expiration(request, ttl, expires, preset)
    await mint(request, seal_to)


@keys.command(name="list")
async def list_(
    owner_id: str,
    *,
    state: Annotated[
        tuple[Literal["active", "disabled", "expired", "revoked"], ...], Parameter(negative="")
    ] = (),
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
        The owner whose keys are listed.
    state
        Only keys in this state; repeat for several.
    query
        Only keys whose name contains this text, or whose prefix starts with it.
    scope
        Only keys with this scope.
    order_by
        Sort by display_name, create_time, expire_time or last_use_time; add " desc" or " asc".
    limit
        The maximum number of keys to show.
    as_json
        Print one JSON object per line instead of a table.
    """
    request = pb.ListKeysRequest(owner_id=owner_id, order_by=order_by)
    request.filter.query, request.filter.scope = query, scope
    request.filter.states.extend(resources_pb2.KeyState.Value(f"KEY_STATE_{s.upper()}") for s in state)
    async with service() as (stub, metadata):
        found = await first(limit, request, partial(stub.ListKeys, metadata=metadata), lambda page: page.keys)
    show(found, limit, as_json=as_json, table=key_table, more=bool(request.page_token))


@keys.command
async def revoke(
    key_id: str,
    *,
    reason: str = "",
    revoke_in: Annotated[Duration, Parameter(name="--in")] = None,
    cascade: Annotated[bool, Parameter(negative="")] = False,
    etag: str = "",
    allow_last_administrator: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Revoke a key permanently, now or later.

    Parameters
    ----------
    key_id
        The id of the key, as shown by `authsvc keys list`.
    reason
        The reason, for people who read the list later.
    revoke_in
        How much longer the key works, for instance 24h.
    cascade
        Also revoke every key and session that it created, what these created, and so on.
    etag
        The etag that `authsvc keys preview-revocation` has shown: revoke only if that is still true.
    allow_last_administrator
        Revoke even the last administrator key; only `authsvc bootstrap` can create another then.
    """
    request = pb.RevokeKeyRequest(
        key_id=key_id,
        reason=reason,
        etag=etag,
        allow_last_administrator=allow_last_administrator,
        cascade=cascade,
    )
    if revoke_in is not None:
        request.revoke_in.FromTimedelta(revoke_in)
    async with service() as (stub, metadata):
        call = stub.RevokeKey(request, metadata=metadata)
        key = await call
        trailers = dict(await call.trailing_metadata() or ())
    output.print(key_table([key]))
    if cascade:
        _tell_cascade(key_id, trailers)
    tell_confirmation(trailers)


@keys.command
async def rotate(
    key_id: str,
    *,
    grace: Duration = None,
    end_grace_when_unused_for: Duration = None,
    request_id: RequestId = "",
    seal_to: SealTo = "",
) -> None:
    """Replace a key with a new one and print the new key string, which is never shown again.

    Parameters
    ----------
    key_id
        The id of the key to replace.
    grace
        How much longer the old key works, for instance 24h.
    end_grace_when_unused_for
        End the grace period when the old key was not used for so long, for instance 2h.
    """
    request = pb.RotateKeyRequest(key_id=key_id, request_id=request_id)
    if grace is not None:
        request.grace_period.FromTimedelta(grace)
    if end_grace_when_unused_for is not None:
        request.end_grace_when_unused_for.FromTimedelta(end_grace_when_unused_for)
    await mint(request, seal_to)


def _set_expiration(
    request: pb.CreateKeyRequest, ttl: timedelta | None, expires: datetime | None, preset: str | None
) -> None:
    if sum(choice is not None for choice in (ttl, expires, preset)) > 1:
        raise ClientError("--ttl, --expires and --preset are mutually exclusive; give at most one of them")
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    if expires is not None:
        request.expire_time.FromDatetime(expires if expires.tzinfo else expires.replace(tzinfo=UTC))
    if preset is not None:
        name = f"EXPIRATION_PRESET_{preset.upper().replace('-', '_')}"
        request.expiration_preset = pb.ExpirationPreset.Value(name)


def _annotation(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ClientError(f"--annotation {text!r}: write it as name=value")
    return name, value


def _tell_cascade(key_id: str, trailers: Mapping[str, str | bytes]) -> None:
    """Say what has ended with a key."""
    if CASCADE_KEYS not in trailers:
        raise ClientError(
            f"the service is too old for --cascade: {key_id} is revoked, and what it created is not"
        )
    counts = int(trailers[CASCADE_KEYS]), int(trailers[CASCADE_SESSIONS])
    keys, sessions = (
        f"{count} {noun}" if count == 1 else f"{count} {noun}s"
        for count, noun in zip(counts, ("key", "session"), strict=True)
    )
    notes.print(f"Revoked with it: {keys} and {sessions}.")


def tell_confirmation(trailers: Mapping[str, str | bytes]) -> None:
    """Say what a change waited for, if clients hold credentials."""
    holders = str(trailers.get(HOLDERS, "0"))
    if holders != "0":
        who = "the client that holds" if holders == "1" else f"the {holders} clients that hold"
        wait = str(trailers.get(WAIT_MS))
        notes.print(f"Confirmed for all workers and {who} credentials, {wait} ms after the commit.")
