"""The decision whether a request may pass, and on whose behalf."""

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from authsvc.gateway import identity
from authsvc.gateway.denied import Denied
from authsvc.gateway.limit_headers import limit_headers
from authsvc.gateway.path import is_disguised
from authsvc.gateway.presented import NOTHING, CredentialSources, Headers, Presented
from authsvc.gateway.routes import Routes
from authsvc.gateway.verdicts import GOOD, Presentation, Verdicts
from authsvc.model.caller import Caller
from authsvc.model.client_hints import ClientHints
from authsvc.model.credential import Credential
from authsvc.model.errors import RetryableError
from authsvc.model.key_string import redact
from authsvc.model.refusal import LIMITED, REFUSALS
from authsvc.model.scope import missing
from authsvc.model.user_agent import of_a_user
from authsvc.model.verdict import Verdict, VerdictCode
from authsvc.verify.verifier import Question, Verifier

_log = logging.getLogger(__name__)

# Headers of a request. Servers and proxies accept 100 to 200 by default.
MAX_HEADERS = 1000
# The scopes that a proxy needs to ask for decisions.
SCOPES = ("keys:verify", "sessions:verify")

# With these headers an upstream may use another method or path than the one that the route was found by.
REWRITING = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"}
)


class GatewayRequest(NamedTuple):
    """A request that a proxy asks about.

    `target` is its path and query, as the upstream will get them, decoded as ISO-8859-1.
    """

    method: str
    target: str
    headers: Headers
    # The scopes that the proxy itself requires, in addition to those of the table of routes.
    required_scopes: Sequence[str] = ()
    # Normalized, as by Proxies.client; "" if it is not known.
    client_ip: str = ""
    # Whether the proxy removes the headers that we name. If not, requests with such headers are refused.
    removes_headers: bool = True
    # Scopes of which the proxy requires one.
    any_of_scopes: Sequence[str] = ()


class Allowed(NamedTuple):
    """The request may pass: its credential, None on a public route, and what is to be done to its headers."""

    credential: Credential | None
    # Besides those that tell whose request it is.
    other_set_headers: list[tuple[str, str]]
    other_removed_headers: list[str]
    # Headers of the answer to the client.
    limit_headers: Sequence[tuple[str, str]] = ()

    @property
    def set_headers(self) -> list[tuple[str, str]]:
        """All headers to set, with their values."""
        return [*identity.headers(self.credential), *self.other_set_headers]

    @property
    def removed_headers(self) -> list[str]:
        """The names of all headers to remove."""
        return [*identity.absent(self.credential), *self.other_removed_headers]


