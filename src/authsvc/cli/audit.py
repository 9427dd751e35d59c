"""`authsvc audit`: what was done, and whether the record of it is whole."""

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
from authsvc.cli.printable import named, printable
from authsvc.cli.table import Table, table
from authsvc.config.settings import ConfigError, load_settings
from authsvc.model.audit_anchor import Anchor, header, read_anchors
from authsvc.model.audit_chain import Chain, Fault
from authsvc.model.audit_event import Action
from authsvc.model.errors import RetryableError
from authsvc.store.migrate import pending
from authsvc.store.pool import Database
from authsvc.v1 import audit_service_pb2 as pb
from authsvc.v1 import audit_service_pb2_grpc

audit = cyclopts.App(
    name="audit",
    help_format="plaintext",
    help="List audit events, and verify that none was altered or removed.\n\n"
    "`list` calls AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY, or else the service of `authsvc dev` "
    "with its admin.key. `verify` reads the database of AUTHSVC_DATABASE_URL itself.",
)
# Seconds between two lines of progress.
_TELL_EVERY = 5.0


@audit.command(name="list")
async def list_(
    owner_id: str,
    *,
    action: Annotated[list[Action], Parameter(negative="")] = [],  # noqa: B006 - cyclopts copies it
    actor: str = "",
    target: str = "",
    after: datetime | None = None,
    before: datetime | None = None,
    limit: int = 100,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List what was done to the keys and sessions of an owner, newest first.

    Parameters
    ----------
    owner_id
        Whose events.
    action
        What was done, for instance key-revoked; give it again for several.
    actor
        Who did it: the id of a key or session.
    target
        To what: the id of a key or session.
    after
        At this instant or later, in UTC.
    before
        Before this instant, in UTC.
    limit
        How many at most.
    as_json
        One JSON object a line instead of a table.
    """
    request = pb.ListAuditEventsRequest(owner_id=owner_id)
    request.filter.actions.extend(pb.AuditAction.Value(f"AUDIT_ACTION_{name}") for name in set(action))
    request.filter.actor_id, request.filter.target_id = actor, target
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
    """Verify that no event was altered, removed, inserted or moved; exit with 1 if one was.

    Parameters
    ----------
    owner
        Only the events of this owner.
    anchor
        A file of an earlier --write-anchor: what it knows has to be there still.
    write_anchor
        Where to write the ends of all chains, if nothing is wrong; keep it out of reach of whoever
        administers the database.
    """
    settings = load_settings()
    if settings.database_url is None:
        raise ConfigError(
            "AUTHSVC_DATABASE_URL: say which database to verify; the role that serves may read it"
        )
    told = time.monotonic()

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_EVERY:
            told = time.monotonic()
            notes.print(f"{check.events} events verified so far")

    with _written(write_anchor) as keep:
        async with Database.open(settings.database_url.get_secret_value(), size=1) as database:
            check = AuditCheck(
                database,
                anchors=_anchors(anchor) if anchor else (),
                on_fault=_print_fault,
                on_chain=keep,
                on_progress=tell,
            )
            try:
                if missing := await pending(database):
                    raise ConfigError(f"the database lacks {', '.join(missing)}: run `authsvc migrate` first")
                await check.run(owner)
            except RetryableError as error:
                raise ClientError(f"cannot read the database: {error.message}") from error
        if owner and not check.chains and not check.faults:
            raise ClientError(f"{owner} has no audit events; is that its name?")
        events = "1 event" if check.events == 1 else f"{check.events} events"
        chains = "1 chain" if check.chains == 1 else f"{check.chains} chains"
        faults = "1 fault" if check.faults == 1 else f"{check.faults} faults"
        print(f"{events} in {chains} verified: {faults if check.faults else 'all is whole'}")
        if check.faults:
            sys.exit(1)


@contextmanager
def _written(file: Path | None) -> Iterator[Callable[[Chain], object]]:
    """Yield what writes the anchor of a chain. The file is there when all of it is, and nothing was wrong."""
    if file is None:
        yield lambda _: None
        return
    new = file.with_name(f"{file.name}.new")
    try:
        # Of the beginning: what the anchors hold is not older.
        time = datetime.now(UTC)
        with new.open("w", encoding="utf-8") as stream:
            print(header(time), file=stream)
            yield lambda chain: print(
                Anchor(chain.owner_id, chain.head, time, chain.dropped.position, chain.months), file=stream
            )
        new.replace(file)
    except OSError as error:
        raise ClientError(f"cannot write the anchor {file}: {error.strerror}") from None
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
        raise ClientError(f"cannot read the anchor {file}: {error.strerror}") from None
    with stream:
        try:
            yield from read_anchors(stream)
        except UnicodeDecodeError:
            raise ClientError(f"{file}: no anchor; --write-anchor writes them") from None
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
