"""The console as an ASGI application: its paths, and what a request passes before its page."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc.model.errors import AuthsvcError, Unauthenticated
from authsvc.web.console import (
    account,
    audit_log,
    devices,
    key_actions,
    key_edit,
    key_list,
    key_new,
    key_pause,
    key_rotate,
    key_show,
    policy_edit,
    policy_show,
    status,
    webhook_actions,
    webhook_edit,
    webhook_list,
    webhook_new,
    webhook_secret,
    webhook_show,
)
from authsvc.web.console.calls import address_of, delayed
from authsvc.web.console.forgery import FIELD, is_forged
from authsvc.web.console.forms import BadForm, Form, read_form
from authsvc.web.console.oidc.client import CALLBACK
from authsvc.web.console.oidc.sign_in import OidcSignIn
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.pages import HEADERS, Pages
from authsvc.web.console.parts import Oidc, Parts, SessionTimes
from authsvc.web.console.problem import Problem, problem_of_error
from authsvc.web.console.session import OIDC, SIGN_IN, cookie, left, signed_in, to_sign_in
from authsvc.web.console.sign_in import SIGN_OUT, show_sign_in, sign_in, sign_out
from authsvc.web.console.static_files import StaticFiles
from authsvc.web.console.texts import Texts
from authsvc.web.console.turns import Turns
from authsvc.web.rpcs import Rpcs

_log = logging.getLogger(__name__)

# The console in metrics and in the audit log, as the RPCs are by their names.
_OPERATION = "Console"
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

Handler = Callable[[PageRequest], Awaitable[Response]]

_SHOWN: dict[str, Handler] = {
    "/": account.show,
    "/keys": key_list.show,
    "/keys/new": key_new.show,
    "/keys/{key_id}": key_show.show,
    "/keys/{key_id}/edit": key_edit.ask_edit,
    "/keys/{key_id}/rotate": key_rotate.ask_rotate,
    "/keys/{key_id}/disable": key_pause.ask_disable,
    "/keys/{key_id}/revoke": key_actions.ask_revoke,
    "/keys/{key_id}/delete": key_actions.ask_delete,
    "/devices": devices.show,
    "/devices/log-out": devices.ask_log_out_all,
    "/audit": audit_log.show,
    "/audit/check": audit_log.show_checked,
    policy_show.PATH: policy_show.show,
    policy_show.EDIT_PATH: policy_edit.ask_edit,
    "/webhooks": webhook_list.show,
    webhook_new.PATH: webhook_new.show,
    "/webhooks/{webhook_id}": webhook_show.show,
    "/webhooks/{webhook_id}/edit": webhook_edit.ask_edit,
    "/webhooks/{webhook_id}/rotate": webhook_secret.ask_rotate,
    "/webhooks/{webhook_id}/delete": webhook_actions.ask_delete,
    "/status": status.show,
}
# These have turns of their own.
_LONG = frozenset({audit_log.show_checked})
_DONE: dict[str, Handler] = {
    SIGN_OUT: sign_out,
    "/keys/new": key_new.create,
    "/keys/{key_id}/edit": key_edit.edit,
    "/keys/{key_id}/rotate": key_rotate.rotate,
    "/keys/{key_id}/disable": key_pause.disable,
    "/keys/{key_id}/enable": key_pause.enable,
    "/keys/{key_id}/revoke": key_actions.revoke,
    "/keys/{key_id}/delete": key_actions.delete,
    "/devices/log-out": devices.log_out_all,
    "/devices/{session_id}/log-out": devices.log_out,
    policy_show.EDIT_PATH: policy_edit.edit,
    webhook_new.PATH: webhook_new.create,
    "/webhooks/{webhook_id}/edit": webhook_edit.edit,
    "/webhooks/{webhook_id}/enable": webhook_edit.enable,
    "/webhooks/{webhook_id}/rotate": webhook_secret.rotate,
    "/webhooks/{webhook_id}/delete": webhook_actions.delete,
    "/webhooks/{webhook_id}/test": webhook_actions.test,
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver": webhook_actions.redeliver,
}


def console(
    rpcs: Rpcs,
    clock: Callable[[], datetime],
    *,
    max_seconds: float,
    session_times: SessionTimes | None = None,
    has_plain_cookies: bool = False,
    oidc: Oidc | None = None,
) -> ASGIApp:
    """Return the application, which is to be served at `/`.

    `clock` is that of the service. An RPC may take `max_seconds`: longer than a change waits for a worker
    that is out of reach. `session_times` are those of a sign-in, within the bounds that the
    operator has set for sessions. `has_plain_cookies` means that browsers are on this machine and do not use
    TLS, so that cookies cannot be for TLS only. With `oidc`, staff can sign in by OpenID Connect.
    """
    texts, static = Texts(), StaticFiles()
    parts = Parts(
        rpcs,
        Pages(texts, static, clock),
        texts,
        rpcs.entrance.operation(_OPERATION, ()),
        session_times or SessionTimes(),
        clock,
        Turns(),
        max_seconds,
        oidc,
    )
    site = _Site(parts, static)
    routes = [
        Route(SIGN_IN, partial(show_sign_in, parts), methods=["GET"]),
        Route(SIGN_IN, partial(sign_in, parts), methods=["POST"]),
        *_oidc_routes(parts),
        Route("/static/{name}", site.static, methods=["GET"]),
        *(Route(path, partial(site.show, handler), methods=["GET"]) for path, handler in _SHOWN.items()),
        *(Route(path, partial(site.change, handler), methods=["POST"]) for path, handler in _DONE.items()),
    ]
    handlers = {404: site.missing, 405: site.missing, Exception: site.failed}
    starlette = Starlette(routes=routes, exception_handlers=handlers)
    starlette.state.has_plain_cookies = has_plain_cookies
    return _with_headers(starlette)


def _oidc_routes(parts: Parts) -> list[Route]:
    if parts.oidc is None:
        return []
    sign_in_by_oidc = OidcSignIn(parts, parts.oidc)
    return [
        Route(OIDC, sign_in_by_oidc.start, methods=["GET"]),
        Route(CALLBACK, sign_in_by_oidc.finish, methods=["GET"]),
    ]


def _with_headers(application: ASGIApp) -> ASGIApp:
    """Give every answer the headers that all have, whoever makes it."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        await application(scope, receive, send_with_headers)

    return served