class Access:
    """Decides about requests."""

    def __init__(
        self,
        verifier: Verifier,
        sources: CredentialSources,
        *,
        routes: Callable[[], Routes] | None = None,
        keep_credential: bool = False,
    ) -> None:
        """Take the sources of credentials, the current routes, and whether upstreams see credentials."""
        self._verdicts = Verdicts(verifier)
        self._sources = sources
        self._routes = routes
        self._keep_credential = keep_credential
        #: The number of answers, by the reason of the refusal; or ALLOWED, or PUBLIC.
        self.counts: dict[str, int] = {"ALLOWED": 0, "PUBLIC": 0}
        self.undecided = 0  #: how many of these were that nothing can be decided now

    @property
    def judges_cookies(self) -> bool:
        """Whether a cookie may hold a credential, so that cookies are rewritten."""
        return self._sources.has_cookie

    async def decide(self, caller: Caller, asked: GatewayRequest) -> Allowed | Denied:
        """Answer the proxy `caller`. A retryable error becomes a refusal, so the proxy need not guess."""
        found = self._credentials(caller, asked)
        if found is FAULT:
            _log.error("a proxy and its route in AUTHSVC_ROUTES name any_of_scopes; name them in one")
        if not isinstance(found, Presentation):
            return self._counted(found)
        try:
            verdicts = await self._verdicts.look_up(found)
        except RetryableError as error:
            return self._counted(Denied.of(error))
        return self._counted(self._concluded(asked, found, verdicts))

    def recall(self, caller: Caller, asked: GatewayRequest) -> Allowed | Denied | None:
        """Answer as `decide`, from memory alone; None when `decide` has to look further."""
        found = self._credentials(caller, asked)
        if found is FAULT:
            return None
        if not isinstance(found, Presentation):
            return self._counted(found)
        try:
            verdicts = self._verdicts.recall(found)
        except RetryableError as error:
            return self._counted(Denied.of(error))
        return None if verdicts is None else self._counted(self._concluded(asked, found, verdicts))

    def _counted(self, answer: Allowed | Denied) -> Allowed | Denied:
        if isinstance(answer, Denied):
            kind = answer.reason
            self.undecided += answer.status == HTTPStatus.SERVICE_UNAVAILABLE
        else:
            kind = "PUBLIC" if answer.credential is None else "ALLOWED"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return answer

    def _credentials(self, caller: Caller, asked: GatewayRequest) -> Allowed | Denied | Presentation:
        """Return the credentials that decide about a request, or the answer if none does."""
        required, any_of, headers = asked.required_scopes, asked.any_of_scopes, asked.headers
        if len(headers) > MAX_HEADERS:
            return _TOO_MANY_HEADERS
        if not asked.removes_headers and self._deceptive(asked):
            return _DECEPTIVE
        if self._routes is None:
            if is_disguised(asked.target):
                return _NO_ROUTE
        else:
            access = self._routes().find(asked.method, asked.target)
            if access is None:
                return _NO_ROUTE
            # The scopes that the proxy requires are added.
            if access.public and not required and not any_of:
                return self._public(asked)
            if access.scopes:
                required = (*required, *access.scopes)
            if access.any_of_scopes:
                if any_of:
                    return FAULT
                any_of = access.any_of_scopes
        presented = self._sources.find(headers)
        if not presented.texts:
            return self._missing()
        if presented.ambiguous:
            return self._ambiguous()
        question = Question(
            None,
            caller,
            required,
            asked.client_ip,
            of_a_user(headers.get("user-agent", "")),
            ClientHints.of_headers(headers),
            any_of,
            cost=1,
        )
        return Presentation(question, presented)

    def _concluded(
        self, asked: GatewayRequest, found: Presentation, verdicts: dict[str, Verdict]
    ) -> Allowed | Denied:
        question, presented = found
        text = presented.texts[0]
        if len(verdicts) > 1:
            good = [text for text, verdict in verdicts.items() if verdict.code in GOOD]
            if len(good) > 1:
                return self._ambiguous()
            # If none is valid, the first one that was minted here: its refusal is more specific.
            known = [text for text, verdict in verdicts.items() if verdict.code is not VerdictCode.NOT_FOUND]
            text = next(iter((*good, *known, text)))
        return self._answer(verdicts[text], question, asked, presented, text)

    def _answer(
        self,
        verdict: Verdict,
        question: Question,
        asked: GatewayRequest,
        presented: Presented,
        text: str,
    ) -> Allowed | Denied:
        code, credential, limits, retry_after = verdict
        if code is VerdictCode.VALID and credential is not None:
            allowed = self._cleaned(credential, asked, presented, text)
            return allowed if limits is None else allowed._replace(limit_headers=limit_headers(limits))
        if code is VerdictCode.INSUFFICIENT_SCOPE and credential is not None:
            lacking = missing(credential.scopes, dict.fromkeys(question.required_scopes))
            # What is refused first is told first.
            any_of = () if lacking else tuple(dict.fromkeys(question.any_of_scopes))
            named = " and ".join(lacking) or " or ".join(any_of)
            return Denied(
                403,
                "SCOPE_MISSING",
                "A scope is missing",
                f"This request requires the scope {named}; use a credential that has it.",
                "insufficient_scope",
                self._sources.scheme,
                lacking,
                any_of_scopes=any_of,
            )
        if code in LIMITED:
            return Denied.limited(code, retry_after, limits)
        reason, problem = REFUSALS[code]
        detail = f"The credential {problem}."
        title = "The credential is not valid"
        return Denied(401, reason, title, detail, "invalid_token", self._sources.scheme)

    def _public(self, asked: GatewayRequest) -> Allowed:
        """Let a request pass unchecked; remove our credentials, and keep those that may be the upstream's."""
        presented = self._sources.find(asked.headers)
        if self._keep_credential or all(redact(text) == text for text in presented.texts):
            presented = NOTHING
        return self._cleaned(None, asked, presented)

    def _cleaned(
        self, credential: Credential | None, asked: GatewayRequest, presented: Presented, judged: str = ""
    ) -> Allowed:
        """Remove what the upstream must not see: credentials, except the `judged` one if it is kept."""
        headers, allowed = asked.headers, Allowed(credential, [], self._deceptive(asked))
        keep = judged if self._keep_credential else ""
        for name in presented.headers if len(presented.texts) > 1 or not keep else ():
            if name == "cookie" and (rest := self._sources.without_cookie(headers[name], keep)):
                allowed.other_set_headers.append((name, rest))
            else:
                allowed.other_removed_headers.append(name)
        return allowed

    def _deceptive(self, asked: GatewayRequest) -> list[str]:
        """Return the names of headers that could make the upstream read another request.

        A route that requires scopes, by the table or by the proxy, was found by method and path.
        """
        # In one pass, since most requests have many headers, and none of these.
        suspects = [name for name in asked.headers if "_" in name or name[:2] == "x-"]
        names = identity.imitations(suspects)
        if self._routes is not None or asked.required_scopes or asked.any_of_scopes:
            names += [name for name in suspects if name.replace("_", "-") in REWRITING]
        return names

    def _missing(self) -> Denied:
        return Denied(
            401,
            "CREDENTIAL_MISSING",
            "A credential is required",
            "Send your key, for instance as authorization: Bearer <key string>.",
            scheme=self._sources.scheme,
        )

    def _ambiguous(self) -> Denied:
        return Denied(
            401,
            "CREDENTIAL_AMBIGUOUS",
            "The credential is ambiguous",
            "The request has more than one credential; send exactly one.",
            "invalid_request",
            self._sources.scheme,
        )


_NO_ROUTE = Denied(
    403,
    "ROUTE_NOT_PERMITTED",
    "The route is not permitted",
    "There is no route for this method and path, or the path can be read in several ways.",
)
_DECEPTIVE = Denied(
    403,
    "HEADER_NOT_PERMITTED",
    "A header is not permitted",
    "Remove headers that override the method or path, or imitate x-auth- headers with underscores.",
)
_TOO_MANY_HEADERS = Denied(
    403, "HEADERS_TOO_MANY", "Too many headers", f"Send at most {MAX_HEADERS} headers."
)
# The proxy is misconfigured: the client cannot mend that, and is not told more.
FAULT = Denied(
    500,
    "GATEWAY_FAULT",
    "The gateway is misconfigured",
    "The request could not be checked; the log of authsvc says why.",
)
