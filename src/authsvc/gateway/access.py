"""The decision: whether a request may through, and as whom."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from authsvc.gateway import identity
from authsvc.gateway.denied import Denied
from authsvc.gateway.path import is_disguised
from authsvc.gateway.presented import NOTHING, CredentialSources, Headers, Presented
from authsvc.gateway.routes import Routes
from authsvc.model.caller import Caller
from authsvc.model.client_hints import ClientHints
from authsvc.model.credential import Credential
from authsvc.model.errors import RetryableError
from authsvc.model.key_string import redact
from authsvc.model.memo import remembered
from authsvc.model.refusal import REFUSALS
from authsvc.model.scope import MAX_LENGTH as MAX_SCOPE_LENGTH
from authsvc.model.scope import is_scope, missing
from authsvc.model.user_agent import of_a_user
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode
from authsvc.verify.verifier import Question, Verifier

# How many scopes a route may need, as in VerifyKey; and the text that names them, with what separates them.
MAX_SCOPES = 64
MAX_SCOPES_LENGTH = MAX_SCOPES * (MAX_SCOPE_LENGTH + 2)
# Servers and proxies take 100 to 200 by default. Each is looked at.
MAX_HEADERS = 1000
# What a proxy's caller needs to ask at all.
SCOPES = ("keys:verify", "sessions:verify")

# With these an upstream may take another method or path than the one that the route was found by.
REWRITING = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"}
)
# Which credentials are alive, whatever they may do.
_GOOD = (VerdictCode.VALID, VerdictCode.INSUFFICIENT_SCOPE)


class GatewayRequest(NamedTuple):
    """A request that wants through.

    `target` is its path and query, as the upstream will get them; bytes beyond ASCII are characters of
    ISO-8859-1.
    """

    method: str
    target: str
    headers: Headers
    # What the proxy itself says that the route needs, besides what the table says.
    required_scopes: Sequence[str] = ()
    # Normalized, as by Proxies.client; "" when it is not known.
    client_ip: str = ""
    # Whether the proxy takes out the headers that we name; one that does not may not let them through.
    removes_headers: bool = True


class Allowed(NamedTuple):
    """It may pass: as whom (None: the route is public), and which headers are set and removed."""

    credential: Credential | None
    set_headers: list[tuple[str, str]]
    removed_headers: list[str]


class Access:
    """Decides about each request anew."""

    def __init__(
        self,
        verifier: Verifier,
        carriers: CredentialSources,
        *,
        routes: Callable[[], Routes] | None = None,
        keep_credential: bool = False,
    ) -> None:
        """Take where credentials stand, the table of now if there is one, and whether upstreams see them."""
        self._verifier = verifier
        self._carriers = carriers
        self._routes = routes
        self._keep_credential = keep_credential
        # How many answers of each kind there were, by the reason of the refusal.
        self.counts: dict[str, int] = {"ALLOWED": 0, "PUBLIC": 0}

    @property
    def judges_cookies(self) -> bool:
        """Whether a credential may stand in a cookie, so that cookies are changed."""
        return self._carriers.has_cookie

    async def decide(self, caller: Caller, asked: GatewayRequest) -> Allowed | Denied:
        """Answer the proxy that `caller` is. Never raises what would make it guess."""
        try:
            answer = await self._decide(caller, asked)
        except RetryableError as error:
            answer = Denied.of(error)
        if isinstance(answer, Denied):
            kind = answer.reason
        else:
            kind = "PUBLIC" if answer.credential is None else "ALLOWED"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return answer

    async def _decide(self, caller: Caller, asked: GatewayRequest) -> Allowed | Denied:
        required, headers = asked.required_scopes, asked.headers
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
            # What the proxy requires comes on top.
            if access.public and not required:
                return self._public(asked)
            if access.scopes:
                required = (*required, *access.scopes)
        presented = self._carriers.find(headers)
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
        )
        text = presented.texts[0]
        if len(presented.texts) == 1:
            verdict = self._verifier.recall(question, text) or await self._verifier.verify(question, text)
        else:
            verdicts = await self._each(question, presented.texts)
            good = [text for text, (code, _) in verdicts.items() if code in _GOOD]
            if len(good) > 1:
                return self._ambiguous()
            # When none is good, the first one that was minted here, of which there is more to say.
            known = [text for text, (code, _) in verdicts.items() if code is not VerdictCode.NOT_FOUND]
            text = next(iter((*good, *known, text)))
            verdict = verdicts[text]
        return self._answer(verdict, required, asked, presented, text)

    async def _each(self, question: Question, texts: Sequence[str]) -> dict[str, Verdict]:
        """Return the verdict on each, all at one instant, so that none is older than the answer."""
        strangers: set[str] = set()
        while True:
            verdicts = {
                text: NOT_FOUND if text in strangers else self._verifier.recall(question, text)
                for text in texts
            }
            if all(verdicts.values()):
                return {text: verdict for text, verdict in verdicts.items() if verdict is not None}
            for text in texts:
                # What is not known stays so; what is, has come to memory.
                if verdicts[text] is None:
                    code, _ = await self._verifier.verify(question, text)
                    if code is VerdictCode.NOT_FOUND:
                        strangers.add(text)

    def _answer(
        self,
        verdict: Verdict,
        required: Sequence[str],
        asked: GatewayRequest,
        presented: Presented,
        text: str,
    ) -> Allowed | Denied:
        code, credential = verdict
        if code is VerdictCode.VALID and credential is not None:
            told = identity.headers(credential)
            # One of the two ids is set; a client may have sent the other.
            removed = [name for name in (identity.KEY_ID, identity.SESSION_ID) if name != told[0][0]]
            return self._cleaned(Allowed(credential, told, removed), asked, presented, text)
        if code is VerdictCode.INSUFFICIENT_SCOPE and credential is not None:
            lacking = missing(credential.scopes, dict.fromkeys(required))
            return Denied(
                403,
                "SCOPE_MISSING",
                "The credential may not do this",
                f"This needs the scope {' and '.join(lacking)}; use a credential that has it.",
                "insufficient_scope",
                self._carriers.scheme,
                lacking,
            )
        reason, problem = REFUSALS[code]
        detail = f"The credential {problem}."
        title = "The credential is not good"
        return Denied(401, reason, title, detail, "invalid_token", self._carriers.scheme)

    def _public(self, asked: GatewayRequest) -> Allowed:
        """Let through without a look; what is ours is taken out, what may be the upstream's stays."""
        presented = self._carriers.find(asked.headers)
        if self._keep_credential or all(redact(text) == text for text in presented.texts):
            presented = NOTHING
        return self._cleaned(Allowed(None, [], [*identity.NAMES]), asked, presented)

    def _cleaned(
        self, allowed: Allowed, asked: GatewayRequest, presented: Presented, judged: str = ""
    ) -> Allowed:
        """Take out what the upstream is not to see: the credential, and cookies beside the one `judged`."""
        headers, removed = asked.headers, allowed.removed_headers
        removed += self._deceptive(asked)
        keep = judged if self._keep_credential else ""
        for name in presented.headers if len(presented.texts) > 1 or not keep else ():
            if name == "cookie" and (rest := self._carriers.without_cookie(headers[name], keep)):
                allowed.set_headers.append((name, rest))
            else:
                removed.append(name)
        return allowed

    def _deceptive(self, asked: GatewayRequest) -> list[str]:
        """Return the names of headers by which the upstream could take the request for another one.

        Where a route needs scopes, ours or the proxy's, it was found by method and path.
        """
        names = identity.imitations(asked.headers)
        if self._routes is not None or asked.required_scopes:
            names += [name for name in asked.headers if name.replace("_", "-") in REWRITING]
        return names

    def _missing(self) -> Denied:
        return Denied(
            401,
            "CREDENTIAL_MISSING",
            "A credential is needed",
            "Send your key, for instance as authorization: Bearer <key string>.",
            scheme=self._carriers.scheme,
        )

    def _ambiguous(self) -> Denied:
        return Denied(
            401,
            "CREDENTIAL_AMBIGUOUS",
            "One credential is needed",
            "The request shows several credentials; send one, once.",
            "invalid_request",
            self._carriers.scheme,
        )


