"""Token revocation (RFC 7009): `POST /revoke`.

Mechanism: the key of a key string is found by LookupKey, which is no use of it, and the session of a token
by VerifySession. RevokeKey or RevokeSession ends it, for the caller, who needs the scopes of both RPCs. After
200, no worker of any replica accepts the token.

Failure: a token that there is not is answered by 200, as the RFC asks, and so is one of another owner, which
looks the same to the caller (rule 19): it is not revoked. If workers have not confirmed, the answer is 503,
and the same request again waits for them.
"""

import grpc

from authsvc.v1 import key_service_pb2, session_service_pb2
from authsvc.web.local_call import RefusedError
from authsvc.web.oauth import OAuthEndpoint, is_session, reason_of
from authsvc.web.rpcs import Client

# Why, in lists of keys and in the audit log.
_REASON = "revoked by POST /revoke"
# These are answered after the same wait as a revocation.
_DONE_BEFORE = ("KEY_ALREADY_REVOKED", "SESSION_ALREADY_REVOKED")


class TokenRevocation(OAuthEndpoint):
    """Revokes a token; an ASGI application."""

    async def answer(self, client: Client, token: str) -> None:
        """Revoke a token; raise RefusedError."""
        try:
            if is_session(token):
                await self._end_session(client, token)
            else:
                await self._revoke_key(client, token)
        except RefusedError as error:
            refusal = error.refusal
            if refusal.code is not grpc.StatusCode.NOT_FOUND and reason_of(refusal) not in _DONE_BEFORE:
                raise

    async def _revoke_key(self, client: Client, token: str) -> None:
        found = await self.ask(
            "KeyService/LookupKey", client, key_service_pb2.LookupKeyRequest(key_string=token)
        )
        # Also if it is revoked already: this waits for workers that have not confirmed.
        request = key_service_pb2.RevokeKeyRequest(key_id=found.key_id, reason=_REASON)
        await self.ask("KeyService/RevokeKey", client, request)

    async def _end_session(self, client: Client, token: str) -> None:
        verdict = await self.ask(
            "SessionService/VerifySession",
            client,
            session_service_pb2.VerifySessionRequest(session_token=token),
        )
        if verdict.session_id:
            request = session_service_pb2.RevokeSessionRequest(session_id=verdict.session_id)
            await self.ask("SessionService/RevokeSession", client, request)
