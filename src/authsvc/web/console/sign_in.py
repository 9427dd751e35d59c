"""Signing in and out.

Mechanism: a key is pasted once. With it as credential, a session is created for its owner with its scopes,
and the key is not kept. Every sign-in gets a new session, whatever cookie the browser had.

Bound: a sign-in passes the entrance like any call, so the limits of failed authentications hold.
"""

from secrets import token_urlsafe
from urllib.parse import urlencode

import grpc
from starlette.requests import Request
from starlette.responses import Response

from authsvc.model.credential import CredentialKind
from authsvc.model.errors import AuthsvcError
from authsvc.v1 import session_service_pb2 as pb
from authsvc.v1.resources_pb2 import Session
from authsvc.web.console.calls import Calls, address_of, client_of, delayed
from authsvc.web.console.forgery import FIELD, form_token, is_forged
from authsvc.web.console.forms import BadForm, Form, query, read_form
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.parts import Parts
from authsvc.web.console.problem import Problem, problem_of_error
from authsvc.web.console.session import (
    OIDC,
    SIGN_IN,
    cookie,
    identified,
    left,
    opened,
    own_page,
    set_cookie,
    signed_in_to,
)

SIGN_OUT = "/sign-out"
# A random text that the form of the sign-in is bound to.
_FORM_COOKIE, _FORM_SECONDS = "authsvc-sign-in", 3600


async def show_sign_in(parts: Parts, request: Request) -> Response:
    """Show the form of the sign-in."""
    await delayed(parts.rpcs, request)
    return _form(parts, request, query(request))


async def sign_in(parts: Parts, request: Request) -> Response:
    """Open a session for the key that was pasted."""
    await delayed(parts.rpcs, request)
    try:
        form = await read_form(request)
    except BadForm:
        return _form(parts, request, Form(), error="form", status=400)
    secret = cookie(request, _FORM_COOKIE)
    if not secret:
        return _form(parts, request, form, error="no_cookie", status=400)
    if is_forged(request, secret, form(FIELD)):
        return _form(parts, request, form, error="form", status=403)
    key = form("key")
    if not key:
        return _form(parts, request, form, error="empty", status=400)
    try:
        caller = await identified(parts, request, key)
        if caller.kind is not CredentialKind.KEY:
            return _form(parts, request, form, error="not_a_key", status=400)
        token = await opened(parts, request, caller, key, caller.scopes)
    except AuthsvcError as error:
        return _refused(parts, request, form, problem_of_error(error))
    except Problem as problem:
        return _refused(parts, request, form, problem)
    response = signed_in_to(parts, request, form("next"), token)
    set_cookie(request, response, "", 0, _FORM_COOKIE)
    return response


def _refused(parts: Parts, request: Request, form: Form, problem: Problem) -> Response:
    if problem.ends_session:
        return _form(parts, request, form, error="wrong", status=401)
    return _form(parts, request, form, problem=problem, status=problem.http_status)


async def sign_out(request: PageRequest) -> Response:
    """End the session, and remove the cookie in any case."""
    asked = pb.RevokeSessionRequest(session_id=request.caller.credential_id)
    try:
        await request.call("SessionService/RevokeSession", asked, Session)
    except Problem as problem:
        # Its scopes do not allow that, or nobody can say now whether it has ended. It ends by itself.
        if problem.code is not grpc.StatusCode.PERMISSION_DENIED:
            return left(request.http, "unconfirmed")
        if not await _ended_by_key(request, asked):
            return left(request.http, "browser")
    return left(request.http)


async def _ended_by_key(request: PageRequest, asked: pb.RevokeSessionRequest) -> bool:
    """Return whether the key that opens the sessions of staff has ended the caller's own."""
    parts = request.parts
    if parts.oidc is None:
        return False
    calls = Calls(parts.rpcs, client_of(request.http, parts.oidc.client.secrets().key), parts.max_seconds)
    try:
        await calls("SessionService/RevokeSession", asked, Session)
    except Problem:
        return False
    return True


def _form(
    parts: Parts,
    request: Request,
    fields: Form,
    *,
    error: str = "",
    problem: Problem | None = None,
    status: int = 200,
) -> Response:
    secret = cookie(request, _FORM_COOKIE) or token_urlsafe(32)  # several tabs may have the form
    values = {
        "next": own_page(fields("next")),
        # Whoever has a session was not signed out, whatever a link says.
        "ended": "ended" in fields and not cookie(request),
        "left": "" if cookie(request) else fields("left"),
        "token": form_token(secret, SIGN_IN),
        "error": error,
        "problem": problem,
        "provider": "" if parts.oidc is None else parts.oidc.client.name,
        "start": f"{OIDC}?{urlencode({'next': own_page(fields('next'))})}",
        "idle": parts.session_times.idle_timeout,
        "lifetime": parts.session_times.lifetime,
    }
    address = address_of(parts.rpcs, request)
    response = parts.pages.page("sign_in.html", values, status=status, address=address)
    set_cookie(request, response, secret, _FORM_SECONDS, _FORM_COOKIE)
    return response
