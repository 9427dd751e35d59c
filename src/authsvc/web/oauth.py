"""What the OAuth endpoints share: how they are called, who calls, and their errors.

Mechanism: an endpoint is an ASGI application. It reads a form and calls RPCs with the credential of its
caller, which is in the `authorization` header: as `Bearer`, or as the password of `Basic`, whatever the user
name is, or is known by a certificate. Who needs which scope is said by the RPCs.

A browser sends a certificate, and a form, in the name of its user wherever a page of another site wants it
to; such a request is refused by its `Sec-Fetch-Site`.

Failure: errors are JSON (RFC 6749, 5.2) with the `reason` of the RPC. An error that may pass is 503 with
`Retry-After`, also a limit, since that is what RFC 7009 knows. No error repeats anything of the form.
"""

import binascii
import json
import math
import re
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from starlette.types import Receive, Scope, Send

from authsvc.model.key_string import SESSION, redact
from authsvc.rpc.peer import address_of
from authsvc.web.form import BadFormError, GoneError, check_head, read
from authsvc.web.local_call import RefusedError, ask
from authsvc.web.rpcs import Client, Refusal, Rpcs

Headers = Sequence[tuple[str, str]]
#: Returns who sends a request, by its headers in lower case.
ClientOf = Callable[[Scope, Headers], Client]

_BASIC = "basic "
# Characters of an `authorization` header that are decoded, more than a key string and a user name have.
_MAX_BASIC_LENGTH = 4096
_TEMPORARY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)
# What browsers say of a request that another site made. They send a certificate with it by themselves.
_OTHER_SITES = ("cross-site", "same-site")
# What an `error_description` may not have (RFC 6749, 5.2).
_UNTOLD = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


class _Reply(NamedTuple):
    http_status: int
    headers: Headers
    body: bytes


