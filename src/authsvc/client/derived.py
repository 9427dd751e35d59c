"""The verification of tokens that were derived from a key or a session (docs/tokens.md)."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, TypeVar

from authsvc.client import verdict
from authsvc.client.channels import Connection
from authsvc.client.own_key import Metadata
from authsvc.client.questions import about_key, not_found
from authsvc.client.scopes import Scopes
from authsvc.client.verdict import Verdict
from authsvc.v1 import key_service_pb2 as pb

# Tokens with many scopes are shorter than this. Longer texts are not sent.
_MAX_TOKEN_LENGTH = 8192

Answer = TypeVar("Answer")
Ask: TypeAlias = Callable[[Connection, Metadata, float], Awaitable[Answer]]


class DerivedTokens(Protocol):
    """Verifies tokens by calls. They are never held: to verify their signature takes as long as a call."""

    def _ends(self, deadline: float | None) -> float: ...

    async def _answered(self, ask: Ask[Answer], ends: float) -> Answer: ...

    async def verify_token(
        self,
        token: str,
        audience: str,
        required_scopes: Scopes = (),
        client_ip: str = "",
        *,
        any_of_scopes: Scopes = (),
        cost: int | None = None,
        deadline: float | None = None,
    ) -> Verdict:
        """Return the verdict on a presented token of DeriveToken. A VALID one counts as a use (rule 23).

        `audience` is the name of this service, which the token has to be for. The verdict is about the key or
        session that the token was derived from; its scopes are those of the token. Everything else is as in
        `verify_key`.
        """
        ends = self._ends(deadline)
        token = token.strip()
        question = about_key(required_scopes, client_ip, any_of_scopes)
        if not token or len(token) > _MAX_TOKEN_LENGTH or not token.isascii():
            return not_found(question)
        request = pb.VerifyTokenRequest(
            token=token,
            audience=audience,
            required_scopes=question.required_scopes,
            any_of_scopes=question.any_of_scopes,
            client_ip=question.client_ip,
            cost=cost,
        )

        async def ask(on: Connection, metadata: Metadata, timeout: float) -> pb.VerifyTokenResponse:
            return await on.verify_token(request, metadata=metadata, timeout=timeout)

        return verdict.of_token(await self._answered(ask, ends), tuple(question.any_of_scopes))
