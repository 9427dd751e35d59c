"""`authsvc keys usage`, `preview-revocation` and `rotation-status`: how keys are used."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Annotated, Literal

from cyclopts import Parameter
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.cli.call import first, notes, output, show, when
from authsvc.cli.key_table import key_table
from authsvc.cli.minting import service
from authsvc.cli.table import Table, table
from authsvc.v1 import key_service_pb2 as pb

# What stands for an address, or a program, that the verifying service did not give.
_NOT_GIVEN = "not given"


async def usage(
    key_id: str,
    *,
    first_day: str = "",
    last_day: str = "",
    by: Annotated[tuple[Literal["day", "verifier", "network", "program"], ...], Parameter(negative="")] = (),
    limit: int = 100,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show how often a key was used successfully: by whom, from which networks, with which programs.

    What was refused is not counted, for instance because of a rate limit, the address or a scope.

    Parameters
    ----------
    key_id
        The id of the key, as shown by `authsvc keys list`.
    first_day
        The first day in UTC, for instance 2027-01-31; by default 30 days are shown.
    last_day
        The last day in UTC; by default it is today.
    by
        Group by this: day, verifier, network or program; repeat for several. By default, by all.
    limit
        The maximum number of rows to show.
    as_json
        Print one JSON object per line instead of a table.
    """
    groups = [pb.UsageGroup.Value(f"USAGE_GROUP_{name.upper()}") for name in by]
    request = pb.GetKeyUsageRequest(key_id=key_id, first_day=first_day, last_day=last_day, group_by=groups)
    async with service() as (stub, metadata):
        asked = partial(stub.GetKeyUsage, metadata=metadata)
        found = await first(limit, request, asked, lambda page: page.usage)
    columns = by or ("day", "verifier", "network", "program")
    show(
        found,
        limit,
        as_json=as_json,
        table=lambda rows: usage_table(rows, columns),
        more=bool(request.page_token),
    )


async def preview_revocation(key_id: str, *, days: int = 0) -> None:
    """Show who would be cut off if a key was revoked, and the etag for `authsvc keys revoke --etag`.

    Parameters
    ----------
    key_id
        The id of the key, as shown by `authsvc keys list`.
    days
        How many days of uses to show, at most 400; by default 30.
    """
    request = pb.PreviewRevocationRequest(key_id=key_id, days=days)
    async with service() as (stub, metadata):
        found = await stub.PreviewRevocation(request, metadata=metadata)
    output.print(key_table([found.key]))
    output.print()
    _print_users(found.users, more=found.more_users, nobody="Nobody has used it in these days.")
    output.print()
    if found.successor_key_id:
        last = _last_use(found.successor_last_use_time, known=found.HasField("successor_last_use_time"))
        output.print(f"Its successor {found.successor_key_id} {last}.", highlight=False)
    keys = f"{found.created_keys}" if found.HasField("created_keys") else "an unknown number of"
    sessions = f"{found.created_sessions}" if found.HasField("created_sessions") else "an unknown number of"
    output.print(f"It has created {keys} keys and {sessions} sessions that go on.", highlight=False)
    output.print(f"etag: {found.etag}", highlight=False)


async def rotation_status(key_id: str) -> None:
    """Show how far the rotation of a key is: who has successfully used the old key since then.

    Parameters
    ----------
    key_id
        The id of the old or the new key, as shown by `authsvc keys list`.
    """
    request = pb.GetRotationStatusRequest(key_id=key_id)
    async with service() as (stub, metadata):
        found = await stub.GetRotationStatus(request, metadata=metadata)
    output.print(key_table([key for key in (found.old_key, found.new_key) if key.key_id]))
    output.print()
    _print_users(
        found.old_key_users,
        more=found.more_old_key_users,
        nobody="Nobody has used the old key since the rotation.",
    )
    if found.HasField("grace_end_time"):
        output.print(f"\nThe old key works until {when(found.grace_end_time)}.", highlight=False)
    if found.HasField("end_grace_when_unused_for"):
        wait = found.end_grace_when_unused_for.ToTimedelta()
        at_least = "" if found.HasField("earliest_grace_end_time") else " and the new one works and was used"
        output.print(f"It ends when it was not used for {wait}{at_least}.", highlight=False)
    if found.HasField("earliest_grace_end_time"):
        earliest = when(found.earliest_grace_end_time)
        output.print(f"That is at {earliest} at the earliest.", highlight=False)


def usage_table(rows: Sequence[pb.KeyUsage], columns: Iterable[str]) -> Table:
    """Return the table of uses, with these of the columns day, verifier, network and program."""
    cells: dict[str, Callable[[pb.KeyUsage], str]] = {
        "day": lambda row: row.day,
        "verifier": lambda row: (
            f"{row.verifier_id} ({row.verifier_name})" if row.verifier_name else row.verifier_id
        ),
        "network": lambda row: row.network or _NOT_GIVEN,
        "program": lambda row: row.program or _NOT_GIVEN,
    }
    shown = [name for name in cells if name in columns]
    return table(
        (*shown, "uses", "last use"),
        (
            (*(cells[name](row) for name in shown), f"{row.uses}", when(row.last_use_time, to_seconds=True))
            for row in rows
        ),
        unbroken=("day", "uses"),
    )


def _print_users(users: Sequence[pb.KeyUsage], *, more: bool, nobody: str) -> None:
    if not users:
        output.print(nobody, highlight=False)
        return
    output.print(usage_table(users, ("verifier", "network", "program")))
    if more:
        notes.print("There are more; `authsvc keys usage` shows all.")


def _last_use(moment: Timestamp, *, known: bool) -> str:
    return f"was last used at {when(moment)}" if known else "was never used"
