"""`authsvc sessions`: lists and ends the sessions of users."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.text import Text

from authsvc.cli.call import Metadata, calling, first, output, show, when
from authsvc.cli.table import Table, table
from authsvc.v1 import resources_pb2, session_service_pb2_grpc
from authsvc.v1 import session_service_pb2 as pb

sessions = cyclopts.App(
    name="sessions",
    help_format="plaintext",
    help="List and end the sessions of users.\n\n"
    "Calls the service at AUTHSVC_ADDRESS with the key string in AUTHSVC_KEY. The defaults are the service "
    "of `authsvc dev` and its admin.key.",
)
_Service = tuple["session_service_pb2_grpc.SessionServiceAsyncStub", Metadata]
_STYLES = {"ACTIVE": "green", "EXPIRED": "yellow", "REVOKED": "red"}


@sessions.command(name="list")
async def list_(
    owner_id: str,
    *,
    ended: Annotated[bool, Parameter(negative="")] = False,
    limit: int = 100,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """List the devices that a user is signed in on, the most recently active first.

    Parameters
    ----------
    owner_id
        The user whose sessions are listed.
    ended
        Include sessions that have ended.
    limit
        The maximum number of sessions to show.
    as_json
        Print one JSON object per line instead of a table.
    """
    request = pb.ListSessionsRequest(owner_id=owner_id, include_ended=ended)
    async with _service() as (stub, metadata):
        ask = partial(stub.ListSessions, metadata=metadata)
        found = await first(limit, request, ask, lambda page: page.sessions)
    show(found, limit, as_json=as_json, table=_table, more=bool(request.page_token))


@sessions.command
async def revoke(session_id: str) -> None:
    """Log out one device.

    Parameters
    ----------
    session_id
        The id of the session, as shown by `authsvc sessions list`.
    """
    async with _service() as (stub, metadata):
        session = await stub.RevokeSession(pb.RevokeSessionRequest(session_id=session_id), metadata=metadata)
    output.print(_table([session]))


@sessions.command
async def revoke_all(owner_id: str, *, except_session: str = "") -> None:
    """Log out all devices of a user.

    Parameters
    ----------
    owner_id
        The user whose sessions are ended.
    except_session
        The id of a session that is not ended.
    """
    request = pb.RevokeAllSessionsRequest(owner_id=owner_id, except_session_id=except_session)
    async with _service() as (stub, metadata):
        answer = await stub.RevokeAllSessions(request, metadata=metadata)
    count, at_least = answer.revoked_count, "at least " if answer.revoked_count_is_lower_bound else ""
    output.print(f"{at_least}{count} active session{'' if count == 1 else 's'} ended")


@asynccontextmanager
async def _service() -> AsyncIterator[_Service]:
    async with calling() as (channel, metadata):
        stub: session_service_pb2_grpc.SessionServiceAsyncStub
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        yield stub, metadata


def _table(found: Sequence[resources_pb2.Session]) -> Table:
    return table(
        ("id", "device", "address", "place", "state", "signed in", "last active", "ends"),
        (
            (
                session.session_id,
                _device(session.device),
                session.ip_address,
                ", ".join(filter(None, (session.location.city, session.location.country_code))),
                _state(session),
                when(session.create_time),
                when(session.last_activity_time),
                when(session.revoke_time if session.HasField("revoke_time") else session.expire_time),
            )
            for session in found
        ),
        unbroken=("id", "state"),
    )


def _state(session: resources_pb2.Session) -> Text:
    state = resources_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_")
    return Text(state, _STYLES[state])


def _device(device: resources_pb2.Device) -> str:
    browser = f"{device.browser} {device.browser_version}".strip()
    system = f"{device.os} {device.os_version}".strip()
    return " on ".join(filter(None, (browser, system))) or device.user_agent or "unknown"
