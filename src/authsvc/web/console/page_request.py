"""A request of somebody who is signed in, as the pages see it."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

import grpc
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.web.console.calls import Calls, client_of
from authsvc.web.console.forgery import form_token
from authsvc.web.console.forms import Form, query
from authsvc.web.console.parts import Parts
from authsvc.web.console.problem import Problem
from authsvc.web.console.session import to_sign_in

Answer = TypeVar("Answer", bound=Message)

#: The sections of the console: their paths, and the scopes that they need.
SECTIONS = (
    ("keys", "/keys", "keys:read"),
    ("devices", "/devices", "sessions:read"),
    ("audit", "/audit", "audit_logs:read"),
    ("policy", "/policy", "policies:read"),
    ("webhooks", "/webhooks", "webhooks:read"),
    ("status", "/status", "replicas:read"),
)


class PageRequest:
    """A request, who asks, and how to answer."""

    def __init__(self, parts: Parts, request: Request, caller: Caller, token: str, form: Form) -> None:
        """Take the session token of the caller, and the form that was sent, which is empty for a GET."""
        self.parts, self.caller, self.form = parts, caller, form
        self.http = request
        self.query = query(request)
        self.path = request.url.path
        self.path_params = request.path_params
        self.calls = Calls(parts.rpcs, client_of(request, token), parts.max_seconds)
        self._token = token
        asked = form("owner") or self.query("owner")
        #: The owner whose things are shown: the caller's own, unless it is the platform, which may choose.
        self.owner = asked if asked and self.is_platform else caller.owner_id

    @property
    def is_platform(self) -> bool:
        """Whether the caller acts on every owner."""
        return self.caller.owner_id == PLATFORM_OWNER

    def may(self, *scopes: str) -> bool:
        """Return whether the caller has these scopes."""
        return not self.caller.lacks(scopes)

    def require(self, *scopes: str) -> None:
        """Raise Problem (SCOPE_MISSING) for a caller without these scopes."""
        if lacking := self.caller.lacks(scopes):
            raise Problem(
                grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING", metadata={"required_scope": lacking[0]}
            )

    async def call(self, name: str, request: Message, answer_type: type[Answer]) -> Answer:
        """Return the answer of an RPC. Raises Problem."""
        return await self.calls(name, request, answer_type)

    def delivered(
        self,
        name: str,
        request: Message,
        show: Callable[[Any], Response],
        refuse: Callable[[Problem], Awaitable[Response]],
    ) -> Response:
        """Return a response that calls an RPC, and sends the page of its answer: see `Calls.delivered`."""

        async def refused(problem: Problem) -> Response:
            try:
                return self.refusal(problem) if problem.ends_session else await refuse(problem)
            except Problem as another:
                return self.refusal(another)

        return self.calls.delivered(name, request, show, refused)

    def link(self, path: str, **fields: str | None) -> str:
        """Return the address of a page about the same owner; empty fields are left out."""
        if self.owner != self.caller.owner_id:
            fields = {"owner": self.owner, **fields}
        kept = {name: value for name, value in fields.items() if value}
        return f"{path}?{urlencode(kept)}" if kept else path

    def token(self, path: str) -> str:
        """Return the token of a form that is sent to a path."""
        return form_token(self._token, path)

    def page(self, template: str, status: int = 200, *, at_once: bool = False, **values: Any) -> Response:
        """Return a page; see `Pages.page`."""
        known = {
            "owner": self.owner,
            "is_platform": self.is_platform,
            "may": self.may,
            "link": self.link,
            "token": self.token,
            "sections": [
                (name, self.link(path)) for name, path, scope in SECTIONS if self._shows(name, scope)
            ],
            "problem": None,
        }
        return self.parts.pages.page(
            template, {**known, **values}, status=status, caller=self.caller, at_once=at_once
        )

    def _shows(self, section: str, scope: str) -> bool:
        return self.may(scope) and (section != "status" or self.is_platform)

    def go_on(self, path: str, done: str) -> Response:
        """Return an answer that leads to another page, after a change. The page says what was done."""
        return RedirectResponse(self.link(path, done=done, proof=self._proof(path, done)), 303)

    @property
    def done(self) -> str:
        """What was done before this page; "" if nothing was, or if only the address claims it."""
        done = self.query("done")
        proof = self._proof(self.path, done)
        return done if hmac.compare_digest(proof.encode(), self.query("proof").encode()) else ""

    def _proof(self, path: str, done: str) -> str:
        return self.token(self.link(path, done=done))

    def refusal(self, problem: Problem) -> Response:
        """Return the page of a refusal; the sign-in if the session was revoked meanwhile."""
        if problem.ends_session:
            return to_sign_in(self.http, ended=True)
        return self.page("problem.html", problem.http_status, problem=problem)
