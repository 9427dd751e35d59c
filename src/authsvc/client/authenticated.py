"""The interceptor of a `grpc.aio` server that authenticates every call with authsvc."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc

from authsvc.client import client_info, refusal
from authsvc.client.access import Access, Rule, Scopes
from authsvc.client.auth_client import AuthClient
from authsvc.client.faults import Faults
from authsvc.client.guard import guarded
from authsvc.client.identity import Identity, identified, set_current
from authsvc.client.presented import accepted, presented_in, type_of
from authsvc.client.question import Question
from authsvc.client.verdict import CredentialType, Verdict, VerdictCode

_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


def peer_address(context: Any) -> str:
    """Return the IP address of the peer of the connection. Behind a proxy, this is the proxy.

    gRPC has it as `ipv4:192.0.2.1:4711` or `ipv6:%5B2001:db8::1%5D:4711`. Return "" for other peers.
    """
    kind, _, address = unquote(context.peer()).partition(":")
    return client_info.address(address) if kind in ("ipv4", "ipv6") else ""


class Authenticated(grpc.aio.ServerInterceptor):
    """Verifies the credential of each call before its handler starts. Refuses every call that is not VALID.

    - UNAUTHENTICATED: there is no credential, more than one, or one that is not valid. Reasons
      `CREDENTIAL_MISSING`, `_SCHEME`, `_AMBIGUOUS`, `_INVALID`, `_REVOKED`, `_EXPIRED`, `_DISABLED`,
      `_ADDRESS_NOT_ALLOWED`.
    - PERMISSION_DENIED: a scope is missing (`SCOPE_MISSING`), or the method is not listed
      (`METHOD_NOT_LISTED`).
    - UNAVAILABLE: the credential cannot be verified right now (`VERIFIER_UNAVAILABLE`, with RetryInfo). The
      cause is in our log.

    Handlers get the caller from `current()`. The credential of a stream is verified when the stream begins;
    the stream continues if the credential is revoked later. Interceptors after this one run before the
    caller is known.
    """

    def __init__(
        self,
        client: AuthClient,
        *,
        scopes: Scopes | Mapping[str, Scopes],
        public: Iterable[str] = (),
        accept: Collection[CredentialType] = frozenset(CredentialType),
        client_address: Callable[[Any], str] = peer_address,
    ) -> None:
        """Take the client to verify with, and what each method requires.

        `scopes` are the scopes that all methods require (an empty list: any valid credential), or a mapping
        from `package.Service/Method` or `package.Service/*` to scopes. With a mapping, methods that are not
        listed are refused. `public` are the methods, in the same form, that require no credential. `accept`
        are the accepted types of credentials. `client_address` returns the user's address for the context of
        a call. Behind a proxy, read it from where the proxy puts it, or return "".
        """
        self._client = client
        self._access = Access(scopes, public)
        self._accept = accepted(accept)
        self._client_address = client_address
        self._faults = Faults()

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return a handler that authenticates its caller first."""
        set_current(None)
        handler = await continuation(handler_call_details)
        if handler is None:  # UNIMPLEMENTED
            return None
        method = handler_call_details.method
        rule = self._access.rule(method)
        if rule is not None and rule.is_public:
            return handler
        identify = partial(self._identify, method, rule)
        return guarded(handler, identify, asyncio.get_running_loop())

    async def _identify(self, method: str, rule: Rule | None, context: Any) -> Identity:
        """Return the caller. Raise Refusal for every failure."""
        try:
            if rule is None:
                raise refusal.method_not_listed(method)
            return identified(await self._verify(rule, context), rule.scopes)
        except Exception as error:  # noqa: BLE001 - no failure lets a call through
            raise self._faults.refusal(method, error) from None

    async def _verify(self, rule: Rule, context: Any) -> Verdict:
        metadata = list(context.invocation_metadata() or ())
        presented = presented_in(metadata)
        kind = type_of(presented)
        if kind not in self._accept:
            return Verdict(VerdictCode.NOT_FOUND, kind)
        left = context.time_remaining()
        deadline = self._client.deadline if left is None else min(left, self._client.deadline)
        question = Question(presented, rule.scopes, self._client_address(context), metadata)
        return await question.ask(self._client, deadline)
