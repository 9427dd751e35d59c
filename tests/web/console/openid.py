"""A small OpenID provider, which does what a test tells it to; and a console whose staff signs in with it."""

import asyncio
import hashlib
import itertools
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from authsvc.config.oidc import OidcSecrets
from authsvc.web.console import Oidc, console
from authsvc.web.console.oidc.client import CALLBACK, OidcClient
from authsvc.web.console.oidc.http_client import HttpClient
from authsvc.web.console.oidc.provider import Provider
from tests.conftest import Clock, MovedStopwatch, Service
from tests.web.console.conftest import Site, rpcs_of, served

CLIENT, SECRET = "authsvc console", "s:cret/+ä%"
ROLES = {"admins": ("full_access",), "support": ("keys:read", "sessions:read"), "orders": ("orders:read",)}
Sign = Callable[[dict[str, Any]], str]


def new_key(kid: str = "one") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


@dataclass
class SmallProvider:
    """Everything that it answers can be changed. Whoever comes is signed in at once."""

    clock: Clock
    key: RSAKey
    address: str = ""
    secret: str = SECRET
    # Added to the metadata, to the claims of the ID token, to those of the user, and to the way back.
    metadata: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(
        default_factory=lambda: {"groups": ["support"], "email": "ada@corp.example"}
    )
    user: dict[str, Any] | None = None
    back: dict[str, str] = field(default_factory=dict)
    # In place of the signature, of the published keys, and of whole answers by their path.
    sign: Sign | None = None
    published: list[dict[str, Any]] | None = None
    answers: dict[str, Callable[[], Response]] = field(default_factory=dict)
    # Paths at which it does not answer.
    hangs: set[str] = field(default_factory=set)
    # What was asked for, by path.
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    # Those who wait get their answer.
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def application(self) -> Starlette:
        handlers = {
            "/.well-known/openid-configuration": self._metadata,
            "/authorize": self._authorize,
            "/token": self._token,
            "/keys": self._keys,
            "/user": self._user,
        }
        return Starlette(
            routes=[
                Route(path, self._handled(path, handler), methods=["GET", "POST"])
                for path, handler in handlers.items()
            ]
        )

    def _handled(self, path: str, handler: Callable[[dict[str, str], Request], Response]) -> Any:
        async def handled(request: Request) -> Response:
            fields = dict(parse_qsl((await request.body()).decode())) or dict(request.query_params)
            self.asked.append((path, fields))
            if path in self.hangs:
                await self.released.wait()
            return self.answers[path]() if path in self.answers else handler(fields, request)

        return handled

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.asked)

    def _metadata(self, fields: dict[str, str], request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/token",
                "jwks_uri": f"{self.address}/keys",
                "userinfo_endpoint": f"{self.address}/user",
                "authorization_response_iss_parameter_supported": True,
                **self.metadata,
            }
        )

    def _keys(self, fields: dict[str, str], request: Request) -> Response:
        keys = [self.key.as_dict(private=False)] if self.published is None else self.published
        return JSONResponse({"keys": keys})

    def _authorize(self, fields: dict[str, str], request: Request) -> Response:
        code = f"code-{len(self.given)}-of-the-small-provider"
        self.codes[code] = fields
        self.given.append(code)
        back = {"code": code, "state": fields["state"], "iss": self.address, **self.back}
        kept = {name: value for name, value in back.items() if value}
        return RedirectResponse(f"{fields['redirect_uri']}?{urlencode(kept)}", 302)

    def _token(self, fields: dict[str, str], request: Request) -> Response:
        pair = f"{quoted(CLIENT)}:{quoted(self.secret)}"
        header = request.headers.get("authorization", "").removeprefix("Basic ")
        is_known = (b64decode(header).decode() == pair) if header else fields.get("client_id") == CLIENT
        if not is_known or (not header and fields.get("client_secret", "") != self.secret):
            return JSONResponse({"error": "invalid_client", "error_description": "secret detail"}, 401)
        asked = self.codes.pop(fields["code"], None)
        challenge = urlsafe_b64encode(hashlib.sha256(fields["code_verifier"].encode()).digest())
        if (
            asked is None
            or challenge.decode().rstrip("=") != asked["code_challenge"]
            or fields["redirect_uri"] != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        token = (self.sign or self.signed)(self.all_claims(asked["nonce"]))
        return JSONResponse(
            {"access_token": "access-token-of-ada", "token_type": "Bearer", "id_token": token}
        )

    def all_claims(self, nonce: str) -> dict[str, Any]:
        now = int(self.clock().timestamp())
        own = {
            "iss": self.address,
            "sub": "ada-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
        }
        return {name: value for name, value in {**own, **self.claims}.items() if value is not None}

    def signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)

    def _user(self, fields: dict[str, str], request: Request) -> Response:
        if request.headers.get("authorization") != "Bearer access-token-of-ada":
            return PlainTextResponse("no", 401)
        return JSONResponse({"sub": "ada-1", **(self.user or {})})


def quoted(text: str) -> str:
    return urlencode({"": text})[1:]


class OidcSite(Site):
    """A console with a provider."""

    def __init__(
        self, service: Service, address: str, provider: SmallProvider, stopwatch: MovedStopwatch
    ) -> None:
        super().__init__(service, address)
        self.provider, self.stopwatch = provider, stopwatch
        # Those in use, which a test may replace.
        self.secrets = OidcSecrets(service.admin_key, provider.secret)


@asynccontextmanager
async def oidc_site(
    service: Service,
    clock: Clock,
    *,
    seconds: float = 15,
    secret: str = SECRET,
    workers: int = 1,
    **settings: Any,
) -> AsyncIterator[OidcSite]:
    """Yield a console whose staff signs in at a small provider. Its key is the administrator's.

    Its workers answer requests in turn.
    """
    provider = SmallProvider(clock, new_key(), secret=secret)
    stopwatch = MovedStopwatch()
    applications: list[Any] = []
    turns = itertools.count()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await applications[next(turns) % workers](scope, receive, send)

    async with served(provider.application()) as issuer, served(application) as address:
        # Another host name for browsers, as in real life.
        provider.address = issuer.replace("127.0.0.1", "localhost")
        site = OidcSite(service, address, provider, stopwatch)
        client = OidcClient(
            provider.address,
            CLIENT,
            address + CALLBACK,
            ("openid", "profile", "email"),
            "groups",
            ROLES,
            "Example Login",
            lambda: site.secrets,
        )
        applications += [
            console(
                rpcs_of(service, **settings),
                service.app.clock,
                max_seconds=45,
                has_plain_cookies=True,
                oidc=Oidc(client, Provider(client, HttpClient(), stopwatch), seconds),
            )
            for _ in range(workers)
        ]
        try:
            yield site
        finally:
            provider.released.set()
