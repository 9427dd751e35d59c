"""The account: who is signed in, for how long, and with which scopes."""

from starlette.responses import Response

from authsvc.v1 import session_service_pb2 as pb
from authsvc.v1.resources_pb2 import Session
from authsvc.web.console.page_request import PageRequest


async def show(request: PageRequest) -> Response:
    """Show the account of the caller."""
    session = None
    if request.may("sessions:read"):
        asked = pb.GetSessionRequest(session_id=request.caller.credential_id)
        session = await request.call("SessionService/GetSession", asked, Session)
    return request.page("account.html", section="account", session=session)