_NO_ROUTE = Denied(
    403,
    "ROUTE_NOT_PERMITTED",
    "Nothing is served here",
    "No route is open for this method and path, or the path can be read in several ways.",
)
_DECEPTIVE = Denied(
    403,
    "HEADER_NOT_PERMITTED",
    "A header is in the way",
    "Leave out headers that rewrite method or path, or imitate x-auth- headers with underscores.",
)
_TOO_MANY_HEADERS = Denied(
    403,
    "HEADERS_TOO_MANY",
    "The request has too many headers",
    f"Send at most {MAX_HEADERS} headers.",
)
# A proxy that is set up wrongly: not the fault of the client, who is told no more.
FAULT = Denied(
    500,
    "GATEWAY_FAULT",
    "The gateway is not set up",
    "The request could not be checked; its operator knows why.",
)


@remembered(max_entries=1024, max_length=512)
def required_scopes(text: str) -> tuple[str, ...] | None:
    """Return the scopes in a proxy's setting, between spaces or commas.

    None when one is no scope, or when there are more than a request may require.
    """
    if len(text) > MAX_SCOPES_LENGTH:
        return None
    scopes = tuple(text.replace(",", " ").split())
    return scopes if len(scopes) <= MAX_SCOPES and all(map(is_scope, scopes)) else None
