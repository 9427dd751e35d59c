"""The OpenID provider: its metadata and keys, and the tokens that it gives for a code.

Mechanism: the metadata (OpenID Connect Discovery 1.0) and the keys are asked for when they are needed, and
used for `_MAX_AGE_SECONDS`. A key that is not known has the keys asked for again, but not within
`_PAUSE_SECONDS`. Those who need the same wait for one call.

Failure: ProviderUnavailable, or Refused for a code that the provider does not accept.
"""

import asyncio
import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode

from authsvc.web.console.oidc.client import OidcClient
from authsvc.web.console.oidc.failure import ProviderUnavailable, Refused
from authsvc.web.console.oidc.http_client import HttpAnswer, HttpClient, is_allowed
from authsvc.web.console.oidc.signing_keys import SigningKeys

_MAX_AGE_SECONDS, _PAUSE_SECONDS = 3600.0, 30.0
_FORM = "application/x-www-form-urlencoded"
_ERROR = re.compile("[a-z_]{1,50}")
# What a header can have of an access token (RFC 6750, 2.1).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Metadata(NamedTuple):
    """What a provider says of itself."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str  # "" if it has none
    # Whether the client secret is sent in the form, instead of a header.
    has_secret_in_form: bool
    # Whether it names itself when it sends browsers back (RFC 9207).
    names_itself: bool


class Tokens(NamedTuple):
    """What a code was exchanged for."""

    id_token: str
    access_token: str


class Provider:
    """One OpenID provider, as a client of it sees it."""

    def __init__(
        self,
        client: OidcClient,
        http: HttpClient,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what calls the provider, and a stopwatch."""
        self._client, self._http, self._now = client, http, now
        self._lock = asyncio.Lock()
        self._metadata: Metadata | None = None
        self._metadata_at = self._keys_at = 0.0
        self._keys: SigningKeys | None = None

    async def metadata(self) -> Metadata:
        """Return what the provider says of itself. Raises ProviderUnavailable."""
        async with self._lock:
            if self._metadata is None or self._now() - self._metadata_at > _MAX_AGE_SECONDS:
                url = f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration"
                found = _json_of(await self._http.get(url), "its metadata")
                self._metadata, self._metadata_at = _metadata_of(found, self._client.issuer), self._now()
            return self._metadata

    async def keys(self, key_id: str | None) -> SigningKeys:
        """Return the keys that sign ID tokens, asked for again if there is none of this id."""
        url = (await self.metadata()).jwks_uri
        async with self._lock:
            age = self._now() - self._keys_at
            is_missing = self._keys is not None and not self._keys.has(key_id)
            if self._keys is None or age > _MAX_AGE_SECONDS or (is_missing and age > _PAUSE_SECONDS):
                found = _json_of(await self._http.get(url), "its keys")
                self._keys, self._keys_at = SigningKeys(found), self._now()
            return self._keys

    async def sign_in_address(self, *, state: str, nonce: str, challenge: str) -> str:
        """Return where a browser is sent to sign in. Raises ProviderUnavailable."""
        endpoint = (await self.metadata()).authorization_endpoint
        fields = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_uri,
            "scope": " ".join(self._client.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(fields)}"

    async def tokens(self, code: str, verifier: str) -> Tokens:
        """Return what a code is exchanged for. Raises ProviderUnavailable, or Refused."""
        metadata = await self.metadata()
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._client.redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"content-type": _FORM}
        secret = self._client.secrets().client_secret
        if secret and not metadata.has_secret_in_form:
            # Both are encoded as in a form before they are joined (RFC 6749, 2.3.1).
            pair = f"{quote_plus(self._client.client_id)}:{quote_plus(secret)}"
            headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            fields["client_id"] = self._client.client_id
            if secret:
                fields["client_secret"] = secret
        answer = await self._http.post(metadata.token_endpoint, headers, urlencode(fields).encode())
        error = _error_of(answer)
        is_ours = answer.status in (401, 429) or error in ("invalid_client", "unauthorized_client")
        if 400 <= answer.status < 500 and not is_ours:
            # Mostly "invalid_grant". Whoever makes up codes counts as who guesses.
            raise Refused("the provider does not accept the code")
        found = _json_of(answer, "tokens")
        id_token, access_token = found.get("id_token"), found.get("access_token")
        if not isinstance(id_token, str) or not id_token:
            raise ProviderUnavailable("the provider sent no ID token")
        return Tokens(id_token, access_token if isinstance(access_token, str) else "")

    async def user_info(self, tokens: Tokens, subject: str) -> Mapping[str, Any]:
        """Return the claims that are not in the ID token; none if the provider has none of them.

        Raises ProviderUnavailable, or Refused for those of somebody else.
        """
        endpoint = (await self.metadata()).userinfo_endpoint
        if not endpoint or _TOKEN.fullmatch(tokens.access_token) is None:
            return {}
        answer = await self._http.get(endpoint, {"authorization": f"Bearer {tokens.access_token}"})
        found = _json_of(answer, "claims")
        if found.get("sub") != subject:
            raise Refused("the claims of the provider are not of the one who has signed in")
        return found


def _json_of(answer: HttpAnswer, what: str) -> dict[str, Any]:
    """Return the object of an answer. Raises ProviderUnavailable."""
    if answer.status != 200:
        told = _error_of(answer)
        raise ProviderUnavailable(
            f"asked for {what}, the provider answered {answer.status}{f' ({told})' if told else ''}"
        )
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProviderUnavailable(f"asked for {what}, the provider sent no JSON object")
    return found


def _error_of(answer: HttpAnswer) -> str:
    """Return the error code of OAuth in an answer; "" if it has none."""
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, str) and _ERROR.fullmatch(error) else ""


def _metadata_of(found: Mapping[str, Any], issuer: str) -> Metadata:
    if found.get("issuer") != issuer:
        raise ProviderUnavailable("the metadata is of another issuer than AUTHSVC_CONSOLE_OIDC_ISSUER")
    endpoints = {name: found.get(name, "") for name in Metadata._fields[:4]}
    for name, url in endpoints.items():
        is_missing = name == "userinfo_endpoint" and url == ""
        if not is_missing and not (isinstance(url, str) and is_allowed(url)):
            raise ProviderUnavailable(f"the metadata has no {name} with https://")
    methods = found.get("token_endpoint_auth_methods_supported")
    return Metadata(
        **endpoints,
        has_secret_in_form=isinstance(methods, list)
        and "client_secret_basic" not in methods
        and "client_secret_post" in methods,
        names_itself=found.get("authorization_response_iss_parameter_supported") is True,
    )
