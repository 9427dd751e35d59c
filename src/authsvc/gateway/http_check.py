"""The check over HTTP, for nginx `auth_request` and for Caddy and Traefik `forward_auth`.

`GET /check` has the headers of the request in question, its method and target in `X-Forwarded-Method` and
`X-Forwarded-Uri`, and in its query the scopes that the route requires: `/check?scope=orders:read`, or, for
one of several, `/check?any_of_scopes=orders:read+orders:write`. The answer is 200 with headers for the
upstream, or 401, 403, 429 or 503 for the client. A 200 always has all headers, so that a proxy that copies
them overwrites forged ones. The proxy sends its own key in `X-Authsvc-Key`.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from authsvc.entrance.admission import Admission
from authsvc.entrance.code import INVALID_ARGUMENT, code_name, code_of
from authsvc.entrance.entrance import Entrance
from authsvc.entrance.incoming_call import IncomingCall, loggable
from authsvc.entrance.readiness import Readiness
from authsvc.gateway import identity
from authsvc.gateway.access import FAULT, SCOPES, Access, Allowed, GatewayRequest
from authsvc.gateway.denied import Denied
from authsvc.gateway.required import MAX_SCOPES, MAX_SCOPES_LENGTH, required_scopes
from authsvc.model.address import Proxies
from authsvc.model.caller import Caller
from authsvc.model.errors import AuthsvcError, RetryableError
from authsvc.model.memo import remembered
from authsvc.net.http_message import Call, Reply
from authsvc.telemetry.access_log import Outcome
from authsvc.telemetry.current_call import REQUEST_ID, CurrentCall, answering
from authsvc.telemetry.wording import cut

_log = logging.getLogger(__name__)

#: The check in metrics and in the audit log, as the RPCs are by their names.
OPERATION = "HttpCheck"
#: The header with the own key of the proxy, apart from the credential of its client.
OWN_KEY = "x-authsvc-key"
#: The header that repeats the problem, for proxies that pass on headers and not the body.
PROBLEM = "x-authsvc-problem"
#: The header with the cookies without the credential, for the upstream; sent if a cookie may hold one.
COOKIE = "x-auth-cookie"

# The parameters of the query: the scopes that are required, and those of which one is.
_LISTS = ("scope", "any_of_scopes")
_METHOD, _TARGET = "x-forwarded-method", "x-forwarded-uri"
# Characters of an invalid query that the log shows.
_MAX_SHOWN_LENGTH = 200
# `scope=` and `&` for each scope, with each character escaped to three; twice, for `any_of_scopes`.
_MAX_QUERY_LENGTH = 2 * (3 * MAX_SCOPES_LENGTH + 7 * MAX_SCOPES)


class HttpCheck:
    """Answers `GET /check`, `/healthz` and `/readyz`."""

    def __init__(
        self,
        access: Access,
        entrance: Entrance,
        readiness: Readiness,
        proxies: Proxies,
    ) -> None:
        """Take what decides, what calls pass before, and the proxies whose `x-forwarded-for` is believed."""
        self._access = access
        self._entrance = entrance
        self._operation = entrance.operation(OPERATION, SCOPES)
        self._readiness = readiness
        self._proxies = proxies

    async def answer(self, call: Call) -> Reply:
        """Answer a request."""
        path, _, query = call.target.partition("?")
        if path == "/check" and call.method in ("GET", "HEAD"):
            return await self._check(call, query)
        # Everything else is served to unknown callers, as health is over gRPC.
        await self._entrance.probes.wait(call.sender)
        if path not in ("/check", "/healthz", "/readyz"):
            return Reply(404)
        if call.method not in ("GET", "HEAD"):
            return Reply(405, [("allow", "GET, HEAD")])
        if path == "/healthz" or not (reason := self._readiness.reason):
            return Reply(200)
        return Reply(503, [("retry-after", "1")], reason)

    async def _check(self, call: Call, query: str) -> Reply:
        """Let the proxy in, and answer it."""
        current = CurrentCall(loggable(next(iter(call.all(REQUEST_ID)), "")))
        observer = self._entrance.observer
        if observer is None:
            with answering(current):
                return await self._checked(call, query, Outcome())
        chosen = observer.choose(call.headers, is_known=False)
        with observer.observed(
            "check", OPERATION, current, call.headers, chosen, is_known=False
        ) as observation:
            with answering(current):
                reply = await self._checked(call, query, observation.outcome)
            observation.outcome.verdict, observation.outcome.size = str(reply.status), len(reply.body)
            return reply

    async def _checked(self, call: Call, query: str, outcome: Outcome) -> Reply:
        started = time.perf_counter()
        operation = self._operation
        admission = Admission(self._entrance, operation)
        try:
            keys = [key.strip() for key in call.all(OWN_KEY)]
            incoming = IncomingCall(call.sender, keys, request_id=next(iter(call.all(REQUEST_ID)), ""))
            caller = admission.enter(incoming) or await admission.authenticate(incoming)
            admission.authorize(caller)
            return await self._decide(caller, call, query, outcome)
        except AuthsvcError as error:
            outcome.fail(code_of(error), code_name(code_of(error)), error.reason)
            await admission.refuse(error)
            if isinstance(error, RetryableError):
                return _denied(Denied.of(error))
            return self._fault(f"{error.reason}: {error.message} (send the proxy's key in {OWN_KEY})")
        except Exception as error:
            outcome.raised(error)
            operation.count_error("INTERNAL")
            raise
        except asyncio.CancelledError as error:
            outcome.raised(error)
            raise
        finally:
            outcome.caller = admission.caller
            admission.leave()
            operation.observe(time.perf_counter() - started)

    async def _decide(self, caller: Caller, call: Call, query: str, outcome: Outcome) -> Reply:
        headers = _joined(call.headers)
        method, target = headers.get(_METHOD, ""), headers.get(_TARGET, "")
        scopes = _scopes(query)
        if scopes is None:
            self._misuse(outcome)
            if query == target.partition("?")[2]:  # the client's, which must not be logged
                return self._fault(
                    "its request has the query of its client; in a Caddyfile write uri /check? with a "
                    "question mark"
                )
            return self._fault(
                f"its request has the query {cut(query, _MAX_SHOWN_LENGTH)!r}; write /check?scope=orders:read"
            )
        if not method or not target or "," in method or len(call.all(_TARGET)) > 1:
            self._misuse(outcome)
            return self._fault(
                "it does not describe the request; have it set the headers X-Forwarded-Method and "
                "X-Forwarded-Uri, once each"
            )
        # The last address is the peer of our proxy.
        forwarded, _, last = headers.get("x-forwarded-for", "").rpartition(",")
        address = self._proxies.client(last, [forwarded])
        required, any_of = scopes
        asked = GatewayRequest(
            method, target, headers, required, address, removes_headers=False, any_of_scopes=any_of
        )
        answer = await self._access.decide(caller, asked)
        return _denied(answer) if isinstance(answer, Denied) else self._allowed(answer, headers)

    def _allowed(self, answer: Allowed, headers: Mapping[str, str]) -> Reply:
        told = dict.fromkeys(identity.NAMES, "")
        told.update(answer.set_headers)
        cookie = told.pop("cookie", None)
        if self._access.judges_cookies:
            if cookie is None and "cookie" not in answer.removed_headers:
                cookie = headers.get("cookie")
            told[COOKIE] = cookie or ""
        # The limits are for the client, so they are not among the headers that are always there.
        return Reply(200, [*told.items(), *answer.limit_headers])

    def _misuse(self, outcome: Outcome) -> None:
        self._operation.count_error("INVALID_ARGUMENT")
        outcome.fail(INVALID_ARGUMENT, "INVALID_ARGUMENT")

    def _fault(self, problem: str) -> Reply:
        _log.error("a proxy that uses the check over HTTP is misconfigured: %s", problem)
        return _denied(FAULT)


@remembered(max_entries=1024, max_length=512)
def _scopes(query: str) -> tuple[Sequence[str], Sequence[str]] | None:
    """Return the scopes in a query: all that are required, and those of which one is.

    None for a query that is invalid or too long.
    """
    if len(query) > _MAX_QUERY_LENGTH:
        return None
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=2 * MAX_SCOPES)
    except ValueError:
        return None
    if any(name not in _LISTS or not value.strip() for name, value in pairs) or (query and not pairs):
        return None
    required, any_of = (
        required_scopes(" ".join(value for key, value in pairs if key == name)) for name in _LISTS
    )
    return None if required is None or any_of is None else (required, any_of)


def _joined(headers: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        if name in joined:
            # Cookies are joined as in HTTP/2 (RFC 9113, 8.2.3), since a cookie may contain a comma.
            separator = "; " if name == "cookie" else ","
            value = f"{joined[name]}{separator}{value}"
        joined[name] = value
    if not joined.get("user-agent", "").isascii():
        joined["user-agent"] = _utf_8_first(joined["user-agent"])
    return joined


def _utf_8_first(text: str) -> str:
    """Return a header that was decoded as Latin-1 in UTF-8 if its bytes are valid UTF-8."""
    try:
        return text.encode("latin-1").decode()
    except ValueError:
        return text


def _denied(answer: Denied) -> Reply:
    body = answer.body()
    return Reply(answer.status, [*answer.headers(), (PROBLEM, body)], body)
