"""What the middlewares of WSGI and ASGI have in common: which requests pass, and what the application sees.

Mechanism: the credential, the rules for paths and the refusals are those of a gateway (docs/gateways.md), but
in the process of the service. Headers that tell whose request it is come from nobody but us, so those that a
client sends are removed.

Failure: every error becomes a refusal. The application is called only when the verdict is VALID, or when no
credential is required.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from authsvc.client import refusal
from authsvc.client.access import Rule, Scopes
from authsvc.client.auth_client import AuthClient
from authsvc.client.blocking_auth_client import BlockingAuthClient
from authsvc.client.cookies import Cookies, holds_credential
from authsvc.client.faults import Faults
from authsvc.client.identity import Identity, identified
from authsvc.client.path import canonical, is_plain
from authsvc.client.presented import accepted, ambiguous, candidates_in, type_of
from authsvc.client.question import Question
from authsvc.client.routes import Routes
from authsvc.client.verdict import CredentialType, Verdict, VerdictCode

#: The key of the caller's `Identity` in the environ of WSGI and the scope of ASGI. None without a caller.
IDENTITY = "authsvc.identity"

# What a gateway tells its upstream. Nobody has told us.
_IDENTITY_HEADERS = frozenset(
    {"x-auth-key-id", "x-auth-session-id", "x-auth-owner-id", "x-auth-scopes", "x-auth-credential-type"}
)
# With these headers an application may use another method or path than the one that the rule was found by.
_REWRITING = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"}
)
_CREDENTIAL_HEADERS = frozenset({"authorization", "x-api-key", "cookie"})
# Verdicts on credentials that are valid, whatever their scopes.
_GOOD = (
    VerdictCode.VALID,
    VerdictCode.INSUFFICIENT_SCOPE,
    VerdictCode.RATE_LIMITED,
    VerdictCode.CREDITS_EXHAUSTED,
)

App = TypeVar("App", bound=Callable[..., Any])
ClientT = TypeVar("ClientT", AuthClient, BlockingAuthClient)


class HttpRequest(NamedTuple):
    """A request. Names of headers are in lower case, with hyphens."""

    method: str
    # Decoded, below the place where the application is mounted.
    path: str
    # As it was sent, perhaps with the query; "" if the server does not tell.
    target: str
    headers: Sequence[tuple[str, str]]
    # Returns the user's address.
    address: Callable[[], str]


class Presentation(NamedTuple):
    """What decides about a request: the verdicts on its credentials. There is none for a public request."""

    rule: Rule
    questions: Sequence[Question]


class Admitted(NamedTuple):
    """A request that passes: its caller and credential, or None and "" if it is public."""

    identity: Identity | None
    credential: str


class HttpMiddleware(Generic[App, ClientT]):
    """The base class of `AuthenticatedWsgi` and `AuthenticatedAsgi`."""

    _kind_of_client: type[AuthClient] | type[BlockingAuthClient]

    def __init__(
        self,
        app: App,
        client: ClientT,
        *,
        scopes: Scopes | Mapping[str, Scopes],
        public: Iterable[str] = (),
        accept: Collection[CredentialType] = frozenset(CredentialType),
        cookies: Iterable[str] = (),
        client_address: Callable[[Any], str] | None = None,
        preflights: bool = False,
        keep_credential: bool = False,
    ) -> None:
        """Take the application, the client to verify with, and what each request requires.

        `scopes` are the scopes that all requests require (an empty list: any valid credential), or a mapping
        from patterns like `GET /orders/*` to scopes; then requests that are not listed are refused. `public`
        are the patterns of requests that require no credential. `authsvc.client.routes` says what a pattern
        is. Paths are those below SCRIPT_NAME or root_path.

        `accept` are the accepted types of credentials. `cookies` are the names of cookies that may hold one.
        `client_address` returns the user's address for an environ of WSGI or a scope of ASGI, by default that
        of the peer of the connection. `preflights` lets CORS preflights through, which carry no credential.
        `keep_credential` lets the application see the credential.

        Raises TypeError and ValueError for arguments that cannot be meant.
        """
        if not callable(app):
            raise TypeError(f"{app!r} is not an application; pass a callable")
        if not isinstance(client, self._kind_of_client):
            needed, given = self._kind_of_client.__name__, type(client).__name__
            raise TypeError(f"the client of {type(self).__name__} has to be: {needed}; this is: {given}")
        if client_address is not None and not callable(client_address):
            raise TypeError(f"client_address is a function of the environ or scope, not {client_address!r}")
        self._app = app
        self._client: ClientT = client
        self._routes = Routes(scopes, public)
        self._accept = accepted(accept)
        self._cookies = Cookies(cookies)
        self._client_address = client_address
        self._preflights = preflights
        self._keep_credential = keep_credential
        self._faults = Faults()

    def _examined(self, request: HttpRequest) -> Presentation:
        """Return what decides about a request. Raise Refusal if it is refused whatever its credential is."""
        rule = self._rule(request)
        if rule is None:
            raise refusal.route_not_permitted()
        if rule.is_public:
            return Presentation(rule, ())
        candidates = candidates_in(request.headers, self._cookies)
        candidates = [text for text in candidates if type_of(text) in self._accept]
        if not candidates:
            raise refusal.bad_credential(VerdictCode.NOT_FOUND)
        address = request.address()
        return Presentation(
            rule, [Question(text, rule.scopes, address, request.headers) for text in candidates]
        )

    def _rule(self, request: HttpRequest) -> Rule | None:
        if self._preflights and _is_preflight(request):
            return Rule((), is_public=True)
        path = canonical(request.path) if not request.target or is_plain(request.target) else None
        return self._routes.rule(request.method, path)

    def _deadline(self, asked: Presentation) -> float:
        """Return the seconds for each of the questions, which are asked in turn."""
        return self._client.deadline / max(1, len(asked.questions))

    def _admitted(self, asked: Presentation, verdicts: Sequence[Verdict]) -> Admitted:
        """Return whose request it is. Raise Refusal if no verdict is VALID, or several are."""
        if asked.rule.is_public:
            return Admitted(None, "")
        answers = list(zip(verdicts, asked.questions, strict=True))
        good = [answer for answer in answers if answer[0].code in _GOOD]
        if len(good) > 1:
            raise ambiguous()
        # If none is valid, the first one that authsvc knows: its refusal is more specific.
        known = [answer for answer in answers if answer[0].code is not VerdictCode.NOT_FOUND]
        verdict, question = (good or known or answers)[0]
        return Admitted(identified(verdict, question.scopes), question.credential)

    def _shown(self, name: str, value: str, admitted: Admitted) -> str | None:
        """Return the value of a header as the application sees it; None if it does not see it.

        For a public request, only what has the form of a credential of authsvc is removed.
        """
        if name not in _CREDENTIAL_HEADERS:
            name = name.replace("_", "-")
            removed = name in _IDENTITY_HEADERS or (self._routes.differ and name in _REWRITING)
            return None if removed else value
        if admitted.identity is None and (self._keep_credential or not holds_credential(value)):
            return value
        if name == "cookie":
            return self._cookies.without(value, admitted.credential if self._keep_credential else "") or None
        return value if self._keep_credential else None


def _is_preflight(request: HttpRequest) -> bool:
    return request.method == "OPTIONS" and {"origin", "access-control-request-method"} <= {
        name for name, _ in request.headers
    }


def address_of(peer: object) -> str:
    """Return the address of the peer of a connection; "" if it has none. The client checks it."""
    return peer if isinstance(peer, str) else ""
