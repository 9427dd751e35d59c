"""What verifiers of tokens read: the public keys, and an offline verification by another library."""

import json
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authsvc.keys.token_keys import new_token_key
from tests.conftest import Clock, serving
from tests.web.conftest import Web
from tests.web.http_channel import http_client

# Its own implementation, which it keeps for a while, and warns of.
with warnings.catch_warnings(record=True):
    from authlib.jose import JsonWebKey, JsonWebToken
    from authlib.jose.errors import JoseError

ISSUER, ORDERS = "https://auth.example/a", "https://orders.example"
JWKS, METADATA = "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"


@pytest.fixture
async def issuing(database_url: str, clock: Clock, tmp_path: Path) -> AsyncIterator[Web]:
    """A service with two keys."""
    file = tmp_path / "token.key"
    file.write_text(new_token_key() + "\n" + new_token_key())
    async with (
        serving(
            database_url, clock, web_listen="127.0.0.1:0", token_keys_file=file, token_issuer=ISSUER
        ) as service,
        http_client(f"http://127.0.0.1:{service.app.web_port}") as http,
    ):
        yield Web(service, http)


async def test_offline(issuing: Web, clock: Clock) -> None:
    """Another library finds the keys by the issuer, and accepts a token for its audience until its end."""
    found = await issuing.http.send("GET", METADATA)
    assert (found.status, found.json["issuer"]) == (200, ISSUER)
    assert found.json["jwks_uri"] == ISSUER + JWKS
    published = await issuing.http.send("GET", JWKS)
    assert published.status == 200
    assert published.headers["cache-control"] == "public, max-age=300"
    assert published.headers["content-type"] == "application/jwk-set+json"
    document = json.loads(published.body)
    assert len(document["keys"]) == 2
    assert all("d" not in key for key in document["keys"])
    answer = await issuing.admin.DeriveToken(audience=ORDERS, scopes=["orders:read"])
    options = {
        "iss": {"essential": True, "value": ISSUER},
        "aud": {"essential": True, "value": ORDERS},
        "exp": {"essential": True},
    }
    keys = JsonWebKey.import_key_set(document)
    claims = JsonWebToken(["EdDSA"]).decode(answer.token, keys, claims_options=options)
    assert claims.header["typ"] == "at+jwt"
    now = int(clock.now.timestamp())
    claims.validate(now=now)
    assert (claims["sub"], claims["scope"], claims["jti"]) == ("authsvc", "orders:read", answer.token_id)
    with pytest.raises(JoseError):
        claims.validate(now=now + 301)
    head, payload, signature = answer.token.split(".")
    with pytest.raises(JoseError):
        JsonWebToken(["EdDSA"]).decode(f"{head}.{payload}.{'A' * len(signature)}", keys)


async def test_over_http(issuing: Web) -> None:
    """The RPCs are served over HTTP like all others."""
    answer = await issuing.admin.DeriveToken(audience=ORDERS)
    assert (await issuing.admin.VerifyToken(token=answer.token, audience=ORDERS)).valid


async def test_without_keys(web: Web) -> None:
    """Nothing is published."""
    for path in (JWKS, METADATA):
        assert (await web.http.send("GET", path)).status == 404
