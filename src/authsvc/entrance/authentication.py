"""Who calls: by a bearer credential, by a certificate, or anonymously.

A bearer credential takes precedence over the certificate: when it is wrong, the call is refused whatever the
certificate says. A good one that is in memory is accepted without a look at any limit. Everything else first
has to pass the limit of failed authentications of its address.

An empty `authorization` header is refused unless another one holds a credential: its sender has a key that is
not set, and must not become the caller of its certificate, or anonymous, by that.
"""

from collections.abc import Mapping
from typing import Protocol

from authsvc.entrance.incoming_call import IncomingCall
from authsvc.entrance.limits import Limits
from authsvc.model.address import Proxies
from authsvc.model.caller import STRANGER, Caller
from authsvc.model.errors import Unauthenticated
from authsvc.model.refusal import REFUSALS
from authsvc.model.verdict import Verdict, VerdictCode
from authsvc.verify.verifier import Question, Verifier


class CredentialSpent(Unauthenticated):
    """A credential that is revoked, expired or disabled. Its secret was right, so its owner is known."""

    def __init__(self, caller: Caller, message: str, *, reason: str) -> None:
        super().__init__(message, reason=reason)
        self.caller = caller


class Certified(Protocol):
    """The callers that certificates identify, by name; reloaded when their file changes."""

    @property
    def value(self) -> Mapping[str, Caller]:
        """Return the current callers."""


class Authentication:
    """Says who calls, and from which address."""

    def __init__(
        self,
        verifier: Verifier,
        limits: Limits,
        *,
        proxies: Proxies | None = None,
        certified: Certified | None = None,
        anonymous: Caller | None = None,
    ) -> None:
        self._verifier = verifier
        self._limits = limits
        self._proxies = proxies or Proxies()
        self._certified = certified
        self._anonymous = anonymous

    def address(self, call: IncomingCall) -> str:
        """Return the address of whoever calls, also behind a trusted proxy."""
        return self._proxies.client(call.address, call.forwarded_for)

    def recall(self, call: IncomingCall, *, admits_all: bool = False) -> Caller | None:
        """Return who calls; None for one credential that is not in memory, which `verify` has to look up.

        With `admits_all`, who shows nothing, or a certificate that is not listed, is a stranger.

        Raises Unauthenticated; CredentialSpent when it is known whose the credential was; Unavailable without
        a lease.
        """
        address = self._proxies.client(call.address, call.forwarded_for)
        if not call.credentials:
            return self._without_bearer(call.certificate_name, admits_all)._replace(client_ip=address)
        text = call.credentials[0] if len(call.credentials) == 1 else ""
        text = text or self._only(call, address)
        verdict = self._verifier.recall(Question(None, None, (), address), text)
        return None if verdict is None else self._judged(verdict, address, text)

    async def verify(self, call: IncomingCall) -> Caller:
        """Return who calls with a credential that is not in memory.

        Raises what `recall` raises, and Overloaded (RATE_LIMITED) when too many authentications from the
        address have failed.
        """
        address = self._proxies.client(call.address, call.forwarded_for)
        text = self._only(call, address)
        self._limits.check_failures(address)
        verdict = await self._verifier.verify(Question(None, None, (), address), text)
        return self._judged(verdict, address, text)

    def _only(self, call: IncomingCall, address: str) -> str:
        """Return the only credential of a call. Empty headers do not count, unless all are empty."""
        shown = [credential for credential in call.credentials if credential != ""]
        if not shown:  # nothing was guessed, so it does not count as a failure
            raise Unauthenticated(
                "the authorization header is empty; send your key: authorization: Bearer <key string>",
                reason="CREDENTIAL_MISSING",
            )
        if len(shown) == 1 and shown[0] is not None:
            return shown[0]
        self._limits.count_failure(address)
        if len(shown) > 1:
            raise Unauthenticated("send one authorization header, not several", reason="CREDENTIAL_AMBIGUOUS")
        raise Unauthenticated(
            "the authorization header has another scheme; use: Bearer <key string>",
            reason="CREDENTIAL_SCHEME",
        )

    def _judged(self, verdict: Verdict, address: str, text: str) -> Caller:
        try:
            return _known(verdict, address, text)
        except Unauthenticated:
            self._limits.count_failure(address)
            raise

    def _without_bearer(self, certificate_name: str | None, admits_all: bool) -> Caller:
        if self._certified is not None and certificate_name is not None:
            if (known := self._certified.value.get(certificate_name)) is not None:
                return known
            if admits_all:
                return STRANGER
            raise Unauthenticated(
                f"the certificate of {certificate_name or 'no name'} is not listed; add it to the file in "
                "AUTHSVC_CALLERS, or send authorization: Bearer <key string>",
                reason="CERTIFICATE_UNKNOWN",
                certificate=certificate_name,
            )
        if admits_all:  # also where anonymous callers have scopes, which are not asked for
            return STRANGER
        if self._anonymous is not None:
            return self._anonymous
        raise Unauthenticated(
            "send your key: authorization: Bearer <key string>", reason="CREDENTIAL_MISSING"
        )


def _known(verdict: Verdict, address: str, text: str) -> Caller:
    code, known = verdict.code, verdict.credential
    if known is not None:
        caller = Caller(
            known.credential_id,
            known.owner_id,
            known.scopes,
            known.kind,
            address,
            key_prefix=known.prefix_of(text),
        )
        if code is VerdictCode.VALID:
            return caller
    reason, problem = REFUSALS[code]
    told = f"the credential in the authorization header {problem}"
    raise (
        Unauthenticated(told, reason=reason)
        if known is None
        else CredentialSpent(caller, told, reason=reason)
    )
