"""The two requests of a sign-in by OpenID Connect: the start, and the way back from the provider.

Mechanism: the start is a link, since Chromium applies `form-action` to all redirects that follow a form, also
those between the hosts of a provider. It only sets a cookie, and other sites cannot start it. The callback
counts only in the browser that has this cookie. The session is opened with the API key of the console, by an
RPC that checks what the key may do.

Bound: `Oidc.max_seconds` for what the provider is asked during one request; `_MAX_WAITING` requests at a time
wait for it. Refused sign-ins count as failed authentications of the address.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import grpc
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from authsvc.config.oidc import KEY
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import AuthsvcError, Unauthenticated
from authsvc.model.session import SUBJECT
from authsvc.web.console.calls import address_of, delayed
from authsvc.web.console.forgery import is_from_here
from authsvc.web.console.forms import Form, query
from authsvc.web.console.oidc.failure import (
    Busy,
    Cancelled,
    Misconfigured,
    NoRole,
    ProviderUnavailable,
    Refused,
    SignInFailed,
    StartAgain,
)
from authsvc.web.console.oidc.id_token import verified
from authsvc.web.console.oidc.staff import Staff, roles_in, staff_of
from authsvc.web.console.oidc.transaction import SECONDS, Transaction
from authsvc.web.console.parts import Oidc, Parts
from authsvc.web.console.problem import Problem, problem_of_error
from authsvc.web.console.session import SIGN_IN, identified, opened, own_page, set_cookie, signed_in_to
from authsvc.web.console.session import cookie as cookie_of

_log = logging.getLogger(__name__)

_COOKIE = "authsvc-oidc"
_MAX_WAITING = 64
_LONGEST_CODE = 4096
# The provider's errors (RFC 6749, 4.1.2.1) that people cause.
_CANCELLED = frozenset({"access_denied", "login_required", "interaction_required", "consent_required"})


class OidcSignIn:
    """Signs members of staff in."""

    def __init__(self, parts: Parts, oidc: Oidc) -> None:
        self._parts, self._client, self._provider = parts, oidc.client, oidc.provider
        self._max_seconds, self._waiting = oidc.max_seconds, 0

    async def start(self, request: Request) -> Response:
        """Send the browser to the provider."""
        await delayed(self._parts.rpcs, request)
        page = own_page(query(request)("next"))
        if not is_from_here(request):
            return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': page})}", 303)
        transaction = Transaction.begin(page, self._client.secrets().key, self._parts.clock())
        try:
            async with self._asking():
                address = await self._provider.sign_in_address(
                    state=transaction.state, nonce=transaction.nonce, challenge=transaction.challenge
                )
        except SignInFailed as failure:
            return self._failed(request, failure)
        response = RedirectResponse(address, 303, {"cache-control": "no-store"})
        set_cookie(request, response, transaction.cookie, SECONDS, _COOKIE)
        return response

    async def finish(self, request: Request) -> Response:
        """Open a session for whoever the provider sends back."""
        await delayed(self._parts.rpcs, request)
        limits, address = self._parts.rpcs.entrance.limits, address_of(self._parts.rpcs, request)
        fields, key = query(request), self._client.secrets().key
        transaction = Transaction.read(cookie_of(request, _COOKIE), key, self._parts.clock())
        if transaction is None or not transaction.is_answered_by(_only(fields, "state")):
            return self._failed(request, StartAgain("the browser has not started this sign-in"))
        try:
            limits.check_failures(address)
            try:
                response = await self._finished(request, fields, transaction, key)
            except Refused:
                limits.count_failure(address)
                raise
        except AuthsvcError as error:
            response = self._problem(request, problem_of_error(error))
        except Problem as problem:
            response = self._problem(request, problem)
        except SignInFailed as failure:
            response = self._failed(request, failure)
        set_cookie(request, response, "", 0, _COOKIE)
        return response

    async def _finished(self, request: Request, fields: Form, transaction: Transaction, key: str) -> Response:
        async with self._asking():
            staff = await self._signed_in(fields, transaction)
        if not staff.scopes:
            subject = staff.annotations.get(SUBJECT, "")
            raise NoRole(f"the subject {subject!r} has no role that AUTHSVC_CONSOLE_OIDC_ROLES names")
        try:
            caller = await identified(self._parts, request, key)
            if caller.kind is not CredentialKind.KEY:  # it would end, and nobody could revoke it as a key
                raise Misconfigured(f"{KEY}: is not an API key")
            token = await opened(self._parts, request, caller, key, staff.scopes, staff.annotations)
        except Unauthenticated as error:
            raise Misconfigured(f"{KEY}: the key is not accepted: {error.message}") from None
        except Problem as problem:
            if problem.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                raise Misconfigured(f"{KEY}: the key may not open this session: {problem.message}") from None
            if problem.code is grpc.StatusCode.INVALID_ARGUMENT:
                raise Misconfigured(f"the session cannot be opened: {problem.message}") from None
            raise
        return signed_in_to(self._parts, request, transaction.next_page, token)

    async def _signed_in(self, fields: Form, transaction: Transaction) -> Staff:
        """Return who has signed in at the provider. Raises SignInFailed."""
        metadata = await self._provider.metadata()
        names_itself = metadata.names_itself or "iss" in fields
        if names_itself and _only(fields, "iss") != self._client.issuer:
            raise Refused("another issuer has sent the browser back")
        if "error" in fields:
            error = _only(fields, "error")
            if error in _CANCELLED:
                raise Cancelled(f"the provider has signed nobody in: {error}")
            raise ProviderUnavailable("the provider has sent the browser back with an error")
        code = _only(fields, "code")
        if not 1 <= len(code) <= _LONGEST_CODE:
            raise Refused("the provider has sent the browser back without a code")
        tokens = await self._provider.tokens(code, transaction.verifier)
        now = self._parts.clock()
        claims = await verified(tokens.id_token, self._provider, self._client, transaction.nonce, now)
        if roles_in(claims, self._client.roles_claim) is None:
            claims = {**await self._provider.user_info(tokens, claims["sub"]), **claims}
        return staff_of(claims, self._client)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Bound the time and the number of requests that wait for the provider."""
        if self._waiting >= _MAX_WAITING:
            raise Busy("too many sign-ins wait for the provider")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._max_seconds):
                yield
        except TimeoutError:
            raise ProviderUnavailable(
                f"the provider has not answered within {self._max_seconds:g} s"
            ) from None
        finally:
            self._waiting -= 1

    def _failed(self, request: Request, failure: SignInFailed) -> Response:
        level = logging.ERROR if failure.http_status >= 500 else logging.INFO
        address = address_of(self._parts.rpcs, request)
        _log.log(level, "no sign-in by OpenID Connect for %s: %s", address, failure)
        values = {"what": failure.page}
        return self._parts.pages.page("message.html", values, status=failure.http_status, address=address)

    def _problem(self, request: Request, problem: Problem) -> Response:
        address = address_of(self._parts.rpcs, request)
        values = {"problem": problem}
        return self._parts.pages.page("problem.html", values, status=problem.http_status, address=address)


def _only(fields: Form, name: str) -> str:
    """Return the value of a field; "" if there is none, or several."""
    values = fields.all(name)
    return values[0] if len(values) == 1 else ""
