"""The verification of a presented token: its signature, whom it is for, and the state of its credential.

Mechanism: a token that a key of ours has signed names the prefix of its credential, which is public. The
credential is looked up by that in the same memory as presented key strings, loaded by the same rules, and
judged by the same `Judge`, with the scopes and the time of the token. So a change that was answered is true
for tokens as well.

Bound: text that was not signed here costs one look at its header, or one verification of a signature. It
never reaches memory or the database.

Failure: as that of `Verifier`. Without keys, every token is FailedPrecondition.
"""

from collections.abc import Callable
from typing import NamedTuple

from authsvc.keys.token_keys import TokenKeys
from authsvc.model.errors import FailedPrecondition
from authsvc.model.token import Token
from authsvc.model.verdict import Verdict
from authsvc.verify.question import Question
from authsvc.verify.verifier import Verifier


class TokenVerdict(NamedTuple):
    """The credential of `verdict` has what the token grants; `token_id` is empty if that is NOT_FOUND."""

    verdict: Verdict
    token_id: str = ""


class TokenVerifier:
    """Says what a presented token is worth, while this worker holds the lease."""

    def __init__(self, verifier: Verifier, keys: Callable[[], TokenKeys | None], issuer: str) -> None:
        """`keys` returns the current keys, None if tokens are not enabled; `issuer` is in all tokens."""
        self._verifier = verifier
        self._keys = keys
        self._issuer = issuer

    def recall(self, question: Question, presented: str, audience: str) -> TokenVerdict | None:
        """Return the verdict from memory alone; None when `verify` has to look further.

        Raises FailedPrecondition (TOKENS_NOT_ENABLED), and Unavailable without a lease.
        """
        token = self._read(presented, audience)
        if token is None:
            return TokenVerdict(self._verifier.refuse(question))
        verdict = self._verifier.recall_known(question, token.key_prefix, token.restrict)
        return None if verdict is None else _told(verdict, token)

    async def verify(self, question: Question, presented: str, audience: str) -> TokenVerdict:
        """Return the verdict on what was presented. A VALID one counts as a use of its credential.

        Raises what `recall` raises, and what `Verifier.verify` raises.
        """
        token = self._read(presented, audience)
        if token is None:
            return TokenVerdict(self._verifier.refuse(question))
        return _told(await self._verifier.verify_known(question, token.key_prefix, token.restrict), token)

    def _read(self, presented: str, audience: str) -> Token | None:
        """Return a token that was issued here for this audience."""
        payload = enabled(self._keys()).payload(presented)
        token = None if payload is None else Token.read(payload)
        if token is None or (token.issuer, token.audience) != (self._issuer, audience):
            return None
        return token


def enabled(keys: TokenKeys | None) -> TokenKeys:
    """Return the keys. Raises FailedPrecondition (TOKENS_NOT_ENABLED) if there are none."""
    if keys is None:
        raise FailedPrecondition(
            "tokens are not enabled here; the operator sets AUTHSVC_TOKEN_KEYS_FILE",
            reason="TOKENS_NOT_ENABLED",
        )
    return keys


def _told(verdict: Verdict, token: Token) -> TokenVerdict:
    return TokenVerdict(verdict, "" if verdict.credential is None else token.token_id)
