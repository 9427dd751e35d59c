"""What verifiers of tokens read without a credential: the public keys, and where these are.

Both documents may be kept for five minutes, so a key is published for longer than that before it signs
(docs/tokens.md).
"""

import json
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from authsvc.entrance.strangers import Strangers
from authsvc.rpc.peer import address_of
from authsvc.web.connect import peer

_JWKS = "/.well-known/jwks.json"
_METADATA = "/.well-known/oauth-authorization-server"
_HEADERS = {
    "cache-control": "public, max-age=300",
    # Public keys are for everybody, also for pages of other sites.
    "access-control-allow-origin": "*",
    "x-content-type-options": "nosniff",
}


class Published:
    """The public keys (RFC 7517) and the metadata (RFC 8414) of an issuer."""

    def __init__(self, issuer: str, keys: Callable[[], bytes]) -> None:
        """`keys` returns the current public keys as a JSON document."""
        self._keys = keys
        self._metadata = json.dumps(
            {
                "issuer": issuer,
                "jwks_uri": issuer.rstrip("/") + _JWKS,
                # Required, and not empty. Tokens are derived by an RPC: there is no authorization endpoint.
                "response_types_supported": ["none"],
            }
        ).encode()

    def routes(self, probes: Strangers) -> list[Route]:
        """Return the routes; `probes` delays who asks too often."""

        async def keys(request: Request) -> Response:
            await probes.wait(address_of(peer(request.scope)))
            return Response(self._keys(), headers=_HEADERS, media_type="application/jwk-set+json")

        async def metadata(request: Request) -> Response:
            await probes.wait(address_of(peer(request.scope)))
            return Response(self._metadata, headers=_HEADERS, media_type="application/json")

        return [Route(_JWKS, keys, methods=["GET"]), Route(_METADATA, metadata, methods=["GET"])]
