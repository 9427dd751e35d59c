"""Who calls: by a bearer credential, by a certificate, or without either.

A bearer credential is judged on its own whenever there is one, whatever the certificate says: a wrong one is
refused. A good one in memory costs no look at any limit; whatever would cost more, or is wrong, does.

An empty header holds no credential. But it was meant to: who sends it has a key that is not set, and must not
become whom their certificate names, or anonymous, for that. So it is refused unless another header holds one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from authsvc.entrance.limits import Limits
from authsvc.model.address import Proxies
from authsvc.model.caller import Caller
from authsvc.model.errors import Unauthenticated
from authsvc.model.refusal import REFUSALS
from authsvc.model.verdict import Verdict, VerdictCode
from authsvc.net.peer import address_of
from authsvc.verify.verifier import Question, Verifier

_SCHEME = "bearer "
# Headers that hold no credential, without the blanks around them.
_EMPTY = ("", "bearer")


class CredentialSpent(Unauthenticated):
    """A credential that was good is so no more. Its secret was right, so it is known whose it is."""

    def __init__(self, caller: Caller, message: str, *, reason: str) -> None:
        super().__init__(message, reason=reason)
        self.caller = caller


class Context(Protocol):
    """What is looked at of a call: of gRPC's own context, or of an `HttpCaller`."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return the headers."""

    def peer(self) -> str:
        """Return the address that it comes from, as gRPC writes it."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what a certificate says; nothing without one."""


class Certified(Protocol):
    """The callers that certificates stand for, by name; another mapping when their file has changed."""

    @property
    def value(self) -> Mapping[str, Caller]:
        """Return those of now."""


class Authentication:
    """Says who calls, and from where."""

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

    async def caller(self, context: Context) -> Caller:
        """Return who calls.

        Raises Unauthenticated, CredentialSpent when it is known whose the credential was, or
        Overloaded when too many have failed before.
        """
        presented: list[str] = []
        forwarded: list[str] = []
        for name, value in context.invocation_metadata() or ():
            if name == "authorization":
                presented.append(str(value))
            elif name == "x-forwarded-for":
                forwarded.append(str(value))
        address = self._proxies.client(address_of(context.peer()), forwarded)
        if not presented:
            return self._without_bearer(context)._replace(client_ip=address)
        shown = [header for header in presented if header.strip().lower() not in _EMPTY]
        if not shown:  # nothing was guessed
            raise Unauthenticated(
                "the authorization header is empty; send your key: authorization: Bearer <key string>",
                reason="CREDENTIAL_MISSING",
            )
        try:
            text = _token(shown)
            question = Question(None, None, (), address)
            verdict = self._verifier.recall(question, text)
            if verdict is None:
                self._limits.check_failures(address)
                verdict = await self._verifier.verify(question, text)
            return _known(verdict, address)
        except Unauthenticated:
            self._limits.count_failure(address)
            raise

    def _without_bearer(self, context: Context) -> Caller:
        if self._certified is not None:
            name = _certificate_name(context.auth_context())
            if (known := self._certified.value.get(name)) is not None:
                return known
            raise Unauthenticated(
                f"the certificate of {name or 'no name'} stands for nobody here; have it added to the file "
                "of AUTHSVC_CALLERS, or send authorization: Bearer <key string>",
                reason="CERTIFICATE_UNKNOWN",
                certificate=name,
            )
        if self._anonymous is not None:
            return self._anonymous
        raise Unauthenticated(
            "send your key: authorization: Bearer <key string>", reason="CREDENTIAL_MISSING"
        )


def _token(shown: Sequence[str]) -> str:
    """Return the credential of the headers that are not empty (RFC 6750)."""
    if len(shown) > 1:
        raise Unauthenticated("send one authorization header, not several", reason="CREDENTIAL_AMBIGUOUS")
    header = shown[0].lstrip()
    if header[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated(
            "the authorization header has another scheme; use: Bearer <key string>",
            reason="CREDENTIAL_SCHEME",
        )
    return header[len(_SCHEME) :].strip()


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


def _certificate_name(shown: Mapping[str, Iterable[bytes]]) -> str:
    """Return the SPIFFE id of a client's certificate, or else its subject; "" when it has no name.

    Authorities that issue SPIFFE ids often give the same subject to all. One with two is
    against the rules of SPIFFE, and has no name.
    """
    for spiffe_id in shown.get("peer_spiffe_id", ()):
        return spiffe_id.decode("utf-8", "replace")
    if any(uri.lower().startswith(b"spiffe:") for uri in shown.get("peer_uri", ())):
        return ""
    return b"".join(shown.get("x509_subject", ())).decode("utf-8", "replace")
