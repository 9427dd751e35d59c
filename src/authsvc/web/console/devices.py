"""The devices on which an owner is signed in, and logging them out."""

from starlette.responses import Response

from authsvc.v1 import session_service_pb2 as pb
from authsvc.v1.resources_pb2 import Session
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.session import left

_PAGE_SIZE = 25


async def show(request: PageRequest) -> Response:
    """Show a page of devices. The one that asks comes first."""
    token = request.query("page")
    asked = pb.ListSessionsRequest(owner_id=request.owner, page_size=_PAGE_SIZE, page_token=token)
    answer = await request.call("SessionService/ListSessions", asked, pb.ListSessionsResponse)
    sessions = [session for session in answer.sessions if not _is_current(request, session)]
    if not token and request.owner == request.caller.owner_id:
        own = pb.GetSessionRequest(session_id=request.caller.credential_id)
        sessions.insert(0, await request.call("SessionService/GetSession", own, Session))
    return request.page(
        "devices.html",
        section="devices",
        devices=[(session, _is_current(request, session)) for session in sessions],
        is_own=request.owner == request.caller.owner_id,
        may_end=request.may("sessions:write"),
        done=request.done,
        first_page=token and request.link("/devices"),
        next_page=answer.next_page_token and request.link("/devices", page=answer.next_page_token),
    )


def _is_current(request: PageRequest, session: Session) -> bool:
    return session.session_id == request.caller.credential_id


async def log_out(request: PageRequest) -> Response:
    """Log out one device."""
    asked = pb.RevokeSessionRequest(session_id=request.path_params["session_id"])
    session = await request.call("SessionService/RevokeSession", asked, Session)
    if _is_current(request, session):
        return left(request.http)
    request.owner = session.owner_id
    return request.go_on("/devices", "one")


async def ask_log_out_all(request: PageRequest) -> Response:
    """Ask whether all devices are to be logged out, or all others."""
    request.require("sessions:write")
    keeps_this = _keeps_this(request.query("keep"), request)
    return request.page("log_out_all.html", section="devices", keeps_this=keeps_this)


async def log_out_all(request: PageRequest) -> Response:
    """Log out all devices, or all others."""
    keeps_this = _keeps_this(request.form("keep"), request)
    asked = pb.RevokeAllSessionsRequest(
        owner_id=request.owner, except_session_id=request.caller.credential_id if keeps_this else ""
    )
    await request.call("SessionService/RevokeAllSessions", asked, pb.RevokeAllSessionsResponse)
    if request.owner == request.caller.owner_id and not keeps_this:
        return left(request.http)
    return request.go_on("/devices", "others" if keeps_this else "all")


def _keeps_this(keep: str, request: PageRequest) -> bool:
    return keep == "this" and request.owner == request.caller.owner_id
