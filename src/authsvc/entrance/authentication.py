"""Who calls: by a bearer credential, by a certificate, or anonymously.

A bearer credential takes precedence over the certificate: when it is wrong, the call is refused whatever the
certificate says. A good one that is in memory is accepted without a look at any limit. Everything else first
has to pass the limit of failed authentications of its address.

An empty `authorization` header is refused unless another one holds a credential: its sender has a key that is
not set, and must not become the caller of its certificate, or anonymous, by that.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from authsvc.entrance.incoming_call import IncomingCall
from authsvc.entrance.limits import Limits
from authsvc.model.address import Proxies
from authsvc.model.caller import Caller
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

    def recall(self, call: IncomingCall) -> Caller | None:
        """Return the caller of a credential in memory; None when `caller` has to look further.

        Raises what `caller` raises.
        """
        credentials = call.credentials
        if len(credentials) != 1 or not (text := credentials[0]):
            return None
        address = self._proxies.client(call.address, call.forwarded_for)
        verdict = self._verifier.recall(Question(None, None, (), address), text)
        return None if verdict is None else self._judged(verdict, address)

    async def caller(self, call: IncomingCall) -> Caller:
        """Return who calls.

        Raises Unauthenticated; CredentialSpent when it is known whose the credential was; Overloaded
        (RATE_LIMITED) when too many authentications from the address have failed.
        """
        address = self._proxies.client(call.address, call.forwarded_for)
        if not call.credentials:
            return self._without_bearer(call.certificate_name)._replace(client_ip=address)
        shown = [credential for credential in call.credentials if credential != ""]
        if not shown:  # nothing was guessed, so it does not count as a failure
            raise Unauthenticated(
                "the authorization header is empty; send your key: authorization: Bearer <key string>",
                reason="CREDENTIAL_MISSING",
            )
        try:
            text = _only(shown)
        except Unauthenticated:
            self._limits.count_failure(address)
            raise
        question = Question(None, None, (), address)
        verdict = self._verifier.recall(question, text)
        if verdict is None:
            self._limits.check_failures(address)
            verdict = await self._verifier.verify(question, text)
        return self._judged(verdict, address)

    def _judged(self, verdict: Verdict, address: str) -> Caller:
        try:
            return _known(verdict, address)
        except Unauthenticated:
            self._limits.count_failure(address)
            raise

    def _without_bearer(self, certificate_name: str) -> Caller:
        if self._certified is not None:
            if (known := self._certified.value.get(certificate_name)) is not None:
                return known
            raise Unauthenticated(
                f"the certificate of {certificate_name or 'no name'} is not listed; add it to the file in "
                "AUTHSVC_CALLERS, or send authorization: Bearer <key string>",
                reason="CERTIFICATE_UNKNOWN",
                certificate=certificate_name,
            )
        if self._anonymous is not None:
            return self._anonymous
        raise Unauthenticated(
            "send your key: authorization: Bearer <key string>", reason="CREDENTIAL_MISSING"
        )


def _only(shown: Sequence[str | None]) -> str:
    """Return the credential of the headers that are not empty."""
    if len(shown) > 1:
        raise Unauthenticated("send one authorization header, not several", reason="CREDENTIAL_AMBIGUOUS")
    if shown[0] is None:
        raise Unauthenticated(
            "the authorization header has another scheme; use: Bearer <key string>",
            reason="CREDENTIAL_SCHEME",
        )
    return shown[0]


def _known(verdict: Verdict, address: str) -> Caller:
    code, known = verdict
    if known is not None:
        caller = Caller(known.credential_id, known.owner_id, known.scopes, known.kind, address)
        if code is VerdictCode.VALID:
            return caller
    reason, problem = REFUSALS[code]
    told = f"the credential in the authorization header {problem}"
    raise (
        Unauthenticated(told, reason=reason)
        if known is None
        else CredentialSpent(caller, told, reason=reason)
    )
