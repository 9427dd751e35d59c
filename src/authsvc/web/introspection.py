"""Token introspection (RFC 7662), for gateways and libraries that speak OAuth: `POST /introspect`.

Mechanism: the token is verified by VerifyKey or VerifySession, for the caller. So the answer comes from the
same memory under the same lease, counts as a use of the token, and needs `keys:verify` or `sessions:verify`.

Failure: a token that is not valid for any reason is `{"active": false}` and nothing more, as the RFC asks.
A token that cannot be verified now is an error, and never inactive.
"""

from collections.abc import Mapping

from authsvc.model.identifier import creation_time
from authsvc.v1 import key_service_pb2, session_service_pb2
from authsvc.web.oauth import OAuthEndpoint, is_session
from authsvc.web.rpcs import Client

_INACTIVE: Mapping[str, object] = {"active": False}


class Introspection(OAuthEndpoint):
    """Says what a token is worth; an ASGI application."""

    async def answer(self, client: Client, token: str) -> Mapping[str, object]:
        """Return what is known of a token; raise RefusedError."""
        verdict: key_service_pb2.VerifyKeyResponse | session_service_pb2.VerifySessionResponse
        if is_session(token):
            session = session_service_pb2.VerifySessionRequest(session_token=token)
            verdict = await self.ask("SessionService/VerifySession", client, session)
        else:
            # "Not active" cannot say that a rate limit is reached, so nothing is taken.
            key = key_service_pb2.VerifyKeyRequest(key_string=token, cost=0)
            verdict = await self.ask("KeyService/VerifyKey", client, key)
        return _told(verdict) if verdict.valid else _INACTIVE


def _told(
    verdict: key_service_pb2.VerifyKeyResponse | session_service_pb2.VerifySessionResponse,
) -> Mapping[str, object]:
    told: dict[str, object] = {
        "active": True,
        "token_type": "Bearer",
        "scope": " ".join(verdict.scopes),
        "sub": verdict.owner_id,
        "username": verdict.owner_id,
    }
    if isinstance(verdict, key_service_pb2.VerifyKeyResponse):
        # The client that sends a key is whoever the key was made for.
        told |= {"client_id": verdict.key_id, "jti": verdict.key_id, "credential_type": "key"}
        if verdict.annotations:
            told["annotations"] = dict(verdict.annotations)
    else:
        told |= {"jti": verdict.session_id, "credential_type": "session"}
    told["iat"] = int(creation_time(str(told["jti"])).timestamp())
    if verdict.HasField("expire_time"):
        # Rounded down: whoever remembers the answer until then remembers it no longer than the token lives.
        told["exp"] = verdict.expire_time.seconds
    return told