class OAuthEndpoint(ABC):
    """An endpoint that takes a token; an ASGI application."""

    def __init__(self, rpcs: Rpcs, client_of: ClientOf) -> None:
        self._rpcs, self._client_of = rpcs, client_of

    @abstractmethod
    async def answer(self, client: Client, token: str) -> Mapping[str, object] | None:
        """Return the answer, None for an empty one; raise RefusedError."""

    async def ask(self, rpc: str, client: Client, request: Any) -> Any:
        """Return the answer of an RPC of `authsvc.v1`, such as `KeyService/VerifyKey`; raise RefusedError."""
        return await ask(self._rpcs, rpc, client, request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        client = _with_bearer(self._client_of(scope, headers))
        try:
            reply = await self._reply(scope, headers, client, receive)
        except GoneError:
            return
        except RefusedError as error:
            reply = _refused(error.refusal, _scheme(headers))
        except BadFormError as error:
            # Of nobody who is known.
            await self._rpcs.entrance.strangers.wait(address_of(client.peer))
            reply = _error(error.http_status, "invalid_request", error.message)
        await _send(send, reply)

    async def _reply(self, scope: Scope, headers: Headers, client: Client, receive: Receive) -> _Reply:
        if scope["method"] != "POST":
            await self._rpcs.entrance.strangers.wait(address_of(client.peer))
            return _error(405, "invalid_request", "the token is sent by POST", headers=[("allow", "POST")])
        if scope.get("query_string"):
            raise BadFormError(400, "the token is sent in the body; addresses are kept in logs")
        if any(name == "sec-fetch-site" and value.strip() in _OTHER_SITES for name, value in headers):
            raise BadFormError(403, "a page of another site sent this, with the certificate of its reader")
        check_head(headers)
        form = await read(receive)
        if "client_secret" in form:
            raise BadFormError(
                400, "send the key in the authorization header (client_secret_basic), not in the body"
            )
        if "token" not in form:
            raise BadFormError(400, "the form has no token")
        told = await self.answer(client, form["token"])
        return _Reply(200, (), b"") if told is None else _json(200, told)


def is_session(token: str) -> bool:
    """Return whether a token can only be that of a session, by its form; otherwise it can only be a key."""
    return token.strip().split("_", 2)[1:2] == [SESSION]


def reason_of(refusal: Refusal) -> str:
    """Return the reason in the details of an error; "" if it has none."""
    for packed in refusal.status.details:
        if packed.Is(ErrorInfo.DESCRIPTOR):
            reason: str = ErrorInfo.FromString(packed.value).reason
            return reason
    return ""


def _with_bearer(client: Client) -> Client:
    """Return a client whose credentials are bearer credentials."""
    return client._replace(
        metadata=[
            (name, _as_bearer(value)) if name == "authorization" else (name, value)
            for name, value in client.metadata
        ]
    )


def _as_bearer(header: str) -> str:
    """Return the password of a header with the scheme Basic as a bearer credential."""
    header = header.strip()
    if header[: len(_BASIC)].lower() != _BASIC or len(header) > _MAX_BASIC_LENGTH:
        return header
    try:
        text = b64decode(header[len(_BASIC) :].strip(), validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        return header
    # Both parts are encoded as in a form (RFC 6749, 2.3.1), though not by all clients. To a key string it
    # makes no difference.
    return f"Bearer {unquote_plus(text.partition(':')[2])}"


def _scheme(headers: Headers) -> str:
    """Return the scheme by which the client tried to authenticate; "" if it did not."""
    shown = [value.strip().lower() for name, value in headers if name == "authorization"]
    if not any(shown):
        return ""
    return "basic" if shown[0].startswith(_BASIC) else "bearer"


def _refused(refusal: Refusal, scheme: str) -> _Reply:
    """Return the answer for an error of an RPC."""
    code, message, reason = refusal.code, refusal.status.message, reason_of(refusal)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return _error(401, "invalid_client", message, reason, _challenges(scheme))
    if code is grpc.StatusCode.PERMISSION_DENIED:
        error = "insufficient_scope" if reason == "SCOPE_MISSING" else "access_denied"
        return _error(403, error, message, reason)
    if code in _TEMPORARY:
        retry = [("retry-after", str(_retry_after(refusal)))]
        return _error(503, "temporarily_unavailable", message, reason, retry)
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
        return _error(400, "invalid_request", message, reason)
    return _error(500, "server_error", message, reason)


def _challenges(scheme: str) -> Headers:
    """Return what a 401 asks for: the scheme that the client has used, or either (RFC 6749, 5.2)."""
    challenges = []
    if scheme != "bearer":
        challenges.append('Basic realm="authsvc", charset="UTF-8"')
    if scheme != "basic":
        challenges.append('Bearer realm="authsvc"' + (', error="invalid_token"' if scheme else ""))
    return [("www-authenticate", challenge) for challenge in challenges]


def _retry_after(refusal: Refusal) -> int:
    """Return after how many seconds to try again, rounded up, at least 1."""
    for packed in refusal.status.details:
        if packed.Is(RetryInfo.DESCRIPTOR):
            delay = RetryInfo.FromString(packed.value).retry_delay
            seconds: float = delay.seconds + delay.nanos / 1e9
            return max(1, math.ceil(seconds))
    return 1


def _error(http_status: int, error: str, message: str, reason: str = "", headers: Headers = ()) -> _Reply:
    told = {"error": error, "error_description": _UNTOLD.sub("'", redact(message))}
    if reason:
        told["reason"] = reason
    return _json(http_status, told, headers)


def _json(http_status: int, told: Mapping[str, object], headers: Headers = ()) -> _Reply:
    body = json.dumps(told, separators=(",", ":")).encode()
    return _Reply(http_status, [("content-type", "application/json"), *headers], body)


async def _send(send: Send, reply: _Reply) -> None:
    headers = [
        *reply.headers,
        ("content-length", str(len(reply.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]
    await send(
        {
            "type": "http.response.start",
            "status": reply.http_status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})
