"""The session of a browser: the cookie that holds its token, and whose it is.

The token is a session token of authsvc, which is the credential of all calls. The sign-in of the console sets
the cookie, or the login of a product does.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from authsvc.entrance.admission import Admission
from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import AuthsvcError
from authsvc.model.key_string import redact
from authsvc.v1 import session_service_pb2 as pb
from authsvc.web.console.calls import Calls, client_of, incoming_call
from authsvc.web.console.parts import Parts

#: The name of the cookie with the session token; without the prefix where the browser would refuse it.
COOKIE = "authsvc"
SIGN_IN = "/sign-in"
#: Where the sign-in by OpenID Connect starts.
OIDC = "/sign-in/oidc"
_HINTS = {"brands": "sec-ch-ua", "platform": "sec-ch-ua-platform", "mobile": "sec-ch-ua-mobile"}


def _is_plain(request: Request) -> bool:
    # Never by the request: a proxy that ends TLS may hide the address that the browser has.
    return bool(request.app.state.has_plain_cookies)


def _name(request: Request, name: str) -> str:
    return name if _is_plain(request) else f"__Host-{name}"


def cookie(request: Request, name: str = COOKIE) -> str:
    """Return the value of a cookie of ours; "" if there is none, or several.

    Names are compared as they are: what a lenient parser takes for `__Host-` can be set by other sites.
    """
    wanted, found = _name(request, name), []
    for pair in ";".join(request.headers.getlist("cookie")).split(";"):
        own, _, value = pair.strip(" \t").partition("=")
        if own == wanted:
            found.append(value)
    return found[0] if len(found) == 1 else ""


def set_cookie(request: Request, response: Response, value: str, seconds: int, name: str = COOKIE) -> None:
    """Set a cookie of ours, which only this host gets, and no script; remove it if the value is empty."""
    response.set_cookie(
        _name(request, name),
        value,
        max_age=seconds if value else 0,
        httponly=True,
        secure=not _is_plain(request),
        samesite="lax",
    )


async def identified(parts: Parts, request: Request, credential: str) -> Caller:
    """Return whose credential this is, as the entrance judges it. Raises AuthsvcError."""
    entrance = parts.rpcs.entrance
    admission, incoming = Admission(entrance, parts.operation), incoming_call(request, credential)
    try:
        return admission.enter(incoming) or await admission.authenticate(incoming)
    except AuthsvcError as error:
        await admission.refuse(error)
        raise
    finally:
        admission.leave()


async def signed_in(parts: Parts, request: Request) -> tuple[Caller, str] | None:
    """Return who is signed in, and the session token; None if nobody is. Raises AuthsvcError."""
    token = cookie(request)
    if not token:
        return None
    caller = await identified(parts, request, token)
    # A key in a cookie would be a key in the storage of a browser.
    return (caller, token) if caller.kind is CredentialKind.SESSION else None


async def opened(
    parts: Parts,
    request: Request,
    caller: Caller,
    key: str,
    scopes: Sequence[str],
    annotations: Mapping[str, str] = {},
) -> str:
    """Open a session for the owner of a key, with this key, and return its token. Raises Problem."""
    asked = pb.CreateSessionRequest(
        owner_id=caller.owner_id,
        user_agent=request.headers.get("user-agent", ""),
        ip_address=caller.client_ip,
        scopes=scopes,
        annotations=annotations,
    )
    for field, header in _HINTS.items():
        setattr(asked.client_hints, field, request.headers.get(header, ""))
    asked.lifetime.FromTimedelta(parts.session_times.lifetime)
    asked.idle_timeout.FromTimedelta(parts.session_times.idle_timeout)
    calls = Calls(parts.rpcs, client_of(request, key), parts.max_seconds)
    answer = await calls("SessionService/CreateSession", asked, pb.CreateSessionResponse)
    return answer.session_token


def signed_in_to(parts: Parts, request: Request, path: str, token: str) -> Response:
    """Return an answer that gives the browser its session, and leads to a page of ours."""
    response = RedirectResponse(own_page(path), 303)
    set_cookie(request, response, token, int(parts.session_times.lifetime.total_seconds()))
    return response


def own_page(path: str) -> str:
    """Return a path of ours to go on to, never another site."""
    is_ours = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_ours and not urlsplit(path).netloc else "/"


def to_sign_in(request: Request, *, ended: bool) -> Response:
    """Return an answer that leads to the sign-in, and from there back to the page if it was only shown."""
    fields = {"ended": "1"} if ended else {}
    if request.method in ("GET", "HEAD") and request.url.path != "/":
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        # A key may have been pasted into the address.
        if redact(path) == path:
            fields["next"] = path
    response = RedirectResponse(f"{SIGN_IN}?{urlencode(fields)}" if fields else SIGN_IN, 303)
    if ended:
        set_cookie(request, response, "", 0)
    return response


def left(request: Request, how: str = "1") -> Response:
    """Return an answer that leads to the sign-in after the session was ended."""
    response = RedirectResponse(f"{SIGN_IN}?left={how}", 303)
    set_cookie(request, response, "", 0)
    return response
