"""Verifies ID tokens (OpenID Connect Core 1.0, 3.1.3.7).

Bound: the algorithms are those of public keys that are listed here, whatever a token asks for. A token that
asks for another one, or for none, is refused.
"""

import hmac
import json
import warnings
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jws import JWSRegistry

from authsvc.web.console.oidc.client import OidcClient
from authsvc.web.console.oidc.failure import Refused
from authsvc.web.console.oidc.provider import Provider
from authsvc.web.console.oidc.signing_keys import KINDS, PublicKey

# Seconds by which the clock of the provider may differ.
_LEEWAY_SECONDS = 60
_MAX_SUBJECT = 255


class _Registry(JWSRegistry):
    # A header may have a certificate; an answer has 64 KiB.
    max_header_length = 16 * 1024


async def verified(
    token: str, provider: Provider, client: OidcClient, nonce: str, now: datetime
) -> Mapping[str, Any]:
    """Return the claims of an ID token. Raises Refused, or ProviderUnavailable without its keys."""
    header = _header(token)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in KINDS:
        raise Refused("the ID token is signed by an algorithm that is not accepted")
    if not isinstance(key_id, str | None):
        raise Refused("the ID token has a key id that is none")
    key = (await provider.keys(key_id)).find(key_id, algorithm)
    if key is None:
        raise Refused("the ID token is signed by a key that the provider does not publish")
    claims = _signed(token, key, algorithm)
    _check(claims, client, nonce, now.timestamp())
    return claims


def _header(token: str) -> dict[str, Any]:
    """Return what a token says of itself, before anything is verified."""
    text = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise Refused("the ID token is not a signed token")
    return header


def _signed(token: str, key: PublicKey, algorithm: str) -> dict[str, Any]:
    registry = _Registry(algorithms=[algorithm], strict_check_header=False)
    try:
        with warnings.catch_warnings():
            # RFC 9864 has another name for EdDSA, which providers do not use yet.
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.decode(token, key, algorithms=[algorithm], registry=registry).claims
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        raise Refused("the signature of the ID token is not valid") from None


def _check(claims: Mapping[str, Any], client: OidcClient, nonce: str, now: float) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if claims.get("iss") != client.issuer:
        raise Refused("the ID token is of another issuer")
    if not isinstance(audiences, list) or client.client_id not in audiences:
        raise Refused("the ID token is for another client")
    if claims.get("azp", client.client_id) != client.client_id or (
        len(audiences) > 1 and "azp" not in claims
    ):
        raise Refused("the ID token was issued to another client")
    if not _number(claims.get("exp")) > now - _LEEWAY_SECONDS:
        raise Refused("the ID token has expired; is the clock right?")
    if not _number(claims.get("iat")) <= now + _LEEWAY_SECONDS or not (
        _number(claims.get("nbf", 0)) <= now + _LEEWAY_SECONDS
    ):
        raise Refused("the ID token is not valid yet; is the clock right?")
    found = claims.get("nonce")
    if not isinstance(found, str) or not hmac.compare_digest(found.encode(), nonce.encode()):
        raise Refused("the ID token belongs to another sign-in")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT:
        raise Refused("the ID token has no subject")


def _number(value: object) -> float:
    """Return a time; not a number, which compares as false, for what is none."""
    return float("nan") if isinstance(value, bool) or not isinstance(value, int | float) else value
