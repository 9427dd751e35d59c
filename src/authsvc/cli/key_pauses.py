"""`authsvc keys disable` and `authsvc keys enable`."""

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from authsvc.cli.call import ClientError, output
from authsvc.cli.key_table import key_table
from authsvc.cli.keys import tell_confirmation
from authsvc.cli.minting import service
from authsvc.cli.parameters import Duration, Time
from authsvc.v1 import key_service_pb2 as pb


async def disable(
    key_id: str,
    *,
    reason: str = "",
    for_: Annotated[Duration, Parameter(name="--for")] = None,
    until: Time = None,
    allow_last_administrator: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Disable a key for a while, or until it is enabled.

    Parameters
    ----------
    key_id
        The id of the key, as shown by `authsvc keys list`.
    reason
        The reason, for people who read the list later.
    for_
        How long the key is disabled, for instance 2h.
    until
        When the key works again, for instance 2027-01-31; in UTC unless an offset is given.
    allow_last_administrator
        Disable even the last administrator key; only `authsvc bootstrap` can create another then.
    """
    if for_ is not None and until is not None:
        raise ClientError("--for and --until are mutually exclusive; give at most one of them")
    request = pb.DisableKeyRequest(
        key_id=key_id, reason=reason, allow_last_administrator=allow_last_administrator
    )
    if for_ is not None:
        until = datetime.now(UTC) + for_
    if until is not None:
        request.disabled_until.FromDatetime(until if until.tzinfo else until.replace(tzinfo=UTC))
    async with service() as (stub, metadata):
        call = stub.DisableKey(request, metadata=metadata)
        key = await call
        trailers = await call.trailing_metadata()
    output.print(key_table([key]))
    tell_confirmation(dict(trailers or ()))


async def enable(key_id: str, *, reason: str = "") -> None:
    """Enable a key that was disabled.

    Parameters
    ----------
    key_id
        The id of the key, as shown by `authsvc keys list`.
    reason
        The reason, for the audit log.
    """
    async with service() as (stub, metadata):
        key = await stub.EnableKey(pb.EnableKeyRequest(key_id=key_id, reason=reason), metadata=metadata)
    output.print(key_table([key]))
