"""DeriveToken: a short-lived token of the key or session that calls."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from authsvc.keys.token_keys import TokenKeys
from authsvc.keys.token_verifier import enabled
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.credential import Credential
from authsvc.model.errors import FailedPrecondition, Unauthenticated
from authsvc.model.identifier import new_identifier
from authsvc.model.look_up import is_digest
from authsvc.model.refusal import REFUSALS
from authsvc.model.token import DEFAULT_LIFETIME, Token, end_of
from authsvc.model.verdict import VerdictCode
from authsvc.verify.question import Question
from authsvc.verify.verifier import Verifier


class TokenIssue(NamedTuple):
    """How tokens are issued: by the current keys, None if they are not enabled, in the name of the issuer."""

    keys: Callable[[], TokenKeys | None] = lambda: None
    issuer: str = ""


NO_TOKENS = TokenIssue()


class TokenDerivation(Protocol):
    """Derives tokens. Nothing is stored, so there is no transaction and no event."""

    _verifier: Verifier
    _clock: Callable[[], datetime]
    _catalogue: Catalogue
    _token_issue: TokenIssue

    async def derive_token(
        self, caller: Caller, audience: str, scopes: tuple[str, ...], lifetime: timedelta
    ) -> tuple[str, Token]:
        """Return a token of the caller's credential, and its content; no `lifetime` means the default.

        The credential is judged once more, and nothing is awaited after that: no token is derived from a
        credential whose end was answered before.

        Raises:
            FailedPrecondition: TOKENS_NOT_ENABLED; CREDENTIAL_REQUIRED, if the caller presented neither a key
                nor a session; KEY_HAS_NO_PREFIX, for a key that is found by the digest of its
                string, which a token must not show.
            InvalidArgument: INVALID_FIELD, for a scope that is not known.
            PermissionDenied: SCOPE_NOT_GRANTABLE, for a scope that the credential does not have;
                SCOPE_MISSING.
            Unauthenticated: CREDENTIAL_REVOKED and others, if the credential has ended since the call began,
                or ends within the second.
        """
        enabled(self._token_issue.keys())
        if caller.kind is None:
            raise FailedPrecondition(
                "a token is derived from the key or session that the call presents; send one in the "
                "authorization header",
                reason="CREDENTIAL_REQUIRED",
            )
        if is_digest(caller.key_prefix):
            raise FailedPrecondition(
                "a token contains the prefix of its key, and this key, which was registered by its hash, has "
                "none; use a key that authsvc has made",
                reason="KEY_HAS_NO_PREFIX",
            )
        self._catalogue.check_known(scopes)
        question = Question(caller.kind, None, (), caller.client_ip)
        code, credential, *_ = await self._verifier.verify_known(question, caller.key_prefix, _unchanged)
        if code is not VerdictCode.VALID or credential is None:
            raise _spent(code)
        holder = caller._replace(scopes=credential.scopes)
        holder.refuse_without_scopes()
        self._catalogue.check_held(holder, scopes)
        now = self._clock()
        token = Token(
            token_id=new_identifier("tok", now),
            issuer=self._token_issue.issuer,
            audience=audience,
            kind=credential.kind,
            credential_id=credential.credential_id,
            key_prefix=caller.key_prefix,
            owner_id=credential.owner_id,
            scopes=tuple(sorted(scopes)),
            issue_time=now.replace(microsecond=0),
            expire_time=end_of(credential, now, lifetime or DEFAULT_LIFETIME),
        )
        if token.expire_time <= token.issue_time:
            raise _spent(VerdictCode.EXPIRED)
        return enabled(self._token_issue.keys()).sign(token.claims()), token


def _unchanged(credential: Credential) -> Credential:
    return credential


def _spent(code: VerdictCode) -> Unauthenticated:
    reason, problem = REFUSALS[code]
    return Unauthenticated(f"the credential of this call {problem}", reason=reason)
