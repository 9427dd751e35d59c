"""`authsvc audit`: lists audit events, and verifies that they are complete and unaltered."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from authsvc.audit.check import AuditCheck
from authsvc.cli.call import ClientError, calling, first, notes, show, when
from authsvc.cli.parameters import Time
from authsvc.cli.printable import named, printable
from authsvc.cli.table import Table, table
from authsvc.config.settings import ConfigError, load_settings
from authsvc.model.audit_anchor import Anchor, header, read_anchors
from authsvc.model.audit_chain import Chain, Fault
from authsvc.model.audit_event import Action
from authsvc.model.errors import RetryableError
from authsvc.store.connect_error import ConnectError
from authsvc.store.migrate import pending
from authsvc.store.pool import Database
from authsvc.v1 import audit_service_pb2 as pb
from authsvc.v1 import audit_service_pb2_grpc

audit = cyclopts.App(
    name="audit",
    help_format="plaintext",
    help="List audit events, and verify that none was altered or removed.\n\n"
    "`list` calls the service at AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY. The defaults are the "
    "service of `authsvc dev` and its admin.key. `verify` reads the database of AUTHSVC_DATABASE_URL.",
)
_PROGRESS_INTERVAL_SECONDS = 5.0


@audit.command(name="list")
async def list_(
    owner_id: str,
    *,
    action: Annotated[list[Action], Parameter(negative="")] = [],  # noqa: B006 - cyclopts copies it
    actor: str = "",
    target: str = "",
    after: Time = None,
    before: Time = None,
    after_position: int = 0,
    limit: int = 100,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List the audit events of an owner, newest first.

    Parameters
    ----------
    owner_id
        The owner whose events are listed.
    action
        Only events with this action, for instance key-revoked; repeat for several.
    actor
        Only actions by this key or session, given by its id.
    target
        Only actions on this key or session, given by its id.
    after
        Only events at this time or later, in UTC.
    before
        Only events before this time, in UTC.
    after_position
        Only events whose position in the owner's chain is greater than this one.
    limit
        The maximum number of events to show.
    as_json
        Print one JSON object per line instead of a table.
    """
    request = pb.ListAuditEventsRequest(owner_id=owner_id)
    request.filter.actions.extend(pb.AuditAction.Value(f"AUDIT_ACTION_{name}") for name in set(action))
    request.filter.actor_id, request.filter.target_id = actor, target
    request.filter.after_position = after_position
    if after is not None:
        request.filter.time_after.FromDatetime(after)
    if before is not None:
        request.filter.time_before.FromDatetime(before)
    async with calling() as (channel, metadata):
        stub: audit_service_pb2_grpc.AuditServiceAsyncStub
        stub = audit_service_pb2_grpc.AuditServiceStub(channel)
        ask = partial(stub.ListAuditEvents, metadata=metadata)
        found = await first(limit, request, ask, lambda page: page.events)
    show(found, limit, as_json=as_json, table=_table, more=bool(request.page_token))


@audit.command
async def verify(*, owner: str = "", anchor: Path | None = None, write_anchor: Path | None = None) -> None:
    """Verify that no event was altered, removed, inserted or moved. Exit with status 1 if one was.

    Parameters
    ----------
    owner
        Verify only the events of this owner.
    anchor
        A file of an earlier --write-anchor. Everything that it records must still be present.
    write_anchor
        The file to write the ends of all chains to, if there is no fault.
        Keep it where the administrators of the database cannot change it.
    """
    settings = load_settings()
    if settings.database_url is None:
        raise ConfigError(
            "AUTHSVC_DATABASE_URL: set this to the database to verify; the role that serves can read it"
        )
    last_progress = time.monotonic()

    def show_progress() -> None:
        nonlocal last_progress
        if time.monotonic() - last_progress >= _PROGRESS_INTERVAL_SECONDS:
            last_progress = time.monotonic()
            notes.print(f"{check.events} events verified so far")

    with _written(write_anchor) as keep:
        async with Database.open(settings.database_url.get_secret_value(), size=1) as database:
            check = AuditCheck(
                database,
                anchors=_anchors(anchor) if anchor else (),
                on_fault=_print_fault,
                on_chain=keep,
                on_progress=show_progress,
            )
            try:
                if missing := await pending(database):
                    raise ConfigError(f"the database lacks {', '.join(missing)}: run `authsvc migrate` first")
                await check.run(owner)
            except RetryableError as error:
                cause = error.__cause__ if isinstance(error.__cause__, ConnectError) else error.message
                raise ClientError(f"cannot read the database: {cause}") from error
        if owner and not check.chains and not check.faults:
            raise ClientError(f"{owner} has no audit events; check the owner id")
        events = "1 event" if check.events == 1 else f"{check.events} events"
        chains = "1 chain" if check.chains == 1 else f"{check.chains} chains"
        faults = "1 fault" if check.faults == 1 else f"{check.faults} faults"
        print(f"{events} in {chains} verified: {faults if check.faults else 'no faults'}")
        if check.faults:
            sys.exit(1)


@contextmanager
def _written(file: Path | None) -> Iterator[Callable[[Chain], object]]:
    """Yield a function that writes the anchor of a chain. The file appears at the end if all is well."""
    if file is None:
        yield lambda _: None
        return
    new = file.with_name(f"{file.name}.new")
    try:
        # The time of the start: what the anchors contain is not older.
        time = datetime.now(UTC)
        with new.open("w", encoding="utf-8") as stream:
            print(header(time), file=stream)
            yield lambda chain: print(
                Anchor(chain.owner_id, chain.head, time, chain.dropped.position, chain.months), file=stream
            )
        new.replace(file)
    except OSError as error:
        raise ClientError(f"cannot write the anchor file {file}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _print_fault(fault: Fault) -> None:
    where = f"{fault.owner_id} {fault.position}" + (f" {fault.event_id}" if fault.event_id else "")
    print(printable(f"{where}: {fault.problem}"))


def _anchors(file: Path) -> Iterator[Anchor]:
    try:
        stream = file.open(encoding="utf-8")
    except OSError as error:
        raise ClientError(f"cannot read the anchor file {file}: {error.strerror}") from None
    with stream:
        try:
            yield from read_anchors(stream)
        except UnicodeDecodeError:
            raise ClientError(f"{file}: not an anchor file; create one with --write-anchor") from None
        except ValueError as error:
            raise ClientError(f"{file}, {error}") from None


def _table(found: Sequence[pb.AuditEvent]) -> Table:
    return table(
        ("time", "action", "target", "by", "from", "details"),
        (
            (
                when(event.event_time, to_seconds=True),
                pb.AuditAction.Name(event.action).removeprefix("AUDIT_ACTION_"),
                event.target_id,
                event.actor_id,
                event.client_ip,
                named(event.details),
            )
            for event in found
        ),
        unbroken=("time", "action"),
    )