class _Site:
    """What a request passes before its page."""

    def __init__(self, parts: Parts, static: StaticFiles) -> None:
        self._parts, self._static = parts, static

    async def show(self, handler: Handler, request: Request) -> Response:
        """Show a page to somebody who is signed in. It changes nothing."""
        return await self._answered(handler, request, Form())

    async def change(self, handler: Handler, request: Request) -> Response:
        """Do what a form of ours asks for."""
        try:
            form = await read_form(request)
        except BadForm:
            await delayed(self._parts.rpcs, request)
            return self._message(request, "form", 400)
        return await self._answered(handler, request, form)

    async def _answered(self, handler: Handler, request: Request, form: Form) -> Response:
        try:
            found = await signed_in(self._parts, request)
        except Unauthenticated:
            return to_sign_in(request, ended=True)
        except AuthsvcError as error:
            problem = problem_of_error(error)
            if request.url.path == SIGN_OUT and not is_forged(request, cookie(request), form(FIELD)):
                return left(request, "unconfirmed")
            return self._page(request, "problem.html", {"problem": problem}, problem.http_status)
        if found is None:
            return to_sign_in(request, ended=False)
        caller, token = found
        if request.method == "POST" and is_forged(request, token, form(FIELD)):
            return self._message(request, "form", 403)
        page_request = PageRequest(self._parts, request, caller, token, form)
        answer = partial(_answer, handler, page_request)
        if request.method == "POST" or handler in _LONG:
            return await answer()
        return await self._parts.pages.in_turn(caller, answer)

    async def static(self, request: Request) -> Response:
        """Serve a file of the package."""
        return self._static.find(request) or self._message(request, "missing", 404)

    async def missing(self, request: Request, _: Exception) -> Response:
        """Answer a path that there is not, as one of an unknown caller."""
        await delayed(self._parts.rpcs, request)
        return self._message(request, "missing", 404)

    async def failed(self, request: Request, error: Exception) -> Response:
        """Answer a request that met a fault of ours."""
        _log.error("the console cannot make the page %s", request.url.path, exc_info=error)
        return self._message(request, "fault", 500)

    def _message(self, request: Request, what: str, status: int) -> Response:
        return self._page(request, "message.html", {"what": what}, status)

    def _page(self, request: Request, template: str, values: Mapping[str, Any], status: int) -> Response:
        address = address_of(self._parts.rpcs, request)
        return self._parts.pages.page(template, values, status=status, address=address)


async def _answer(handler: Handler, request: PageRequest) -> Response:
    try:
        return await handler(request)
    except Problem as problem:
        return request.refusal(problem)
